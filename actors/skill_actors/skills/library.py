"""From configured folders to a snapshot: what is loaded, what is kept, which of two equal names holds.

A Library is used by one thread at a time. It remembers what it read, so that loading again costs a stat for each
file that did not change. Rules:

- the first source wins a name; inside one source, the first folder in the order of paths;
- a folder that fails to load keeps its last good version; a folder that is gone is gone;
- a source that is gone, or cannot be read, keeps all of its skills, unless it is optional and gone;
- a name that the rules do not permit is left out before it could win against another.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from skill_actors.skills.base import Diagnostic, Skill, SkillFailure, SkillSnapshot
from skill_actors.skills.changes import is_error
from skill_actors.skills.choice import SkillRules
from skill_actors.skills.copies import CopyError, SkillCopies
from skill_actors.skills.discovery import Source, find_skill_folders
from skill_actors.skills.inventory import UNSETTLED, is_skill_file
from skill_actors.skills.loader import LoadedFolder, load_folder
from skill_actors.skills.native import NATIVE_KEY, NativeLoader, collisions
from skill_actors.skills.open_places import OpenPlaces
from skill_actors.skills.package import PACKAGE_SUFFIX
from skill_actors.skills.packages import PackageCache, load_package

__all__ = ["Library", "ReloadSummary", "compare", "is_unsettled"]

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
    failed = sum(map(is_error, new.failures))
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


def is_unsettled(snapshot: SkillSnapshot) -> bool:
    """Whether some skill was being changed when it was looked at: another look in a moment may find it whole."""
    return any(found.code in UNSETTLED for failure in snapshot.failures for found in failure.diagnostics)


class Library:
    """Loads skills from sources.

    Args:
        sources: in order of precedence.
        last: a snapshot whose skills count as last good versions (after a restart of the Registry).
        copies: where each new version is copied as it is loaded, so that a version stays usable when its live
            folder changes; without it, versions are copied at first use only.
        packages: where `.skill` files are unpacked; without it they are reported and not taken.
        rules: skills that these do not permit are left out and reported.
        natives: completes native skills; without it they are loaded without their tools, and nothing of them runs.

    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        last: SkillSnapshot | None = None,
        copies: SkillCopies | None = None,
        packages: PackageCache | None = None,
        rules: SkillRules | None = None,
        natives: NativeLoader | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._natives = natives
        self._copies = copies
        self._packages = packages
        self._rules = rules or SkillRules()
        self._loaded: dict[Path, LoadedFolder] = {}  # by folder, or by file of a package
        self._found = _Found()
        for skill in last.skills.values() if last is not None else ():
            self._loaded[skill.package or skill.root] = LoadedFolder(skill=skill, trusted=skill.trusted)

    @property
    def linked(self) -> Mapping[Path, Path]:
        """Links out of the sources and what they led to at the last load: to be watched as well."""
        return self._found.linked

    @property
    def packaged(self) -> frozenset[Path]:
        """Unpacked folders that are in use after the last load, also of skills that do not hold their name."""
        skills = (loaded.skill for loaded in self._loaded.values())
        return frozenset(skill.root for skill in skills if skill is not None and skill.package is not None)

    def load(
        self, last: SkillSnapshot, changed: Iterable[Path] | None = None, registered: Sequence[Skill] = ()
    ) -> SkillSnapshot:
        """The skills as they are on disk now. Returns `last` itself if nothing differs. Blocks.

        Args:
            last: the snapshot in use.
            changed: look again only at skills that hold, or lie below, one of these paths, at those that failed, and
                at new ones; at all if None.
            registered: skills that lie in no source and win over all that do.

        """
        touched = None if changed is None else _Touched(changed)
        if touched is None or touched.may_add_or_remove(self._found.order):
            self._found = self._discover()
        for root, source in self._found.order.items():
            before = self._loaded.get(root)
            asked = touched is None or touched.concerns(root)
            due = before is None or before.failure is not None or asked
            if due and root not in self._found.out_of_reach:
                self._loaded[root] = self._load_one(root, source, before, again=asked)
        self._loaded = {root: self._loaded[root] for root in self._found.order}
        return self._snapshot(last, registered)

    def _discover(self) -> _Found:
        found = _Found()
        for source in self._sources:
            try:
                discovery = find_skill_folders(source.path, bounds=source.bounds)
            except OSError as error:
                if source.optional and isinstance(error, FileNotFoundError):
                    continue
                kept = self._last_roots(source)
                found.out_of_reach.update(kept)
                found.failures.append(SkillFailure(path=source.path, diagnostics=(_source_gone(error, len(kept)),)))
                found.roots[source.path] = kept
            else:
                for path, problem in discovery.problems.items():
                    found.failures.append(SkillFailure(path=path, diagnostics=(problem,)))
                found.roots[source.path] = tuple(sorted([*discovery.roots, *discovery.packages]))
                found.packages.update(discovery.packages)
                found.linked.update(discovery.linked)
            for root in found.roots[source.path]:
                found.order.setdefault(root, source)
        self._distrust_open_places(found)
        return found

    def _distrust_open_places(self, found: _Found) -> None:
        places = OpenPlaces(*(source.path for source in self._sources), *found.linked.values())
        reported: set[Path] = set()
        for root, source in found.order.items():
            if not source.trusted or root in found.out_of_reach:
                continue
            try:
                is_open = places.nearest(root)
            except OSError:
                is_open = root  # gone, or out of sight: reading it tells why
            if is_open is not None:
                found.order[root] = replace(source, trusted=False)
                reported.add(is_open)
        for place in sorted(reported):
            found.failures.append(SkillFailure(path=place, diagnostics=(_OPEN_TO_ALL,)))

    def _last_roots(self, source: Source) -> tuple[Path, ...]:
        known = self._found.roots.get(source.path)
        if known is None:  # nothing was ever found there by this library: what the last one left
            real = os.path.realpath(source.path)  # not by Path, which raises for links in a circle
            known = tuple(sorted(root for root in self._loaded if root.is_relative_to(real)))
        return tuple(root for root in known if root in self._loaded)

    def _read(self, root: Path, source: Source, before: LoadedFolder | None) -> LoadedFolder:
        if root not in self._found.packages:
            return load_folder(root, trusted=source.trusted, previous=before)
        if self._packages is None:
            return LoadedFolder(failure=SkillFailure(path=root, diagnostics=(_PACKAGES_OFF,)))
        return load_package(root, self._packages, trusted=source.trusted, previous=before)

    def _load_one(self, root: Path, source: Source, before: LoadedFolder | None, *, again: bool) -> LoadedFolder:
        if before is not None and before.skill is not None and before.trusted != source.trusted:
            # Trust is gained by reading anew, and lost at once.
            before = LoadedFolder(skill=replace(before.skill, trusted=False))
        loaded = self._read(root, source, before)
        if loaded.skill is not None and self._copies is not None and loaded is not before:
            loaded = self._copied(self._copies, loaded, loaded.skill)
        # One without its native part was not approved when it was read, and may be now.
        incomplete = loaded.skill is not None and loaded.skill.native is None and NATIVE_KEY in loaded.skill.metadata
        if loaded.skill is not None and self._natives is not None and (loaded is not before or incomplete):
            loaded = self._completed(self._natives, loaded, loaded.skill, again)
        if loaded.failure is not None and before is not None and before.skill is not None:
            failure = replace(loaded.failure, kept=before.skill.name)
            return LoadedFolder(skill=before.skill, failure=failure, trusted=source.trusted)
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

    def _completed(self, natives: NativeLoader, loaded: LoadedFolder, skill: Skill, again: bool) -> LoadedFolder:
        if not self._rules.permits(skill.name):
            return loaded  # nothing of it is to run, not even to look at it
        copy = skill.root if self._copies is None else self._copies.path_of(skill.digest)
        outcome = natives.complete(skill, copy, again=again)
        if isinstance(outcome, Diagnostic):
            return LoadedFolder(failure=SkillFailure(path=skill.package or skill.root, diagnostics=(outcome,)))
        return replace(loaded, skill=outcome)

    def _snapshot(self, last: SkillSnapshot, registered: Sequence[Skill]) -> SkillSnapshot:
        failures = list(self._found.failures)
        chosen = {skill.name: skill for skill in registered if self._rules.permits(skill.name)}
        for root, loaded in self._loaded.items():
            if loaded.failure is not None:
                failures.append(loaded.failure)
            if loaded.skill is None:
                continue
            if not self._rules.permits(loaded.skill.name):
                failures.append(SkillFailure(path=root, diagnostics=(_denied(loaded.skill),)))
                continue
            winner = chosen.setdefault(loaded.skill.name, loaded.skill)
            if winner is not loaded.skill:
                failures.append(SkillFailure(path=root, diagnostics=(_shadowed(loaded.skill, winner),)))
        for name, diagnostic in collisions(chosen.values()).items():
            clashing = chosen.pop(name)
            failures.append(SkillFailure(path=clashing.package or clashing.root, diagnostics=(diagnostic,)))
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
    packages: set[Path] = field(default_factory=set)
    linked: dict[Path, Path] = field(default_factory=dict)


