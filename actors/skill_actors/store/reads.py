"""The reads: a few read-only connections, each used by one worker thread at a time.

Every read is one statement, so none holds a snapshot that would keep the writer's checkpoint from finishing.

Damage to a page between the rows makes a search end early or in the wrong place, with no error and no row whose sum
does not match. So what a session gives is held against what its head says: its events are numbered without gaps as far
as `last_seq`, but for numbers that were reserved and not used. Where a page of them has gaps the events are counted.
Reads that know no session (a turn by its id, a list of sessions) go through indexes, which `verify_session` checks.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

import apsw

from skill_actors.sessions.events import Event
from skill_actors.store import queries
from skill_actors.store.base import ApprovalPage, ApprovalRecord, Page, SessionRecord, StoreError, TurnRecord
from skill_actors.store.choice import SessionChoice
from skill_actors.store.codec import (
    APPROVAL_COLUMNS,
    SESSION_COLUMNS,
    TURN_COLUMNS,
    Row,
    decode_approval,
    decode_event,
    decode_session,
    decode_turn,
)
from skill_actors.store.faults import DamagedRow
from skill_actors.store.quarantine import Quarantine

__all__ = ["MAX_PAGE", "Readers", "parse_cursor"]

MAX_PAGE: Final = 10_000

_SESSION_JOIN: Final = "session LEFT JOIN settings ON settings.session = session.id"
_LAST_SEQ: Final = 2**63 - 1
_LOOK_AHEAD: Final = 500
_MAX_LOOK: Final = 5_000  # records of one page of a choice: about a quarter of a second
_VERIFY_EVENTS: Final = 500
_LOST_BY_INDEXES: Final = (
    (queries.UNINDEXED, "turn"),
    (queries.UNLISTED, "session"),
    (queries.UNLISTED_APPROVALS, "approval"),
)

_T = TypeVar("_T")
_A = TypeVarTuple("_A")


def parse_cursor(cursor: str) -> tuple[str, str]:
    """The (updated, id) a page ended with. Raises ValueError if `cursor` is not one of ours."""
    try:
        updated, separator, id_ = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii").partition(" ")
    except (binascii.Error, ValueError):
        separator = ""
    if not separator:
        raise ValueError(f"cursor {cursor[:40]!r} was not given out by this list; begin without one")
    return updated, id_


def _cursor(record: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(" ".join(record).encode()).decode("ascii")


def _is_chosen(record: SessionRecord, choice: SessionChoice) -> bool:
    return choice.matches is None or choice.matches(record)


class Readers:
    """All methods block: call them in worker threads, at most `count` at a time."""

    def __init__(self, path: Path, count: int, vfs: str | None, quarantine: Quarantine) -> None:
        self._path = path
        self._quarantine = quarantine
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

    def run(self, query: Callable[[*_A], _T], *args: *_A) -> _T:
        """Call one of the methods below; damage it meets is recorded before it is raised."""
        try:
            return query(*args)
        except DamagedRow as error:
            self._record(error)
            raise

    def ask(self, query: Callable[[apsw.Connection], _T]) -> _T:
        """Call `query` with a connection."""
        with self._connection() as db:
            try:
                return query(db)
            except apsw.Error as error:
                raise StoreError(f"journal {self._path} cannot be read: {error}") from error

    def get_session(self, session: str) -> SessionRecord | None:
        rows = self._rows(
            f"SELECT {SESSION_COLUMNS} FROM {_SESSION_JOIN} WHERE session.id = ?", (session,), session, "session"
        )
        if not rows:
            self._check_absence(session)
            return None
        return _decoded(decode_session, rows, session)[0]

    def open_session(self, session: str) -> SessionRecord | None:
        """As `get_session`; also raises DamagedRow if rows are missing. Reads all rows' sums, but not what they sum."""
        record = self.get_session(session)
        if record is not None:
            self._check_sums(session)
        return record

    def verify_session(self, session: str) -> None:
        """Check every row of the session, that none is missing, and that the indexes find them."""
        if self.open_session(session) is None:
            return
        self.list_turns(session)
        for sql, what in _LOST_BY_INDEXES:
            if self._rows(sql, (session,), session, what):
                raise DamagedRow(session, what, None, "an index does not lead to it")
        self._rows_of_approvals(session)
        after = 0
        while events := self.read_events(session, after, None, _VERIFY_EVENTS):
            after = events[-1].seq

    def session_ids(self, after: str, limit: int) -> Sequence[str]:
        """From both tables that are keyed by it, so that a missing head is noticed."""
        rows = self._rows(queries.IDS, (after, limit), "(any)", "session")
        return tuple(str(row[0]) for row in rows)

    def list_sessions(self, owner_uid: int | None, limit: int, cursor: str | None) -> Page:
        """Damaged sessions are left out and logged: one of them must not hide the others."""
        keys = self._keys(owner_uid, limit + 1, cursor, "")
        found = self._sound(self.get_session, (id_ for _, id_ in keys[:limit]))
        return Page(found, _cursor(keys[limit - 1]) if len(keys) > limit else None)

    def choose_sessions(self, owner_uid: int | None, limit: int, cursor: str | None, choice: SessionChoice) -> Page:
        """As `list_sessions`, but only what is chosen; at most _MAX_LOOK records are read for one page."""
        found: list[SessionRecord] = []
        looked = 0
        while True:
            keys = self._keys(owner_uid, _LOOK_AHEAD, cursor, choice.since or "")
            for key in keys:
                cursor = _cursor(key)
                if choice.may_have(key[1]):
                    looked += 1
                    found.extend(r for r in self._sound(self.get_session, iter(key[1:])) if _is_chosen(r, choice))
                if len(found) == limit or looked == _MAX_LOOK:
                    return Page(found, cursor)
            if len(keys) < _LOOK_AHEAD:
                return Page(found, None)

    def _keys(self, owner_uid: int | None, limit: int, cursor: str | None, since: str) -> list[tuple[str, str]]:
        """(updated, id) of the sessions behind a cursor."""
        before = parse_cursor(cursor) if cursor is not None else ("~", "")
        owner, values = ("", ()) if owner_uid is None else (" AND owner_uid = ?", (owner_uid,))
        rows = self._rows(
            f"SELECT updated, id FROM session WHERE (updated, id) < (?, ?) AND updated >= ?{owner}"
            " ORDER BY updated DESC, id DESC LIMIT ?",
            (*before, since, *values, limit),
            "(any)",
            "session",
        )
        return [(str(updated), str(id_)) for updated, id_ in rows]

    def oldest_sessions(self, skip: int, limit: int) -> tuple[Sequence[tuple[str, str, int]], int]:
        """Id, time of the last change and bytes of events, oldest first; and the bytes of all sessions."""
        rows = self._rows(
            "SELECT id, updated, event_bytes FROM session ORDER BY updated, id LIMIT ? OFFSET ?",
            *((limit, skip), "(any)", "session"),
        )
        total = self._rows("SELECT coalesce(sum(event_bytes), 0) FROM session", (), "(any)", "session")
        return tuple((str(id_), str(updated), int(size)) for id_, updated, size in rows), int(total[0][0])

    def count_sessions(self) -> int:
        return int(self._rows("SELECT count(*) FROM session", (), "(any)", "session")[0][0])

    def get_turn(self, turn: str) -> TurnRecord | None:
        return self._turn("id = ?", (turn,), "(unknown)")

    def find_turn(self, session: str, idempotency_key: str) -> TurnRecord | None:
        """Not by the index: a message whose turn it has lost would be taken a second time."""
        rows = self._rows(queries.TURN_OF_KEY, (session, idempotency_key), session, "turn")
        if not rows:
            self._check_absence(session)
            return None
        stored, found, seq = rows[0]
        _check_number(session, "turn", found, stored)
        if seq is None:
            return None
        turn = self._turn("session = ? AND seq = ?", (session, seq), session)
        if turn is None and self._rows(queries.TURN_OF_KEY, (session, idempotency_key), session, "turn"):
            raise DamagedRow(session, "turn", seq, "a search does not lead to it")  # not deleted since
        return turn

    def list_turns(self, session: str) -> Sequence[TurnRecord]:
        rows = self._rows(queries.TURNS, (session,), session, "turn")
        if not rows:
            self._check_absence(session)
            return ()
        turns = _decoded(decode_turn, _without_head(rows, 1), session)
        _check_number(session, "turn", len(turns), rows[0][-1])
        return turns

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
        """Of a deleted session none, though its rows may still be waiting to be removed."""
        asked = (session, max(after, 0), _LAST_SEQ if through is None else through, limit)
        rows = self._rows(queries.EVENTS, asked, session, "event")
        if not rows:
            self._check_absence(session)
            return ()
        events = _decoded(decode_event, _without_head(rows, 2), session)
        if _lacks_numbers(events, rows[0], *asked):
            return self._read_counted(*asked)
        return events

    def _read_counted(self, session: str, after: int, through: int, limit: int) -> Sequence[Event]:
        """Events among whose numbers are gaps, after a look at all of the session that none of them was lost."""
        with self._connection() as db:
            db.execute("BEGIN")  # a short snapshot, so that it compares what belongs together
            try:
                rows = self._fetch(db, queries.EVENTS, (session, after, through, limit), session, "event")
                if not rows:
                    return ()  # deleted since
                events = _decoded(decode_event, _without_head(rows, 2), session)
                last = events[-1].seq if len(events) == limit else through
                counted = self._fetch(db, queries.COUNT_EVENTS, (session, after, last), session, "event")
            finally:
                db.execute("ROLLBACK")
        found, between = counted[0]
        _check_number(session, "event", found, rows[0][-2])
        _check_number(session, "event", len(events), between)
        return events

    def get_approval(self, id: str) -> ApprovalRecord | None:
        rows = self._rows(f"SELECT {APPROVAL_COLUMNS} FROM approval WHERE id = ?", (id,), "(unknown)", "approval")
        return decode_approval(rows[0]) if rows else None

    def list_approvals(self, chosen: Sequence[tuple[str, str | int]], limit: int, cursor: str | None) -> ApprovalPage:
        """Those whose columns have these values. Damaged ones are left out and logged: then nobody can allow them."""
        before = parse_cursor(cursor) if cursor is not None else ("~", "")
        conditions = "".join(f" AND {column} = ?" for column, _ in chosen)
        keys = self._rows(
            f"SELECT created, id FROM approval WHERE (created, id) < (?, ?){conditions}"
            " ORDER BY created DESC, id DESC LIMIT ?",
            (*before, *(value for _, value in chosen), limit + 1),
            "(any)",
            "approval",
        )
        found = self._sound(self.get_approval, (str(id_) for _, id_ in keys[:limit]))
        return ApprovalPage(found, _cursor(keys[limit - 1]) if len(keys) > limit else None)

    def _rows_of_approvals(self, session: str) -> Sequence[ApprovalRecord]:
        rows = self._rows(f"SELECT {APPROVAL_COLUMNS} FROM approval WHERE session = ?", (session,), session, "approval")
        return _decoded(decode_approval, rows, session)

    def _turn(self, condition: str, values: tuple[Any, ...], session: str) -> TurnRecord | None:
        rows = self._rows(f"SELECT {TURN_COLUMNS} FROM turn WHERE {condition}", values, session, "turn")
        return decode_turn(rows[0]) if rows else None

    def _record(self, error: DamagedRow) -> None:
        with self._connection() as db:
            self._quarantine.add(error, db)

    def _check_absence(self, session: str) -> None:
        """A session that is not there has left nothing else behind."""
        if self._rows("SELECT 1 FROM settings WHERE session = ?", (session,), session, "session"):
            raise DamagedRow(session, "session", None, "its head is missing")

    def _check_sums(self, session: str) -> None:
        rows = self._rows(queries.SUMS, (session,), session, "session")
        if not rows:
            return  # deleted since
        for place, what in ((0, "turn"), (4, "event"), (8, "approval")):
            stored, found = rows[0][place : place + 2], rows[0][place + 2 : place + 4]
            if stored != found:
                raise DamagedRow(
                    session, what, None, f"{found[0]} {what}s are there, {stored[0]} were stored, or one was replaced"
                )

    def _sound(self, read: Callable[[Any], _T | None], keys: Iterator[Any]) -> Sequence[_T]:
        found: list[_T] = []
        for key in keys:
            try:
                record = read(key)
            except DamagedRow as error:
                self._record(error)
                continue
            if record is not None:
                found.append(record)
        return tuple(found)

    def _rows(self, sql: str, values: tuple[Any, ...], session: str, what: str) -> list[Row]:
        with self._connection() as db:
            return self._fetch(db, sql, values, session, what)

    def _fetch(self, db: apsw.Connection, sql: str, values: tuple[Any, ...], session: str, what: str) -> list[Row]:
        rows: list[Row] = []
        try:
            for row in db.execute(sql, values):
                rows.append(row)
        except UnicodeDecodeError as error:
            seq = None if what not in ("turn", "event") else _seq_of_row(db, sql, values, len(rows))
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


