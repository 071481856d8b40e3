"""Which files a tool may touch: paths are resolved, checked, and then opened without following any link.

`locate` decides, by real path. What it returns is opened component by component below an allowed root with
O_NOFOLLOW, so that a folder swapped for a symbolic link in between leads to a refusal, never outside.
Everything here blocks: call it in a worker thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

__all__ = ["Located", "PathRefused", "locate", "opened", "opened_parent", "readable_file"]

_PATH_MAX: Final = 4095
_NAME_MAX: Final = 255
_STEP: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class PathRefused(Exception):
    """The path may not be used, or not like this. The message is for the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A path that may be used.

    Args:
        root: the allowed folder it is below.
        parts: names from there; none for the root itself.
        shown: the path as it was asked for.

    """

    root: str
    parts: tuple[str, ...]
    shown: str


def locate(path: str, *, workspace: str, readable: Sequence[Path] = ()) -> Located:
    """Resolve `path`, relative to the workspace, and check that it is inside it or one of the `readable` folders.

    `workspace` must be a real path. Raises PathRefused.
    """
    _check_text(path)
    try:
        real = os.path.realpath(os.path.join(workspace, path))
        for root in chain([workspace], map(os.path.realpath, readable)):  # of thousands, no more than it takes
            if real == root or real.startswith(root.rstrip("/") + "/"):
                parts = tuple(part for part in real[len(root) :].split("/") if part)
                return Located(root=root, parts=parts, shown=path)
    except OSError as error:
        raise PathRefused(f"{path}: {error.strerror}") from None
    allowed = f"the workspace ({workspace})" + (" and the folders of its skills" if readable else "")
    raise PathRefused(f"{path} is outside of what this tool may use: {allowed}")


def _check_text(path: str) -> None:
    if not path:
        raise PathRefused("the path is empty; the workspace itself is '.'")
    if "\0" in path:
        raise PathRefused("the path contains a NUL character")
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise PathRefused("the path is not valid Unicode: it contains half of a surrogate pair") from None
    if size > _PATH_MAX:
        raise PathRefused(f"the path has {size} bytes; the system allows {_PATH_MAX}")
    for part in path.split("/"):
        if len(part.encode()) > _NAME_MAX:
            raise PathRefused(f"a name in the path has {len(part.encode())} bytes; the system allows {_NAME_MAX}")
    if path.startswith("~"):
        raise PathRefused(f"{path}: '~' is not expanded here; write a path in the workspace (or ./{path} for the name)")


@contextlib.contextmanager
def opened(where: Located) -> Iterator[int]:
    """A descriptor (O_PATH) of the file or folder itself. Raises PathRefused; says when it does not exist."""
    with contextlib.ExitStack() as stack:
        fd = _open_root(where, stack)
        for part in where.parts:
            fd = _enter(where, part, fd, stack)
        yield fd


@contextlib.contextmanager
def opened_parent(where: Located, *, make: bool) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder that holds the file, and the file's name in it.

    With `make`, missing folders are made. Raises PathRefused.
    """
    if not where.parts:
        raise PathRefused(f"{where.shown} is a folder")
    with contextlib.ExitStack() as stack:
        fd = _open_root(where, stack)
        for part in where.parts[:-1]:
            if make:
                with _explained(where), contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=fd)
            fd = _enter(where, part, fd, stack)
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise PathRefused(f"{where.shown}: a part of the path is not a folder")
        yield fd, where.parts[-1]


def readable_file(fd: int, where: Located) -> int:
    """Open for reading what `fd` (O_PATH) refers to, if it is a regular file: nothing else is opened, for

    opening a FIFO waits and opening a device may do things. The caller closes it. Raises PathRefused.
    """
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        raise PathRefused(f"{where.shown} is {_kind(mode)}, not a regular file")
    with _explained(where):
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)


def _open_root(where: Located, stack: contextlib.ExitStack) -> int:
    with _explained(where):
        fd = os.open(where.root, _STEP | os.O_DIRECTORY)
    stack.callback(os.close, fd)
    return fd


def _enter(where: Located, part: str, folder: int, stack: contextlib.ExitStack) -> int:
    with _explained(where):
        fd = os.open(part, _STEP, dir_fd=folder)
    stack.callback(os.close, fd)
    if stat.S_ISLNK(os.fstat(fd).st_mode):
        raise PathRefused(f"{where.shown}: {part!r} became a symbolic link, or is one that leads nowhere")
    return fd


@contextlib.contextmanager
def _explained(where: Located) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise PathRefused(f"{where.shown} does not exist") from None
        if error.errno == errno.ENOTDIR:
            raise PathRefused(f"{where.shown}: a part of the path is not a folder") from None
        raise PathRefused(f"{where.shown}: {error.strerror}") from None


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFLNK: "a symbolic link",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")