class _Touched:
    """Answers what a set of changed paths concerns."""

    def __init__(self, changed: Iterable[Path]) -> None:
        self._paths = frozenset(changed)
        self._holders = frozenset(parent for path in self._paths for parent in (path, *path.parents))
        # Not by Path: a folder that may not be entered makes its is_file raise.
        self._only_files = all(os.path.isfile(path) and not os.path.islink(path) for path in self._paths)

    def may_add_or_remove(self, known: Collection[Path]) -> bool:
        """Whether there may be new skills, or fewer: not so by a file that is there, unless it begins a skill."""
        return not self._only_files or any(
            (is_skill_file(path.name) and path.parent not in known)
            or (path.name.endswith(PACKAGE_SUFFIX) and path not in known)
            for path in self._paths
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


_PACKAGES_OFF: Final = Diagnostic(
    code="package_ignored",
    message="packages are not taken here, since there is nowhere to unpack them",
    remedy="Unpack it by hand.",
)


_OPEN_TO_ALL: Final = Diagnostic(
    code="open_to_all",
    message="everybody may write here, so the skills in it are not trusted",
    remedy="Take the right to write from others: chmod o-w.",
)


def _denied(skill: Skill) -> Diagnostic:
    return Diagnostic(
        code="denied",
        message=f"skill {skill.name!r} is not used: the configuration does not permit it",
        remedy="Change skills.allow or skills.deny in the configuration.",
    )


def _shadowed(skill: Skill, winner: Skill) -> Diagnostic:
    place = winner.package or winner.root
    return Diagnostic(
        code="duplicate_name",
        message=f"skill {skill.name!r} is also in {place}, which comes first; this one is not used",
        remedy="Rename or remove one of them.",
    )