def _decoded(decode: Callable[[Row], _T], rows: Sequence[Row], session: str) -> Sequence[_T]:
    """The records of one session. A damaged key may name another session, or none: it is this one's damage."""
    try:
        return tuple(decode(row) for row in rows)
    except DamagedRow as error:
        raise DamagedRow(session, error.what, error.seq, error.cause) from error


def _without_head(rows: Sequence[Row], columns: int) -> Sequence[Row]:
    """Rows of a session's head joined to others, which there may be none of; the head's columns stand last."""
    if rows[0][0] is None:
        return ()
    return [row[:-columns] for row in rows]


def _lacks_numbers(events: Sequence[Event], head: Row, session: str, after: int, through: int, limit: int) -> bool:
    """Whether numbers are missing among those asked for. Raises DamagedRow where the session never had such gaps."""
    stored, last_seq = head[-2:]
    before = after
    for event in events:
        if event.session != session or event.seq <= before:
            raise DamagedRow(session, "event", event.seq, "it stands in the place of another")
        before = event.seq
    last = before if len(events) == limit else min(through, last_seq)
    missing = max(last - after, 0) - len(events)
    if missing > last_seq - stored:
        raise DamagedRow(session, "event", None, f"{len(events)} events are there behind {after}, and more were stored")
    return missing > 0


def _check_number(session: str, what: str, found: int, stored: int) -> None:
    if found != stored:
        raise DamagedRow(session, what, None, f"{found} {what}s are there, {stored} were stored")


def _seq_of_row(db: apsw.Connection, sql: str, values: tuple[Any, ...], index: int) -> int | None:
    """The number of the row at `index` of a query for turns or events, whose texts cannot be read."""
    row = db.execute(f"SELECT seq FROM ({sql}) LIMIT 1 OFFSET ?", (*values, index)).fetchone()
    return None if row is None else int(row[0])


def _connect(path: Path, vfs: str | None) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    db.set_busy_timeout(5_000)
    db.execute("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON")
    return db
