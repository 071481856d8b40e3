"""Room kept for bad times: a preallocated file that is emptied when the disk is full.

What it frees lets running turns write their endings and lets sessions be deleted, while new work is refused. It is
filled again when the disk has room for it twice over, so that a disk at the edge does not go back and forth.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

__all__ = ["Reserve"]

_log = logging.getLogger(__name__)


class Reserve:
    """The file `path`, which holds `size_bytes` of disk while it is filled. All methods block: writer thread only."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self.size_bytes = size_bytes
        self._filled = False

    @property
    def filled(self) -> bool:
        return self._filled

    def fill(self) -> bool:
        """Take the room if the disk has it twice over (or the file holds it already); whether it is held now."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            _log.warning("reserve file %s cannot be opened: %s", self._path, error)
            return False
        try:
            self._filled = self._holds(fd) or (self._has_room(fd) and self._allocate(fd))
        finally:
            os.close(fd)
        return self._filled

    def release(self) -> bool:
        """Give the room back to the file system; whether there was any to give."""
        try:
            held = self._path.stat().st_blocks > 0
            os.truncate(self._path, 0)
        except FileNotFoundError:
            held = False
        except OSError as error:
            _log.warning("reserve file %s cannot be released: %s", self._path, error)
            held = False
        self._filled = False
        return held

    def _holds(self, fd: int) -> bool:
        info = os.fstat(fd)
        return info.st_size >= self.size_bytes and info.st_blocks * 512 >= self.size_bytes

    def _has_room(self, fd: int) -> bool:
        space = os.fstatvfs(fd)
        return space.f_bavail * space.f_frsize >= 2 * self.size_bytes

    def _allocate(self, fd: int) -> bool:
        try:
            os.posix_fallocate(fd, 0, self.size_bytes)
        except OSError:
            os.ftruncate(fd, 0)
            return False
        return True
