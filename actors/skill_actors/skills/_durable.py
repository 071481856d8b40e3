"""A small file that is replaced whole: whoever reads it, also after a power cut, finds the old or the new one."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["replace_file", "sync_folder"]


def replace_file(path: Path, raw: bytes) -> None:
    """Write the file beside its place, then put it there. Blocks. One writer at a time. Raises OSError.

    What a killed process leaves of it has one name, begins with a dot, and is overwritten by the next.
    """
    building = path.parent / f".building-{path.name}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    building.unlink(missing_ok=True)
    descriptor = os.open(building, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.rename(building, path)
    except BaseException:
        building.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in the folder durable. Blocks. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
