"""A Registry with its watcher as one child of any tree: as many beside each other as there are names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skill_actors.runtime import ChildSpec, Strategy, Supervisor
from skill_actors.skills.choice import SkillRules
from skill_actors.skills.copies import SkillCopies
from skill_actors.skills.discovery import Source
from skill_actors.skills.native import NativeLoader
from skill_actors.skills.packages import PackageCache
from skill_actors.skills.pushed import PushedPackages
from skill_actors.skills.registry import PublishedSkills, Registry
from skill_actors.skills.watcher import Watcher
from skill_actors.telemetry import Bus

__all__ = ["registry_spec"]


def registry_spec(
    name: str,
    sources: Sequence[Source | Path],
    published: PublishedSkills,
    *,
    bus: Bus | None = None,
    watch: bool = True,
    reload_s: float | None = None,
    copies: SkillCopies | None = None,
    packages: PackageCache | None = None,
    pushed: PushedPackages | None = None,
    rules: SkillRules | None = None,
    natives: NativeLoader | None = None,
    start_timeout_s: float = 60.0,
) -> ChildSpec:
    """A child that keeps `published` up to date with these folders. It has started when the first load is done.

    Args:
        name: of the child in its tree, and of the Registry in the Directory, where Reload, Register and so on are
            asked for: `system.directory.named(name)`.
        sources: in order of precedence; a bare path is a source that is not trusted.
        published: where the skills are read, by whoever has it and without a message. It outlives the child.
        bus: told about loads.
        watch: follow edits on disk.
        reload_s: look again at everything every so many seconds; None: never.
        copies, packages, pushed, rules, natives: as for Registry.
        start_timeout_s: how long the first load may take, in seconds.

    """
    given = [source if isinstance(source, Source) else Source(path=source) for source in sources]
    told = bus or Bus()

    def registry() -> Registry:
        return Registry(
            published,
            given,
            told,
            copies=copies,
            packages=packages,
            pushed=pushed,
            rules=rules,
            natives=natives,
            reload_s=reload_s,
        )

    specs = [ChildSpec(id="registry", name=name, factory=registry, start_timeout_s=start_timeout_s)]
    if watch:
        paths = [source.path for source in given]
        specs.append(ChildSpec(id="watcher", factory=lambda: Watcher(paths, name, published), isolated=True))
    return ChildSpec(id=name, factory=lambda: Supervisor(specs, strategy=Strategy.REST_FOR_ONE))
