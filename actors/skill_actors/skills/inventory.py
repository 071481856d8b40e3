"""The files of one skill folder, with their hashes: the only code that opens what is inside a skill.

Rules. A folder is opened by a descriptor and everything below it relative to that descriptor, without following
links, so that swapping a folder for a link while it is read leads nowhere. A link to a regular file inside the same
folder counts as that file; every other link, and everything that is neither file nor folder, is left out and
reported, and never opened. A file whose stat is as remembered is not read again, unless it was changed so shortly
before it was read that a later change could show the same times. A file that somebody is writing is not taken: the
kernel grants no read lease on it. (Where leases cannot be had, on network file systems or on files of others for who
is not root, only quiet tells that a file is whole: see watcher.)
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from skill_actors.skills.base import Diagnostic
from skill_actors.skills.ignored import is_ignored

__all__ = [
    "SKILL_FILE",
    "UNSETTLED",
    "FileEntry",
    "Inventory",
    "InventoryError",
    "InventoryLimits",
    "is_being_written",
    "is_skill_file",
    "take_inventory",
]

SKILL_FILE: Final = "SKILL.md"
_SKILL_FILE_FALLBACK: Final = "skill.md"

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # non-blocking: a FIFO may take the place
_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK_BYTES: Final = 256 * 1024
_SETTLED_NS: Final = 100_000_000  # file times advance in ticks of up to 10 ms
_WRITER_NS: Final = 30_000_000_000  # open for writing, but as it is for so long: somebody keeps it open for no reason

UNSETTLED: Final = frozenset({"being_written", "changed_while_reading"})  # codes: look again in a moment


class InventoryError(Exception):
    """The folder as a whole cannot be taken; `code` is stable."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryLimits:
    """What one skill may hold. The largest real ones have 1,104 files and 15 MB, the largest SKILL.md 294 KB."""

    max_files: int = 5_000
    max_folders: int = 1_000
    max_depth: int = 16
    max_total_bytes: int = 256 * 1024 * 1024
    max_skill_file_bytes: int = 10 * 1024 * 1024  # from 1 MiB on there is a warning


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One regular file. `source` is where it really lies (differs from `path` for a link), both relative."""

    path: str
    source: str
    executable: bool
    size: int
    sha256: bytes
    seen: tuple[int, ...]  # its stat; empty if it must be read again next time


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All that counts of a folder: regular files by path, sorted, and what was left out and why, by path.

    `open_to_all` is the first file or folder in it that everybody may write to, "" if there is none.
    """

    files: Mapping[str, FileEntry]
    left_out: Mapping[str, Diagnostic] = field(default_factory=dict)
    open_to_all: str = ""

    @property
    def digest(self) -> str:
        """sha256 (hex) over path, executable bit and content of every file."""
        total = hashlib.sha256(b"skill-folder-1\0")
        for entry in self.files.values():
            path = entry.path.encode()
            total.update(b"%d:%b %d:" % (len(path), path, entry.executable))
            total.update(entry.sha256)
        return total.hexdigest()

    @property
    def settled(self) -> bool:
        """Whether every file's stat is enough to tell later that nothing changed."""
        return all(entry.seen for entry in self.files.values())


def is_skill_file(name: str) -> bool:
    """Whether an entry of this name makes its folder a skill. `skill.md` is taken where there is no `SKILL.md`."""
    return name in (SKILL_FILE, _SKILL_FILE_FALLBACK)


def take_inventory(
    root: Path, *, known: Mapping[str, FileEntry] | None = None, limits: InventoryLimits | None = None
) -> Inventory:
    """List and hash the files below `root`; files in `known` whose stat is unchanged are not read. Blocks.

    Raises:
        InventoryError: if a limit is exceeded.
        OSError: if the folder itself cannot be read.

    """
    return _Walk(root, known or {}, limits or InventoryLimits()).run()


