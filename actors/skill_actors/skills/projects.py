"""Skills of projects: folders of a repository that a conversation names as its `cwd`.

They come with what was cloned, so they are read only where the operator trusts the place: `cwd` must lie in one of
the trusted folders. From there up to the repository's root (the folder with `.git`), `.agents/skills` and
`.claude/skills` of each folder are sources, the nearest first. Nothing watches them: a project is looked at again
whenever a turn begins, which costs a stat for each of its files.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import trio

from skill_actors.skills.approvals import Approvals
from skill_actors.skills.base import Diagnostic, Skill, SkillFailure, SkillSnapshot
from skill_actors.skills.choice import SkillRules
from skill_actors.skills.copies import SkillCopies
from skill_actors.skills.discovery import Source
from skill_actors.skills.library import Library
from skill_actors.skills.native import NativeLoader
from skill_actors.skills.open_places import OpenPlaces
from skill_actors.skills.packages import PackageCache

__all__ = ["SKILL_FOLDERS", "ProjectPlace", "ProjectRefused", "Projects", "lay_over", "project_place"]

SKILL_FOLDERS: Final = (".agents/skills", ".claude/skills")
_MAX_LEVELS: Final = 32
_KEPT: Final = 64  # projects in memory; one that was let go is read anew
_THREADS: Final = 4
_NOT_SERVED: Final = "Skills of projects cannot be approved there: serve this version to everybody, and approve that."
_UNENCODABLE: Final = re.compile(r"[\x00\ud800-\udfff]")


class ProjectRefused(Exception):
    """The folder is no project that may bring skills; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class ProjectPlace:
    """Where a project's skills may be: the folders, nearest first, and the repository that they must lie in."""

    folders: tuple[Path, ...]
    repository: Path
    refused: tuple[SkillFailure, ...] = ()


def project_place(cwd: Path, trusted: Path) -> ProjectPlace:
    """Where skills of the project around `cwd` may be; both paths are real. Blocks.

    Folders above `trusted` are never looked at. Without a `.git` on the way up, only `cwd` itself counts.
    """
    levels = [level for level in [cwd, *cwd.parents][:_MAX_LEVELS] if level.is_relative_to(trusted)]
    top = next((place for place, level in enumerate(levels) if os.path.lexists(level / ".git")), 0)
    folders = tuple(level / name for level in levels[: top + 1] for name in SKILL_FOLDERS)
    return ProjectPlace(folders, levels[top])


def lay_over(near: SkillSnapshot, far: SkillSnapshot) -> SkillSnapshot:
    """Both together; of two skills with one name that of `near` holds, and the other is reported."""
    failures = [*near.failures, *far.failures]
    failures += [_shadowed(skill, near.skills[name]) for name, skill in far.skills.items() if name in near.skills]
    skills = dict(sorted({**far.skills, **near.skills}.items()))
    return replace(far, skills=MappingProxyType(skills), failures=tuple(failures))


@dataclass(slots=True)
class _Project:
    """One project's skills as they were found last. The lock: a library is used by one thread at a time."""

    place: ProjectPlace
    library: Library
    found: SkillSnapshot = field(default_factory=SkillSnapshot)
    packaged: frozenset[Path] = frozenset()
    lock: trio.Lock = field(default_factory=trio.Lock)


