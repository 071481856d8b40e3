"""A workspace's files as bytes: opened, written whole, deleted, summed. Everything here blocks.

Each name is followed part by part from the workspace's descriptor, and a link anywhere on the way is refused: what a
tool puts there can mislead nobody. Only regular files are opened; a pipe or device of that name is not.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from skill_actors.errors import Refused
from skill_actors.files.names import UPLOAD_PREFIX, check_name
from skill_actors.files.snapshot import Mark, mark_of

__all__ = ["NewFile", "OpenFile", "checksum_of", "delete_file", "is_there", "open_file", "remove_uploads"]

_STEP: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE_BYTES: Final = 1 << 20
_OWN_PREFIX: Final = f"{UPLOAD_PREFIX}file-"
_LEFT_S: Final = 3_600.0  # what others put there, files of messages, is not under way any more after so long
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class OpenFile:
    """A file that is being read. Use it in a `with` block, or close it."""

    __slots__ = ("_fd", "mark")

    def __init__(self, fd: int, mark: Mark) -> None:
        self._fd = fd
        self.mark = mark

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; none at the end of the file. Raises OSError."""
        return os.pread(self._fd, count, offset)

    def is_as_opened(self) -> bool:
        """Whether nobody has written to it since it was opened."""
        return mark_of(os.fstat(self._fd)) == self.mark

    def close(self) -> None:
        """May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_file(root: Path, name: str) -> OpenFile:
    """Open a file of the workspace.

    Raises:
        Refused: bad_request for a name that cannot be one, not_found, conflict for what is not a regular file.

    """
    parts = check_name(name)
    with _parent(root, parts, make=False) as folder:
        _regular(folder, parts[-1], name)
        with _explained(name):
            fd = os.open(parts[-1], _READ, dir_fd=folder)
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):  # exchanged between the two
            os.close(fd)
            raise Refused("conflict", f"{name[:200]} is not a regular file")
        return OpenFile(fd, mark_of(facts))


def is_there(root: Path, name: str) -> bool:
    """Whether there is anything of this name, a link of it included. What a link on the way leads to is not there."""
    parts = check_name(name)
    try:
        with _parent(root, parts, make=False) as folder, _explained(name):
            os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
    except Refused:
        return False
    return True


def delete_file(root: Path, name: str) -> None:
    """Remove a file; a link is removed, not followed. Raises Refused: bad_request, not_found, conflict for a folder."""
    parts = check_name(name)
    with _parent(root, parts, make=False) as folder, _explained(name):
        if stat.S_ISDIR(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
            raise Refused("conflict", f"{name[:200]} is a folder; only files are deleted")
        os.unlink(parts[-1], dir_fd=folder)
        os.fsync(folder)


class NewFile:
    """A file that is being written: nobody sees it under its name before it is whole and on the disk.

    Args:
        root: the workspace; made if it is missing.
        name: checked, and replaced as a whole; a link of this name is replaced, not followed.

    Raises:
        Refused: bad_request, conflict, storage_full.

    """

    def __init__(self, root: Path, name: str) -> None:
        self._parts = check_name(name)
        self._root = root
        self._name = name
        self._hash = hashlib.sha256()
        self._temporary = f"{_OWN_PREFIX}{secrets.token_hex(8)}"
        self._landed = False
        self.size = 0
        with _explained(name):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder = os.open(root, _STEP)
            try:
                self._fd = os.open(self._temporary, _WRITE, 0o600, dir_fd=self._folder)
            except BaseException:
                os.close(self._folder)
                raise

    def write(self, data: bytes | bytearray) -> None:
        """Append. Raises Refused: storage_full."""
        with _explained(self._name):
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        self._hash.update(data)
        self.size += len(data)

    @property
    def temporary(self) -> str:
        """What it is called in the workspace's own folder until it has its name."""
        return self._temporary

    @property
    def checksum(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def commit(self, *, replace: bool = True) -> tuple[Mark, bool]:
        """Give it its name, durably: its mark, and whether there was none of that name before.

        Raises:
            Refused: conflict, if there is a folder of this name, or something at all and not to be replaced.

        """
        with _explained(self._name), _parent(self._root, self._parts, make=True) as folder:
            os.fsync(self._fd)
            last = self._parts[-1]
            before = _existing(folder, last)
            if before is not None and (stat.S_ISDIR(before.st_mode) or not replace):
                what = "a folder" if stat.S_ISDIR(before.st_mode) else "there already"
                raise Refused("conflict", f"{self._name[:200]} is {what}", details={"name": self._name})
            if replace:
                os.rename(self._temporary, last, src_dir_fd=self._folder, dst_dir_fd=folder)
            else:  # fails if somebody was quicker
                os.link(self._temporary, last, src_dir_fd=self._folder, dst_dir_fd=folder, follow_symlinks=False)
                os.unlink(self._temporary, dir_fd=self._folder)
            self._landed = True
            os.fsync(folder)
            return mark_of(os.fstat(self._fd)), before is None

    def close(self) -> None:
        """Let go of it; without a commit before, nothing is left. May be called twice."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        with contextlib.suppress(FileNotFoundError):
            if not self._landed:
                os.unlink(self._temporary, dir_fd=self._folder)
        os.close(self._folder)

    def __enter__(self) -> NewFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def checksum_of(file: OpenFile) -> str:
    """ "sha256:..." of the content as it is now."""
    digest = hashlib.sha256()
    offset = 0
    while piece := file.read_at(offset, _PIECE_BYTES):
        digest.update(piece)
        offset += len(piece)
    return f"sha256:{digest.hexdigest()}"


def remove_uploads(root: Path, *, old: bool = False) -> None:
    """Remove what uploads left that a crash cut off. No `NewFile` of this folder may be under way.

    Args:
        old: only what nothing was written to for an hour, so that one may be.

    """
    with contextlib.suppress(OSError):
        folder = os.open(root, _STEP)
        try:
            for name in os.listdir(folder):
                if not name.startswith(UPLOAD_PREFIX):
                    continue
                with contextlib.suppress(OSError):  # a folder that a tool has called so keeps no other
                    if (name.startswith(_OWN_PREFIX) and not old) or _is_old(folder, name):
                        os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)


def _is_old(folder: int, name: str) -> bool:
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < time.time() - _LEFT_S


@contextlib.contextmanager
def _parent(root: Path, parts: tuple[str, ...], *, make: bool) -> Iterator[int]:
    """A descriptor of the folder that holds the file."""
    name = "/".join(parts)
    with _explained(name):
        fd = os.open(root, _STEP)
    try:
        for part in parts[:-1]:
            with _explained(name):
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=fd)
                inner = os.open(part, _STEP, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _existing(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _regular(folder: int, name: str, shown: str) -> None:
    with _explained(shown):
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no regular file"
        raise Refused("conflict", f"{shown[:200]} is {what}; only regular files are read")


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise Refused("not_found", f"there is no file {name[:200]!r} in the workspace") from None
    except OSError as error:
        if error.errno in _FULL:
            raise Refused("storage_full", f"{name[:200]}: the disk is full", retry_after_s=10) from None
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Refused("conflict", f"{name[:200]}: a part of the path is a link, or no folder") from None
        raise Refused("conflict", f"{name[:200]}: {error.strerror}") from None
