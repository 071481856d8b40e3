"""Connections that read a SQLite file beside who writes it: a bounded number, each lent to one question at a time.

    open <-> away: the file is moved aside, and another is not begun yet
    open, away -> closed, for good

Connections to a file that was moved aside are lent to nobody any more: those that are idle are closed at once, those
that are lent when they come back.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from skilld.monitor.database import BUSY_MS

__all__ = ["Away", "Reader", "Readers"]


class Away(Exception):
    """The file was moved aside, and another could not be begun yet."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A connection, and which of the files that there were at this path it reads."""

    db: apsw.Connection
    file: int


class Readers:
    """Safe to use from several threads.

    Args:
        most: connections at once; who asks for one more waits.

    """

    def __init__(self, path: Path, most: int) -> None:
        self._path: Final = path
        self._free = threading.Semaphore(most)
        self._lock = threading.Lock()
        self._idle: list[apsw.Connection] = []
        self._lent: list[apsw.Connection] = []
        self._is_away = self._is_closed = False
        self.file = 0

    @contextlib.contextmanager
    def lend(self) -> Iterator[Reader]:
        """A connection, for as long as the block lasts.

        Raises:
            Away: while there is no file.
            apsw.ConnectionClosedError: after `close`.
            apsw.Error: if the file cannot be opened.

        """
        with self._free:
            reader = self._take()
            try:
                yield reader
            finally:
                self._give_back(reader)

    def _take(self) -> Reader:
        with self._lock:
            if self._is_closed:
                raise apsw.ConnectionClosedError("the file is closed")
            if self._is_away:
                raise Away
            reader = Reader(self._idle.pop() if self._idle else self._open(), self.file)
            self._lent.append(reader.db)
            return reader

    def _open(self) -> apsw.Connection:
        db = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        db.set_busy_timeout(BUSY_MS)
        return db

    def _give_back(self, reader: Reader) -> None:
        with self._lock:
            self._lent.remove(reader.db)
            if reader.file == self.file and not self._is_away and not self._is_closed:
                self._idle.append(reader.db)
                return
        _close(reader.db)

    def leave(self) -> None:
        """The file is moved aside: nobody reads it any more, but for who has begun to."""
        with self._lock:
            self._is_away = True
            self._close_idle()

    def begin(self) -> None:
        """There is another file."""
        with self._lock:
            self.file += 1
            self._is_away = False

    def close(self) -> None:
        """Lend none any more, and interrupt what those are asked that are lent. May be called twice."""
        with self._lock:
            self._is_closed = True
            self._close_idle()
            for db in self._lent:
                db.interrupt()

    def _close_idle(self) -> None:
        while self._idle:
            _close(self._idle.pop())


def _close(db: apsw.Connection) -> None:
    with contextlib.suppress(apsw.Error):
        db.close()