class Projects:
    """Finds the skills of projects. Belongs to the trio thread.

    Args:
        trusted: the folders in which projects may lie.
        uid: only this user's sessions have projects: that of the process, since it looks with that user's eyes.
        copies: where versions are copied to, as they are loaded.
        packages: where `.skill` files are unpacked.
        rules: skills that these do not permit are left out.
        approvals: if given, these say which versions are trusted.

    """

    def __init__(
        self,
        trusted: Sequence[Path],
        uid: int,
        *,
        copies: SkillCopies | None = None,
        packages: PackageCache | None = None,
        rules: SkillRules | None = None,
        approvals: Approvals | None = None,
    ) -> None:
        self._approvals = approvals
        self._trusted = tuple(trusted)
        self._uid = uid
        self._copies = copies
        self._packages = packages
        self._rules = rules
        self._projects: OrderedDict[Path, _Project] = OrderedDict()
        self._limiter = trio.CapacityLimiter(_THREADS)

    async def resolve(self, cwd: str, uid: int) -> Path:
        """The real folder of a project that this user's sessions may have.

        Raises:
            ProjectRefused: if there is no such folder, or none that is trusted, or the user is another.

        """
        real, _ = await self._find(cwd, uid)
        return real

    async def load(self, cwd: str, uid: int) -> SkillSnapshot:
        """The skills of the project around `cwd` as they are on disk now. Raises as `resolve` does."""
        real, place = await self._find(cwd, uid)
        while True:
            project = self._project(real, place)
            async with project.lock:
                if self._projects.get(real) is project:
                    return await self._look(real, project)

    async def _look(self, real: Path, project: _Project) -> SkillSnapshot:
        try:
            project.found = await trio.to_thread.run_sync(
                project.library.load, project.found, limiter=self._limiter, abandon_on_cancel=True
            )
        except trio.Cancelled:
            # The thread may hang on a dead mount with this library in hand: whoever comes next gets another.
            if self._projects.get(real) is project:
                del self._projects[real]
            raise
        project.packaged = project.library.packaged
        found = project.found if self._approvals is None else self._approvals.judge(project.found, remedy=_NOT_SERVED)
        return replace(found, failures=(*project.place.refused, *found.failures))

    def packaged(self) -> set[Path]:
        """Unpacked folders that projects use."""
        return {root for project in self._projects.values() for root in project.packaged}

    def digests(self) -> set[str]:
        """Versions of skills that projects use."""
        return {skill.digest for project in self._projects.values() for skill in project.found.skills.values()}

    def _project(self, real: Path, place: ProjectPlace) -> _Project:
        project = self._projects.get(real)
        if project is None or project.place != place:
            sources = [
                Source(path=folder, trusted=True, optional=True, bounds=place.repository) for folder in place.folders
            ]
            library = Library(
                sources,
                copies=self._copies,
                packages=self._packages,
                rules=self._rules,
                natives=NativeLoader.of_nobody(),  # whose repository this is, nobody was asked
            )
            project = self._projects[real] = _Project(place, library)
        self._projects.move_to_end(real)
        while len(self._projects) > _KEPT:
            self._projects.popitem(last=False)
        return project

    async def _find(self, cwd: str, uid: int) -> tuple[Path, ProjectPlace]:
        if uid != self._uid:
            raise ProjectRefused("cwd is for sessions of the user who runs the daemon, and this one runs as another")
        return await trio.to_thread.run_sync(self._look_for, cwd, limiter=self._limiter, abandon_on_cancel=True)

    def _look_for(self, cwd: str) -> tuple[Path, ProjectPlace]:
        if not os.path.isabs(cwd) or _UNENCODABLE.search(cwd):
            raise ProjectRefused(f"cwd: {cwd[:200]!a} is no absolute path")
        real = Path(os.path.realpath(cwd))
        if not str(real).isprintable():
            raise ProjectRefused(f"cwd: {str(real)[:200]!a} holds what cannot be shown")
        if not os.path.isdir(real):  # Path's raises where the way there may not be looked into
            raise ProjectRefused(f"cwd: {cwd[:200]!a} is no folder, or the daemon's user may not look into it")
        return real, _judged(project_place(real, self._trusted_above(real)))

    def _trusted_above(self, real: Path) -> Path:
        for folder in self._trusted:
            trusted = Path(os.path.realpath(folder))
            if real.is_relative_to(trusted):
                return trusted
        remedy = "an operator who trusts it names it, or a folder above it, in skills.projects"
        raise ProjectRefused(f"cwd: {str(real)[:200]!a} is not trusted here: {remedy}")


def _judged(place: ProjectPlace) -> ProjectPlace:
    """The same without the folders that may not be read."""
    problems = [(folder, _problem(folder, place.repository)) for folder in place.folders]
    refused = tuple(SkillFailure(path=folder, diagnostics=(problem,)) for folder, problem in problems if problem)
    good = tuple(folder for folder, problem in problems if problem is None)
    return replace(place, folders=good, refused=refused)


def _problem(folder: Path, repository: Path) -> Diagnostic | None:
    """What speaks against reading a folder that came with a repository; nothing if it is not there."""
    try:
        is_open = OpenPlaces(repository).nearest(Path(os.path.realpath(folder)))
    except OSError:
        return None  # the library says so, where it matters
    message = f"everybody may write to {is_open}, so this folder is not read"
    return Diagnostic(code="open_to_all", message=message, remedy="chmod o-w") if is_open else None


def _shadowed(skill: Skill, winner: Skill) -> SkillFailure:
    place = winner.package or winner.root
    problem = Diagnostic(
        code="duplicate_name",
        message=f"skill {skill.name!r} is also in {place}, which is nearer; this one is not used",
        remedy="Rename or remove one of them.",
    )
    return SkillFailure(path=skill.package or skill.root, diagnostics=(problem,))
