"""Finding skill folders below a configured folder, within bounds and always in the same order.

A folder is a skill if it holds an entry named SKILL.md (whatever that is: the loader judges). Skills may lie inside
skills. A file named `*.skill` is a package, but inside a skill it is only a file of that skill. Links are followed
where they stay inside the source. One that leads out is followed if it belongs to root, to the daemon's user or to
the owner of what it leads to, since nobody else may show the daemon's eyes to others; that target is then a place to
watch. Each real folder counts once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from skill_actors.skills.base import Diagnostic
from skill_actors.skills.ignored import is_ignored
from skill_actors.skills.inventory import is_skill_file
from skill_actors.skills.package import PACKAGE_SUFFIX

__all__ = ["MAX_DEPTH", "MAX_PLAIN_FOLDERS", "Discovery", "Source", "find_skill_folders"]

MAX_DEPTH: Final = 6
MAX_PLAIN_FOLDERS: Final = 2_000  # folders that are no skill and lie in none
MAX_FOLDERS: Final = 100_000  # with those inside of skills
MAX_SKILLS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder in which skills are looked for, or a package.

    Args:
        trusted: its skills may pre-approve tools, but for those that everybody may write to.
        optional: that it does not exist is nothing to report, and when it is gone its skills are gone.
        bounds: links may lead out of the source, but not out of this folder, and the source must lie in it; None: see
            `find_skill_folders`.

    """

    path: Path
    trusted: bool = False
    optional: bool = False
    bounds: Path | None = None


@dataclass(slots=True, kw_only=True)
class Discovery:
    """Real paths of skill folders and of packages, sorted; and, by path, what kept a folder from being looked into.

    `linked` tells which links led out of the source, and where to: changes there concern the source as well.
    """

    roots: list[Path] = field(default_factory=list)
    packages: list[Path] = field(default_factory=list)
    linked: dict[Path, Path] = field(default_factory=dict)
    problems: dict[Path, Diagnostic] = field(default_factory=dict)


def find_skill_folders(path: Path, *, bounds: Path | None = None) -> Discovery:
    """Look for skills in and below `path`, six levels deep; `path` may be one package. Blocks.

    Args:
        bounds: `path`, and links that lead out of it, are followed within this folder only; None: whoever owns the
            link decides, as the module says.

    Raises:
        OSError: if `path` is no folder or cannot be listed.

    """
    real = os.path.realpath(path)
    within = None if bounds is None else os.path.realpath(bounds)
    if within is not None and not _lies_below(real, within):
        return Discovery(problems={path: _leaves(f"{path} leads out of {within}, and is not followed")})
    if _is_package(real) and os.path.isfile(real):
        return Discovery(packages=[Path(real)])
    return _Scan(real, within).run()


def _is_package(name: str) -> bool:
    return name.endswith(PACKAGE_SUFFIX)


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name == "node_modules" or is_ignored(name)


class _LimitReached(Exception):
    pass


class _Scan:
    def __init__(self, top: str, bounds: str | None) -> None:
        self._top = top
        self._bounds = bounds
        self._found = Discovery()
        self._seen: set[str] = set()
        self._folders = 0
        self._plain_folders = 0

    def run(self) -> Discovery:
        try:
            self._folder(self._top, self._list(self._top), 0, in_skill=False)
        except _LimitReached as limit:
            message = f"{limit}; what lies further is not looked at"
            remedy = "Configure the folders that hold skills, not one far above them."
            self._found.problems[Path(self._top)] = Diagnostic(code="scan_limit", message=message, remedy=remedy)
        self._found.roots.sort()
        self._found.packages.sort()
        return self._found

    def _list(self, folder: str) -> list[os.DirEntry[str]]:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)

    def _folder(self, folder: str, entries: list[os.DirEntry[str]], depth: int, *, in_skill: bool) -> None:
        self._seen.add(folder)
        if any(is_skill_file(entry.name) for entry in entries):
            self._add(folder, self._found.roots)
            in_skill = True
        self._count(in_skill)
        if depth == MAX_DEPTH:
            return
        for entry in entries:
            if not _is_passed_over(entry.name):
                self._below(entry, depth + 1, in_skill)

    def _count(self, in_skill: bool) -> None:
        self._folders += 1
        self._plain_folders += not in_skill
        if self._folders > MAX_FOLDERS:
            raise _LimitReached(f"more than {MAX_FOLDERS} folders")
        if self._plain_folders > MAX_PLAIN_FOLDERS:
            raise _LimitReached(f"more than {MAX_PLAIN_FOLDERS} folders without a skill")

    def _add(self, place: str, found: list[Path]) -> None:
        if len(self._found.roots) + len(self._found.packages) == MAX_SKILLS:
            raise _LimitReached(f"more than {MAX_SKILLS} skills")
        found.append(Path(place))

    def _below(self, entry: os.DirEntry[str], depth: int, in_skill: bool) -> None:
        path = entry.path
        try:
            if entry.is_symlink():
                path = self._target(entry, in_skill)
            if not path or path in self._seen:
                return
            if _is_package(entry.name) and os.path.isfile(path):
                self._package(path, in_skill)
                return
            if not entry.is_dir():
                return
            entries = self._list(path)
        except OSError as error:
            message = f"folder cannot be read: {error.strerror or error}"
            remedy = "Allow reading it, or move it out of the skills."
            self._found.problems[Path(path)] = Diagnostic(code="unreadable", message=message, remedy=remedy)
            return
        self._folder(path, entries, depth, in_skill=in_skill)

    def _package(self, path: str, in_skill: bool) -> None:
        if not in_skill:
            self._seen.add(path)
            self._add(path, self._found.packages)

    def _target(self, link: os.DirEntry[str], in_skill: bool) -> str:
        """What the link leads to in the end, "" if there is nothing or it may not be followed."""
        target = os.path.realpath(link.path)
        if not os.path.exists(target) or not (os.path.isdir(target) or _is_package(link.name)):
            return ""
        if _lies_below(target, self._top):
            return target
        if in_skill or _lies_below(self._top, target):
            return ""  # what a skill links to outside is no part of it; the second is a loop
        if not self._may_follow(link.path, target):
            whose = "others own link and target" if self._bounds is None else f"it may not lead out of {self._bounds}"
            message = f"link to {target}, which lies outside {self._top}, is not followed: {whose}"
            self._found.problems[Path(link.path)] = _leaves(message)
            return ""
        self._found.linked[Path(link.path)] = Path(target)
        return target

    def _may_follow(self, link: str, target: str) -> bool:
        if self._bounds is not None:
            return _lies_below(target, self._bounds)
        return _may_show(os.lstat(link), os.stat(target))


def _lies_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _leaves(message: str) -> Diagnostic:
    return Diagnostic(code="link_leaves_root", message=message, remedy="Configure the target as well.")


def _may_show(link: os.stat_result, target: os.stat_result) -> bool:
    """Whether whoever made the link could as well have copied the target here."""
    return link.st_uid in (0, os.geteuid(), target.st_uid)