@contextmanager
def open_beneath(folder: int, path: str) -> Iterator[int]:
    """A descriptor of the regular file `path` below the open folder, no link followed on the way.

    Raises:
        OSError: also if anything on the way is a link, or the end is no regular file.

    """
    *parents, name = path.split("/")
    opened: list[int] = []
    try:
        for part in parents:
            folder = os.open(part, _FOLDER, dir_fd=folder)
            opened.append(folder)
        opened.append(os.open(name, _READ, dir_fd=folder))
        if not stat.S_ISREG(os.fstat(opened[-1]).st_mode):
            raise OSError(f"{path} is not a regular file")
        yield opened[-1]
    finally:
        for descriptor in reversed(opened):
            os.close(descriptor)


def read_chunks(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        yield chunk


@contextmanager
def open_folder(root: Path) -> Iterator[int]:
    """A descriptor of the folder itself. Raises OSError, also if `root` is a link."""
    descriptor = os.open(root, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_being_written(descriptor: int) -> bool:
    """Whether a process has this file open for writing; False where the kernel does not say."""
    try:
        # Whoever opens the file in this moment makes the kernel signal us: by one that nobody heeds.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        pass  # somebody else's file, or a file system without leases
    return False


def read_entry(root: Path, entry: FileEntry) -> bytes:
    """The content that `entry` describes.

    Raises:
        InventoryError: `changed_while_reading` if the file holds something else by now.
        OSError: if it cannot be opened or is no regular file any more.

    """
    with open_folder(root) as folder, open_beneath(folder, entry.source) as descriptor:
        content = os.read(descriptor, entry.size + 1)
    if hashlib.sha256(content).digest() != entry.sha256:
        raise changed_while_reading(entry.path)
    return content


def changed_while_reading(path: str) -> InventoryError:
    return InventoryError("changed_while_reading", f"{path} changed while it was read", "Reload when it is saved.")


class _Walk:
    def __init__(self, root: Path, known: Mapping[str, FileEntry], limits: InventoryLimits) -> None:
        self._root = root
        self._known = known
        self._limits = limits
        self._files: dict[str, FileEntry] = {}
        self._left_out: dict[str, Diagnostic] = {}
        self._open_to_all = ""
        self._folders = 0
        self._total_bytes = 0
        self._began_ns = time.time_ns()

    def run(self) -> Inventory:
        with open_folder(self._root) as folder:
            self._folder(folder, folder, "", 1)
        self._take_lower_case_skill_file()
        files = dict(sorted(self._files.items()))
        return Inventory(files=files, left_out=self._left_out, open_to_all=self._open_to_all)

    def _take_lower_case_skill_file(self) -> None:
        if SKILL_FILE in self._files or SKILL_FILE in self._left_out:
            return
        entry = self._files.pop(_SKILL_FILE_FALLBACK, None)
        if entry is not None:
            self._files[SKILL_FILE] = replace(entry, path=SKILL_FILE)
            self._leave_out("skill_file_case", _SKILL_FILE_FALLBACK, "is taken as SKILL.md", "Rename it to SKILL.md.")

    def _folder(self, top: int, folder: int, prefix: str, depth: int) -> None:
        self._folders += 1
        self._check("max_folders", self._folders, "folders")
        self._check("max_depth", depth, "levels of folders")
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            path = prefix + entry.name
            if is_ignored(entry.name):
                continue
            if not _is_utf8(path):
                self._leave_out("name_not_utf8", path, "has a name that is not UTF-8", "Rename it.")
                continue
            try:
                self._entry(top, folder, entry, path, depth)
            except OSError as error:
                self._leave_out("unreadable", path, f"cannot be read: {error.strerror or error}", "Allow reading it.")

    def _entry(self, top: int, folder: int, entry: os.DirEntry[str], path: str, depth: int) -> None:
        info = entry.stat(follow_symlinks=False)
        if info.st_mode & stat.S_IWOTH and not stat.S_ISLNK(info.st_mode):
            self._open_to_all = self._open_to_all or _shown(path)
        if stat.S_ISREG(info.st_mode):
            self._file(top, path, path, info)
        elif stat.S_ISDIR(info.st_mode):
            self._subfolder(top, folder, entry.name, path, depth)
        elif stat.S_ISLNK(info.st_mode):
            self._link(top, path)
        else:
            self._leave_out("not_regular", path, "is neither a file nor a folder", "Remove it.")

    def _subfolder(self, top: int, folder: int, name: str, path: str, depth: int) -> None:
        if name == "node_modules":
            remedy = "Ship what the scripts need in another folder."
            self._leave_out("left_out", path, "is left out, as from packages", remedy)
            return
        descriptor = os.open(name, _FOLDER, dir_fd=folder)
        try:
            self._folder(top, descriptor, path + "/", depth + 1)
        finally:
            os.close(descriptor)

    def _link(self, top: int, path: str) -> None:
        root = os.path.realpath(self._root)
        target = os.path.realpath(os.path.join(root, path))
        if not target.startswith(root + os.sep):
            self._leave_out("link_leaves_root", path, "is a link out of the skill", "Copy the file into the skill.")
            return
        source = target[len(root) + 1 :]
        info = os.stat(source, dir_fd=top, follow_symlinks=False)
        if not stat.S_ISREG(info.st_mode):
            self._leave_out("link_not_file", path, "is a link to something other than a file", "Link to files only.")
            return
        self._file(top, path, source, info)

    def _file(self, top: int, path: str, source: str, info: os.stat_result) -> None:
        self._check("max_files", len(self._files) + 1, "files")
        if is_skill_file(path) and not info.st_mode & 0o444:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # for root as for everybody else
        seen = (info.st_dev, info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        entry = self._known.get(path)
        if entry is None or entry.source != source or entry.seen != seen:
            entry = self._hashed(top, path, source, seen, info.st_ctime_ns)
        self._total_bytes += entry.size
        self._check("max_total_bytes", self._total_bytes, "bytes")
        self._files[path] = entry

    def _hashed(self, top: int, path: str, source: str, seen: tuple[int, ...], changed_ns: int) -> FileEntry:
        allowed = self._limits.max_total_bytes - self._total_bytes
        if is_skill_file(path):
            allowed = min(allowed, self._limits.max_skill_file_bytes)
        with open_beneath(top, source) as descriptor:
            info = os.fstat(descriptor)
            if info.st_mtime_ns > self._began_ns - _WRITER_NS and is_being_written(descriptor):
                raise _being_written(path)
            hasher = hashlib.sha256()
            size = 0
            for chunk in read_chunks(descriptor):
                hasher.update(chunk)
                size += len(chunk)
                if size > allowed:
                    raise _too_large(path, allowed)
        settled = max(changed_ns, info.st_ctime_ns) < self._began_ns - _SETTLED_NS
        executable = bool(info.st_mode & 0o111)
        return FileEntry(path, source, executable, size, hasher.digest(), seen if settled else ())

    def _check(self, limit: str, value: int, noun: str) -> None:
        allowed = getattr(self._limits, limit)
        if value > allowed:
            raise InventoryError(
                "folder_too_large", f"more than {allowed} {noun} in the skill's folder", "Move what is not needed away."
            )

    def _leave_out(self, code: str, path: str, message: str, remedy: str) -> None:
        self._left_out[path] = Diagnostic(code=code, message=f"{_shown(path)} {message}", remedy=remedy)


def _shown(path: str) -> str:
    return path if path.isprintable() else ascii(path)[1:-1]


def _being_written(path: str) -> InventoryError:
    return InventoryError("being_written", f"{path} is being written", "It is looked at again when it is closed.")


def _too_large(path: str, allowed: int) -> InventoryError:
    return InventoryError("file_too_large", f"{path} is larger than {allowed} bytes", "Make it smaller.")


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
