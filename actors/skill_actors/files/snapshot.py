"""What a workspace holds at one moment: names and marks, no content. Everything here blocks.

Folders are entered by descriptor and no link is followed, so that nothing outside is ever looked at, whatever the
tools do meanwhile. The look is bounded: what is beyond the bounds is not known, which is not the same as not there.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from skill_actors.files.names import UPLOAD_PREFIX, is_own

__all__ = ["Mark", "ScanLimits", "Snapshot", "mark_of", "scan"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_FOLDER_NOW: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})  # it went, or something took its place
_BLOCK_BYTES: Final = 512  # the unit of st_blocks, whatever the file system


class Mark(NamedTuple):
    """What tells a file from itself at another time, without reading it. 0 where a fact is not known."""

    size: int
    mtime_ns: int
    inode: int = 0
    ctime_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLimits:
    """How far one look goes: so many entries, and folders so deep."""

    entries: int = 100_000
    depth: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A workspace at one moment.

    Args:
        marks: of regular files, by name.
        used_bytes: what all files take on the disk, the daemon's own included; a hard link counts once, a hole not.
        closed: folders that were not looked into ("" is the whole): of what is below them nothing is known.
        unnamed: files whose names are not UTF-8: they count, and cannot be named.
        taken_ns: when the look began, on the clock of the files' times.
        ended_ns: when it ended.
        uploads: what each file takes that is being uploaded, by name; part of `used_bytes`.
        inode: of the workspace's own folder; 0 if it is not there.

    """

    marks: Mapping[str, Mark]
    used_bytes: int
    closed: tuple[str, ...]
    unnamed: int
    taken_ns: int
    ended_ns: int
    uploads: Mapping[str, int] = field(default_factory=dict)
    inode: int = 0

    @property
    def complete(self) -> bool:
        return not self.closed

    def knows(self, name: str) -> bool:
        """Whether a file of this name would have been seen."""
        return not any(folder == "" or name.startswith(folder + "/") for folder in self.closed)


def mark_of(facts: os.stat_result) -> Mark:
    return Mark(facts.st_size, facts.st_mtime_ns, facts.st_ino, facts.st_ctime_ns)


@dataclass(slots=True)
class _Look:
    limits: ScanLimits
    entries: int = 0
    used_bytes: int = 0
    unnamed: int = 0
    marks: dict[str, Mark] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    linked: set[int] = field(default_factory=set)
    uploads: dict[str, int] = field(default_factory=dict)


def scan(root: Path, limits: ScanLimits = ScanLimits()) -> Snapshot:
    """Look at a workspace; one that is not there holds nothing."""
    taken_ns = time.time_ns()
    look = _Look(limits)
    inode = 0
    try:
        top = os.open(root, _FOLDER)
    except FileNotFoundError:
        pass
    except OSError:
        look.closed.append("")
    else:
        inode = os.fstat(top).st_ino
        _look_into(top, "", look, limits.depth)
    return Snapshot(
        marks=look.marks,
        used_bytes=look.used_bytes,
        closed=tuple(look.closed),
        unnamed=look.unnamed,
        taken_ns=taken_ns,
        ended_ns=time.time_ns(),
        uploads=look.uploads,
        inode=inode,
    )


def _look_into(folder: int, prefix: str, look: _Look, depth: int) -> None:
    """Take in what is in the folder, and close its descriptor."""
    below: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                look.entries += 1
                if look.entries > look.limits.entries:
                    look.closed.append("")
                    return
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    _take(entry, prefix, look)
        for name in below:
            if look.entries > look.limits.entries:
                return
            try:
                inner = os.open(name, _FOLDER, dir_fd=folder) if depth > 0 else -1
            except OSError as error:
                if error.errno in _NO_FOLDER_NOW:
                    continue
                inner = -1
            if inner < 0:
                look.closed.append(prefix + name)
            else:
                _look_into(inner, f"{prefix}{name}/", look, depth - 1)
    except OSError:
        look.closed.append(prefix.removesuffix("/"))
    finally:
        os.close(folder)


def _take(entry: os.DirEntry[str], prefix: str, look: _Look) -> None:
    try:
        facts = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(facts.st_mode):
        return
    if facts.st_nlink == 1 or facts.st_ino not in look.linked:
        look.used_bytes += used_by(facts)
    if facts.st_nlink > 1:
        look.linked.add(facts.st_ino)
    name = prefix + entry.name
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            look.unnamed += 1
            return
    if (name[0] != "." and "/." not in name) or not is_own(name):
        look.marks[name] = mark_of(facts)
    elif name.startswith(UPLOAD_PREFIX):
        look.uploads[name] = used_by(facts)


def used_by(facts: os.stat_result) -> int:
    """What the file takes: its size, but not its holes. A file system may keep a small one without any block."""
    return min(facts.st_size, max(4096, facts.st_blocks * _BLOCK_BYTES))
