"""Finding skill folders below a configured folder, within bounds and always in the same order.

A folder is a skill if it holds an entry named SKILL.md (whatever that is: the loader judges). Skills may lie inside
skills. Links to folders are followed where they stay inside the source, and each real folder counts once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from skill_actors.skills.base import Diagnostic
from skill_actors.skills.ignored import is_ignored
from skill_actors.skills.inventory import SKILL_FILE, is_skill_file

__all__ = ["MAX_DEPTH", "MAX_PLAIN_FOLDERS", "Discovery", "Source", "find_skill_folders"]

MAX_DEPTH: Final = 6
MAX_PLAIN_FOLDERS: Final = 2_000  # folders that are no skill and lie in none
MAX_SKILLS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder in which skills are looked for. `trusted`: its skills may pre-approve tools by `allowed-tools`."""

    path: Path
    trusted: bool = False


@dataclass(slots=True, kw_only=True)
class Discovery:
    """Real paths of skill folders, sorted; and, by path, what kept a folder from being looked into."""

    roots: list[Path] = field(default_factory=list)
    problems: dict[Path, Diagnostic] = field(default_factory=dict)


def find_skill_folders(path: Path) -> Discovery:
    """Look for skills in and below `path`, six levels deep. Blocks.

    Raises:
        OSError: if `path` is no folder or cannot be listed.

    """
    return _Scan(os.path.realpath(path)).run()


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name == "node_modules" or is_ignored(name)


class _LimitReached(Exception):
    pass


class _Scan:
    def __init__(self, top: str) -> None:
        self._top = top
        self._found = Discovery()
        self._seen: set[str] = set()
        self._plain_folders = 0

    def run(self) -> Discovery:
        try:
            self._folder(self._top, self._list(self._top), 0, in_skill=False)
        except _LimitReached as limit:
            message = f"{limit}; what lies further is not looked at"
            remedy = "Configure the folders that hold skills, not one far above them."
            self._found.problems[Path(self._top)] = Diagnostic(code="scan_limit", message=message, remedy=remedy)
        self._found.roots.sort()
        return self._found

    def _list(self, folder: str) -> list[os.DirEntry[str]]:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)

    def _folder(self, folder: str, entries: list[os.DirEntry[str]], depth: int, *, in_skill: bool) -> None:
        self._seen.add(folder)
        if any(is_skill_file(entry.name) for entry in entries):
            self._found.roots.append(Path(folder))
            in_skill = True
        self._count(in_skill)
        if depth == MAX_DEPTH:
            return
        for entry in entries:
            if not _is_passed_over(entry.name):
                self._below(entry, depth + 1, in_skill)

    def _count(self, in_skill: bool) -> None:
        self._plain_folders += not in_skill
        if self._plain_folders > MAX_PLAIN_FOLDERS:
            raise _LimitReached(f"more than {MAX_PLAIN_FOLDERS} folders without a skill")
        if len(self._found.roots) > MAX_SKILLS:
            self._found.roots.pop()
            raise _LimitReached(f"more than {MAX_SKILLS} skills")

    def _below(self, entry: os.DirEntry[str], depth: int, in_skill: bool) -> None:
        folder = entry.path
        try:
            if entry.is_symlink():
                folder = self._target(entry)
            elif not entry.is_dir(follow_symlinks=False):
                return
            if not folder or folder in self._seen:
                return
            entries = self._list(folder)
        except OSError as error:
            message = f"folder cannot be read: {error.strerror or error}"
            remedy = "Allow reading it, or move it out of the skills."
            self._found.problems[Path(folder)] = Diagnostic(code="unreadable", message=message, remedy=remedy)
            return
        self._folder(folder, entries, depth, in_skill=in_skill)

    def _target(self, link: os.DirEntry[str]) -> str:
        """The real folder that the link leads to, "" if there is none or it may not be followed."""
        target = os.path.realpath(link.path)
        if not os.path.isdir(target):
            return ""
        if target == self._top or not target.startswith(self._top.rstrip(os.sep) + os.sep):
            if target != self._top and os.path.lexists(os.path.join(target, SKILL_FILE)):
                message = f"link to {target}, which lies outside {self._top}, is not followed"
                problem = Diagnostic(code="link_leaves_root", message=message, remedy="Configure the target as well.")
                self._found.problems[Path(link.path)] = problem
            return ""
        return target
