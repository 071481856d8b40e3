"""A workspace copied for a fork. Blocking: to be called in a worker thread.

What lies in a workspace was written by tools, and a tool may be writing while it is copied. So nothing is found by
its path: every name is opened below an open folder, and a link is copied as a link and never followed. What is neither
a file, a folder nor a link is left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["CopyCount", "copy_workspace"]

_FICLONE: Final = 0x40049409  # linux/fs.h: share the blocks, where the file system can (btrfs, xfs, ...)
_PIECE_BYTES: Final = 8 << 20
_MAX_DEPTH: Final = 100  # two open folders for each level
_NO_CLONE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ENOSYS})
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class CopyCount:
    """What became of a workspace's entries. `skipped`: unreadable, vanished, nested too deeply, or no plain file."""

    files: int = 0
    skipped: int = 0


def copy_workspace(source: Path, target: Path, go_on: Callable[[], object] = lambda: None) -> CopyCount:
    """Copy a workspace, sharing blocks where the file system can; on disk when it returns.

    Args:
        source: may be missing, as the workspace of a session that never ran a tool is.
        target: must not exist.
        go_on: called again and again, and raises to end the copying: it may take hours.

    Raises:
        OSError: the copy cannot be written; what is there of it is the caller's to remove.

    """
    count = CopyCount()
    with ExitStack() as stack:
        try:
            origin = stack.enter_context(_opened(os.open(source, _FOLDER)))
        except FileNotFoundError:
            return count
        os.mkdir(target, 0o700)
        copy = stack.enter_context(_opened(os.open(target, _FOLDER)))
        _copy_folder(origin, copy, _Work(count, go_on), _MAX_DEPTH)
        _sync(copy)
    return count


@contextlib.contextmanager
def _opened(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class _Work:
    count: CopyCount
    go_on: Callable[[], object]


def _copy_folder(source: int, target: int, work: _Work, depth: int) -> None:
    for name in sorted(os.listdir(source)):
        work.go_on()
        try:
            with _reading(name):
                mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) and depth > 0:
                _copy_below(source, target, name, work, depth - 1)
            elif stat.S_ISREG(mode):
                work.count.files += _copy_file(source, target, name, work)
            elif stat.S_ISLNK(mode):
                with _reading(name):
                    link = os.readlink(name, dir_fd=source)
                os.symlink(link, name, dir_fd=target)
            else:
                work.count.skipped += 1
        except _Unreadable:
            work.count.skipped += 1


class _Unreadable(Exception):
    """The entry cannot be read, or is not any more what it was a moment ago."""


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """What the workspace's side refuses is left out. What ours refuses is an error: the copy would lack it."""
    try:
        yield
    except OSError as error:
        raise _Unreadable(name) from error


def _open_source(name: str, flags: int, source: int) -> int:
    with _reading(name):
        return os.open(name, flags, dir_fd=source)


def _copy_below(source: int, target: int, name: str, work: _Work, depth: int) -> None:
    with _opened(_open_source(name, _FOLDER, source)) as below:
        os.mkdir(name, 0o700, dir_fd=target)
        with _opened(os.open(name, _FOLDER, dir_fd=target)) as copy:
            _copy_folder(below, copy, work, depth)
            _copy_marks(below, copy)


def _copy_file(source: int, target: int, name: str, work: _Work) -> int:
    with _opened(_open_source(name, _READ, source)) as original:
        if not stat.S_ISREG(os.fstat(original).st_mode):
            raise _Unreadable(name)
        with _opened(os.open(name, _WRITE, 0o600, dir_fd=target)) as copy:
            if not _clone(original, copy):
                _copy_data(original, copy, work)
            _copy_marks(original, copy)
    return 1


def _clone(original: int, copy: int) -> bool:
    try:
        fcntl.ioctl(copy, _FICLONE, original)
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def _copy_data(original: int, copy: int, work: _Work) -> None:
    """Data only: a hole stays a hole, so that a file of a terabyte that holds nothing costs nothing."""
    size = os.fstat(original).st_size
    os.ftruncate(copy, size)
    end = 0
    while end < size:
        try:
            start = os.lseek(original, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        end = min(os.lseek(original, start, os.SEEK_HOLE), size)
        while start < end:
            work.go_on()
            piece = os.pread(original, min(_PIECE_BYTES, end - start), start)
            if not piece:
                return  # it was cut meanwhile
            start += os.pwrite(copy, piece, start)


def _copy_marks(original: int, copy: int) -> None:
    """Mode (without set-user-id and set-group-id: the copy has another owner) and time of change."""
    facts = os.fstat(original)
    os.fchmod(copy, stat.S_IMODE(facts.st_mode) & 0o1777)
    os.utime(copy, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _sync(folder: int) -> None:
    """One flush of the file system for all of it: a flush for each of thousands of files takes minutes."""
    if ctypes.CDLL(None, use_errno=True).syncfs(folder) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
