"""Files and folders that are there after a power cut once the call has returned. All functions block."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["replace_file", "sync_directory", "write_file"]


def sync_directory(directory: Path) -> None:
    """Make the names in the directory durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, parts: Iterable[bytes], mode: int = 0o600) -> None:
    """Write a new file, flush it, and make its name durable; nothing is left of it if that fails. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def replace_file(path: Path, raw: bytes) -> None:
    """Write a file whole: whoever reads it, also after a power cut, finds the old or the new one. Raises OSError.

    It is written beside its place, with mode 0600, and put there. One writer at a time. What a killed process leaves of
    it has one name, begins with a dot, and is overwritten by the next.
    """
    building = path.parent / f".building-{path.name}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    building.unlink(missing_ok=True)
    fd = os.open(building, flags, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.rename(building, path)
    except BaseException:
        building.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
