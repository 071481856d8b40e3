"""A SQLite file of reported events or alerts: how it is opened, and what becomes of one that is damaged."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import apsw

__all__ = ["BUSY_MS", "DAMAGE", "WrittenFile", "open_database"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

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


class WrittenFile:
    """A file with one writer, in the place of which another is begun when it turns out to be damaged: no program's
    reports are worth a daemon. The numbers of its rows go on: who follows misses nothing of what comes.

    Args:
        steps: as of `open_database`.
        numbered: tables whose rows have numbers that never come again. Who adds to one keeps `newest` true.
        said: what is in it, for the log.
        left: called when the file is about to be moved aside.
        begun: called when another is there.

    Raises:
        OSError: if its folder cannot be made.
        apsw.Error: if it cannot be used.

    """

    def __init__(
        self,
        path: Path,
        steps: Sequence[str],
        numbered: Sequence[str],
        said: str,
        left: Callable[[], None] = lambda: None,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.path: Final = path
        self.newest: dict[str, int] = {}
        self._steps = steps
        self._said = said
        self._left = left
        self._begun = begun
        self._lock = threading.Lock()
        self._is_gone = self._is_damaged = False  # another is not begun yet; this one is to be moved aside before
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self.db = open_database(path, steps)
        except DAMAGE:
            _move_aside(path)
            self.db = open_database(path, steps)
        self.newest |= self.transact(lambda: {table: self._newest_of(table) for table in numbered})

    def _newest_of(self, table: str) -> int:
        question = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?"
        return int(self.db.execute(question, (table,)).get)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else writes meanwhile. Raises apsw.Error where it was damaged and another cannot be begun yet."""
        with self._lock:
            if self._is_gone:
                self._begin()
            yield

    def transact(self, work: Callable[[], T]) -> T:
        """Do it in a transaction; once more in a new file, if this one turns out to be damaged."""
        with self.held():
            try:
                with self.db:
                    found = work()
            except DAMAGE as error:
                self.begin_again(error)
                with self.db:
                    found = work()
        return found

    def begin_again(self, error: apsw.Error) -> None:
        """It is damaged: move it aside, and begin another. For who holds it."""
        _log.error("the file of %s is damaged, is moved aside, and another begun: %s", self._said, error)
        self._left()
        self._is_gone = self._is_damaged = True
        self._begin()

    def _begin(self) -> None:
        """Begin another file; who comes next tries again if it fails, as on a disk that is full."""
        with contextlib.suppress(apsw.Error):
            self.db.close()
        try:
            if self._is_damaged:
                _move_aside(self.path)
                self._is_damaged = False
            self.db = open_database(self.path, self._steps)
        except (OSError, apsw.CantOpenError) as error:  # who uses it waits for what passes of the store's own errors
            raise apsw.IOError(
                f"a file of {self._said} cannot be begun in the place of a damaged one: {error}"
            ) from error
        with self.db:
            for table, newest in self.newest.items():
                self.db.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
                self.db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, newest))
        self._begun()
        self._is_gone = False

    def close(self) -> None:
        """When who uses it is done. May be called twice."""
        with self._lock:
            self.db.close()


def _move_aside(path: Path) -> None:
    """Give the file another name; the oldest that were moved aside before go. Done again if it ended half-way."""
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, path.with_name(f"{path.name}.damaged-{time.time_ns()}"))
    for old in sorted(path.parent.glob(f"{path.name}.damaged-*"))[:-_MOST_ASIDE]:
        old.unlink(missing_ok=True)
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
