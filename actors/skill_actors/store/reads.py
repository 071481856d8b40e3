"""The reads: a few read-only connections, each used by one worker thread at a time.

Every read is one statement, so none holds a snapshot that would keep the writer's checkpoint from finishing.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from skill_actors.sessions.events import Event
from skill_actors.store.base import Page, SessionRecord, StoreError, TurnRecord
from skill_actors.store.codec import (
    EVENT_COLUMNS,
    SESSION_COLUMNS,
    TURN_COLUMNS,
    Row,
    decode_event,
    decode_session,
    decode_turn,
)
from skill_actors.store.faults import DamagedRow

__all__ = ["MAX_PAGE", "Readers", "parse_cursor"]

MAX_PAGE: Final = 10_000

_SESSION_JOIN: Final = "session LEFT JOIN settings ON settings.session = session.id"
_LAST_SEQ: Final = 2**63 - 1

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def parse_cursor(cursor: str) -> tuple[str, str]:
    """The (updated, id) a page ended with. Raises ValueError if `cursor` is not one of ours."""
    try:
        updated, separator, id_ = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii").partition(" ")
    except (binascii.Error, ValueError):
        separator = ""
    if not separator:
        raise ValueError(f"cursor {cursor[:40]!r} was not given out by this list; begin without one")
    return updated, id_


def _cursor(record: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(" ".join(record).encode()).decode("ascii")


class Readers:
    """All methods block: call them in worker threads, at most `count` at a time."""

    def __init__(self, path: Path, count: int, vfs: str | None) -> None:
        self._path = path
        self.damaged_rows = 0
        self._idle: deque[apsw.Connection] = deque()
        try:
            for _ in range(count):
                self._idle.append(_connect(path, vfs))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def get_session(self, session: str) -> SessionRecord | None:
        rows = self._rows(
            f"SELECT {SESSION_COLUMNS} FROM {_SESSION_JOIN} WHERE session.id = ?", (session,), session, "session"
        )
        return decode_session(rows[0]) if rows else None

    def list_sessions(self, owner_uid: int | None, limit: int, cursor: str | None) -> Page:
        """Damaged sessions are left out and logged: one of them must not hide the others."""
        before = parse_cursor(cursor) if cursor is not None else ("~", "")
        owner, values = ("", ()) if owner_uid is None else (" AND owner_uid = ?", (owner_uid,))
        keys = self._rows(
            f"SELECT updated, id FROM session WHERE (updated, id) < (?, ?){owner}"
            " ORDER BY updated DESC, id DESC LIMIT ?",
            (*before, *values, limit + 1),
            "(any)",
            "session",
        )
        found = self._sound(self.get_session, (id_ for _, id_ in keys[:limit]))
        return Page(found, _cursor(keys[limit - 1]) if len(keys) > limit else None)

    def count_sessions(self) -> int:
        return int(self._rows("SELECT count(*) FROM session", (), "(any)", "session")[0][0])

    def get_turn(self, turn: str) -> TurnRecord | None:
        return self._turn("id = ?", (turn,), "(unknown)")

    def find_turn(self, session: str, idempotency_key: str) -> TurnRecord | None:
        return self._turn("session = ? AND idempotency_key = ?", (session, idempotency_key), session)

    def list_turns(self, session: str) -> Sequence[TurnRecord]:
        rows = self._rows(
            f"SELECT {TURN_COLUMNS} FROM turn WHERE session = ? ORDER BY seq", (session,), session, "turn"
        )
        return tuple(decode_turn(row) for row in rows)

    def unfinished_turns(self) -> Sequence[TurnRecord]:
        """Damaged turns are left out and logged: one of them must not keep the daemon from starting."""
        keys = self._rows(
            "SELECT session, seq FROM turn WHERE status IN ('queued', 'running') ORDER BY created, session, seq",
            (),
            "(any)",
            "turn",
        )
        return self._sound(lambda key: self._turn("session = ? AND seq = ?", key, key[0]), iter(keys))

    def read_events(self, session: str, after: int, through: int | None, limit: int) -> Sequence[Event]:
        last = _LAST_SEQ if through is None else through
        # A deleted session has no events, though its rows may still be waiting to be removed.
        rows = self._rows(
            f"SELECT {EVENT_COLUMNS} FROM event WHERE session = ? AND seq > ? AND seq <= ?"
            " AND EXISTS (SELECT 1 FROM session WHERE id = ?) ORDER BY seq LIMIT ?",
            (session, after, last, session, limit),
            session,
            "event",
        )
        return tuple(decode_event(row) for row in rows)

    def _turn(self, condition: str, values: tuple[Any, ...], session: str) -> TurnRecord | None:
        rows = self._rows(f"SELECT {TURN_COLUMNS} FROM turn WHERE {condition}", values, session, "turn")
        return decode_turn(rows[0]) if rows else None

    def _sound(self, read: Callable[[Any], _T | None], keys: Iterator[Any]) -> Sequence[_T]:
        found: list[_T] = []
        for key in keys:
            try:
                record = read(key)
            except DamagedRow as error:
                self.damaged_rows += 1
                _log.error("%s", error)
                continue
            if record is not None:
                found.append(record)
        return tuple(found)

    def _rows(self, sql: str, values: tuple[Any, ...], session: str, what: str) -> list[Row]:
        rows: list[Row] = []
        with self._connection() as db:
            try:
                for row in db.execute(sql, values):
                    rows.append(row)
            except UnicodeDecodeError as error:
                seq = None if what == "session" else _seq_of_row(db, sql, values, len(rows))
                raise DamagedRow(session, what, seq, "its text is not UTF-8") from error
            except apsw.CorruptError as error:
                raise DamagedRow(session, what, None, str(error)) from error
            except apsw.Error as error:
                raise StoreError(f"journal {self._path} cannot be read: {error}") from error
        return rows

    @contextmanager
    def _connection(self) -> Iterator[apsw.Connection]:
        db = self._idle.pop()
        try:
            yield db
        finally:
            self._idle.append(db)


def _seq_of_row(db: apsw.Connection, sql: str, values: tuple[Any, ...], index: int) -> int | None:
    """The number of the row at `index` of a query for turns or events, whose texts cannot be read."""
    row = db.execute(f"SELECT seq FROM ({sql}) LIMIT 1 OFFSET ?", (*values, index)).fetchone()
    return None if row is None else int(row[0])


def _connect(path: Path, vfs: str | None) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    db.set_busy_timeout(5_000)
    db.execute("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON")
    return db
