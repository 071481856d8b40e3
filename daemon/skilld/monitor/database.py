"""A SQLite file of reported events or alerts: how it is opened, and what becomes of one that is damaged."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw

__all__ = ["BUSY_MS", "DAMAGE", "move_aside", "open_database", "open_or_begin_anew"]

BUSY_MS: Final = 5_000
DAMAGE: Final = (apsw.CorruptError, apsw.NotADBError)
_MOST_ASIDE: Final = 2  # damaged files that are kept for who wants to look


def open_database(path: Path, steps: Sequence[str]) -> apsw.Connection:
    """The file at this path, made if it is missing, brought up to this version if it is older.

    Args:
        steps: by the version that a file is of, from 0 for an empty one, what makes it one of the next.

    Raises:
        apsw.Error: if it is damaged, was written by a newer skilld, or cannot be used.

    """
    db = apsw.Connection(str(path))
    try:
        path.chmod(0o600)
        db.set_busy_timeout(BUSY_MS)
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "full")
        version = int(db.pragma("user_version"))
        if version > len(steps):
            raise apsw.Error(f"{path} was written by a newer skilld (version {version} of its tables)")
        if version < len(steps):
            with db:
                for step in steps[version:]:
                    db.execute(step)
                db.pragma("user_version", len(steps))
    except BaseException:
        with contextlib.suppress(apsw.Error):
            db.close()
        raise
    return db


def open_or_begin_anew(path: Path, steps: Sequence[str]) -> apsw.Connection:
    """As `open_database`, but one that is damaged is moved aside: no program's reports are worth a daemon.

    Raises:
        OSError: if the folder cannot be made.
        apsw.Error: if the file cannot be used.

    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return open_database(path, steps)
    except DAMAGE:
        move_aside(path)
        return open_database(path, steps)


def move_aside(path: Path) -> None:
    """Give the file another name; the oldest that were moved aside before go."""
    os.replace(path, path.with_name(f"{path.name}.damaged-{time.time_ns()}"))
    for old in sorted(path.parent.glob(f"{path.name}.damaged-*"))[:-_MOST_ASIDE]:
        old.unlink(missing_ok=True)
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
