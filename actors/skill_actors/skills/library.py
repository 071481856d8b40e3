"""From configured folders to a snapshot: what is loaded, what is kept, which of two equal names holds.

A Library is used by one thread at a time. It remembers what it read, so that loading again costs a stat for each
file that did not change. Rules:

- the first source wins a name; inside one source, the first folder in the order of paths;
- a folder that fails to load keeps its last good version; a folder that is gone is gone;
- a source that is gone, or cannot be read, keeps all of its skills.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from skill_actors.skills.base import Diagnostic, Skill, SkillFailure, SkillSnapshot
from skill_actors.skills.copies import CopyError, SkillCopies
from skill_actors.skills.discovery import Source, find_skill_folders
from skill_actors.skills.inventory import is_skill_file
from skill_actors.skills.loader import LoadedFolder, load_folder

__all__ = ["Library", "ReloadSummary", "compare"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadSummary:
    """What a reload did, by name. `failed` counts the failures of the snapshot; `duration_s` is in seconds."""

    generation: int
    skills: int
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    failed: int = 0
    outcome: Literal["ok", "failed", "unchanged"] = "ok"
    duration_s: float = 0.0


def compare(old: SkillSnapshot, new: SkillSnapshot, duration_s: float) -> ReloadSummary:
    """What changed from `old` to `new`: `unchanged` if they are the same, `failed` if a folder could not be loaded."""
    failed = sum(any(found.severity == "error" for found in failure.diagnostics) for failure in new.failures)
    return ReloadSummary(
        generation=new.generation,
        skills=len(new.skills),
        added=tuple(name for name in new.skills if name not in old.skills),
        changed=tuple(name for name, skill in new.skills.items() if old.skills.get(name, skill) != skill),
        removed=tuple(name for name in old.skills if name not in new.skills),
        failed=failed,
        outcome="unchanged" if new is old else "failed" if failed else "ok",
        duration_s=duration_s,
    )


class Library:
    """Loads skills from sources.

    Args:
        sources: in order of precedence.
        last: a snapshot whose skills count as last good versions (after a restart of the Registry).
        copies: where each new version is copied as it is loaded, so that a version stays usable when its live
            folder changes; without it, versions are copied at first use only.

    """

    def __init__(
        self, sources: Sequence[Source], *, last: SkillSnapshot | None = None, copies: SkillCopies | None = None
    ) -> None:
        self._sources = tuple(sources)
        self._copies = copies
        self._loaded: dict[Path, LoadedFolder] = {}  # by root
        self._found = _Found()
        for skill in last.skills.values() if last is not None else ():
            self._loaded[skill.root] = LoadedFolder(skill=skill)

    def load(self, last: SkillSnapshot, changed: Iterable[Path] | None = None) -> SkillSnapshot:
        """The skills as they are on disk now. Returns `last` itself if nothing differs. Blocks.

        Args:
            last: the snapshot in use.
            changed: look again only at skills that hold, or lie below, one of these paths, at those that failed, and
                at new ones; at all if None.

        """
        touched = None if changed is None else _Touched(changed)
        if touched is None or touched.may_add_or_remove(self._found.order):
            self._found = self._discover()
        for root, source in self._found.order.items():
            before = self._loaded.get(root)
            due = before is None or before.failure is not None or touched is None or touched.concerns(root)
            if due and root not in self._found.out_of_reach:
                self._loaded[root] = self._load_one(root, source, before)
        self._loaded = {root: self._loaded[root] for root in self._found.order}
        return self._snapshot(last)

    def _discover(self) -> _Found:
        found = _Found()
        for source in self._sources:
            try:
                discovery = find_skill_folders(source.path)
            except OSError as error:
                kept = self._last_roots(source)
                found.out_of_reach.update(kept)
                found.failures.append(SkillFailure(path=source.path, diagnostics=(_source_gone(error, len(kept)),)))
                found.roots[source.path] = kept
            else:
                for path, problem in discovery.problems.items():
                    found.failures.append(SkillFailure(path=path, diagnostics=(problem,)))
                found.roots[source.path] = tuple(discovery.roots)
            for root in found.roots[source.path]:
                found.order.setdefault(root, source)
        return found

    def _last_roots(self, source: Source) -> tuple[Path, ...]:
        known = self._found.roots.get(source.path)
        if known is None:  # nothing was ever found there by this library: what the last one left
            real = source.path.resolve()
            known = tuple(sorted(root for root in self._loaded if root.is_relative_to(real)))
        return tuple(root for root in known if root in self._loaded)

    def _load_one(self, root: Path, source: Source, before: LoadedFolder | None) -> LoadedFolder:
        loaded = load_folder(root, trusted=source.trusted, previous=before)
        if loaded.skill is not None and self._copies is not None and loaded is not before:
            loaded = self._copied(self._copies, loaded, loaded.skill)
        if loaded.failure is not None and before is not None and before.skill is not None:
            return LoadedFolder(skill=before.skill, failure=replace(loaded.failure, kept=before.skill.name))
        return loaded

    def _copied(self, copies: SkillCopies, loaded: LoadedFolder, skill: Skill) -> LoadedFolder:
        try:
            copies.materialise(skill, loaded.inventory)
        except CopyError as error:
            # It changed between two looks: somebody is saving, and the watcher comes back to it.
            return LoadedFolder(failure=SkillFailure(path=skill.root, diagnostics=(error.diagnostic,)))
        except OSError as error:
            _log.warning("skill %s could not be copied, it is tried again at first use: %s", skill.name, error)
        return loaded

    def _snapshot(self, last: SkillSnapshot) -> SkillSnapshot:
        failures = list(self._found.failures)
        chosen: dict[str, Skill] = {}
        for root, loaded in self._loaded.items():
            if loaded.failure is not None:
                failures.append(loaded.failure)
            if loaded.skill is None:
                continue
            winner = chosen.setdefault(loaded.skill.name, loaded.skill)
            if winner is not loaded.skill:
                failures.append(SkillFailure(path=root, diagnostics=(_shadowed(loaded.skill, winner),)))
        skills = dict(sorted(chosen.items()))
        if skills == last.skills and tuple(failures) == tuple(last.failures) and last.generation:
            return last
        return SkillSnapshot(
            generation=last.generation + 1,
            skills=MappingProxyType(skills),
            failures=tuple(failures),
            loaded_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )


@dataclass(slots=True)
class _Found:
    """Where skills are: which source each folder belongs to, and the folders that cannot be reached now."""

    order: dict[Path, Source] = field(default_factory=dict)
    roots: dict[Path, tuple[Path, ...]] = field(default_factory=dict)  # by path of the source
    out_of_reach: set[Path] = field(default_factory=set)
    failures: list[SkillFailure] = field(default_factory=list)


class _Touched:
    """Answers what a set of changed paths concerns."""

    def __init__(self, changed: Iterable[Path]) -> None:
        self._paths = frozenset(changed)
        self._holders = frozenset(parent for path in self._paths for parent in (path, *path.parents))
        self._only_files = all(path.is_file() and not path.is_symlink() for path in self._paths)

    def may_add_or_remove(self, known: Collection[Path]) -> bool:
        """Whether there may be new skill folders, or fewer; a file that is there and no new SKILL.md is neither."""
        return not self._only_files or any(
            is_skill_file(path.name) and path.parent not in known for path in self._paths
        )

    def concerns(self, root: Path) -> bool:
        """Whether something in the folder `root`, or above it, changed."""
        return root in self._holders or (not self._only_files and not self._paths.isdisjoint(root.parents))


def _source_gone(error: OSError, kept: int) -> Diagnostic:
    return Diagnostic(
        code="source_missing",
        message=f"the configured folder cannot be read: {error.strerror or error}"
        + (f"; its {kept} skills stay in use" if kept else ""),
        severity="error" if kept else "warning",
        remedy="Make the folder, or take it out of the configuration.",
    )


def _shadowed(skill: Skill, winner: Skill) -> Diagnostic:
    return Diagnostic(
        code="duplicate_name",
        message=f"skill {skill.name!r} is also in {winner.root}, which comes first; this one is not used",
        remedy="Rename or remove one of them.",
    )
