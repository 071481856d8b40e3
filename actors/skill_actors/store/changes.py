"""The writes: each prepared on the caller's side, applied on the writer thread inside its transaction.

`apply` returns a refusal (an exception that is the caller's) having written nothing. Whatever it raises may leave part
of the change behind; the writer then rolls back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import apsw

from skill_actors.store.base import (
    Append,
    Fenced,
    SequenceConflict,
    SessionExists,
    SessionFull,
    SessionMissing,
    SessionRecord,
    StoreError,
)
from skill_actors.store.codec import (
    APPROVAL_COLUMNS,
    EVENT_COLUMNS,
    TURN_COLUMNS,
    Row,
    dump,
    encode_approval,
    encode_event,
    encode_turn,
    head_sum,
    row_sum,
    settings_sum,
)

__all__ = ["NO_BOUNDS", "AppendWrite", "Bounds", "CreateWrite", "DeleteWrite", "Outcome", "Write", "sweep_deleted"]

_ROW_OVERHEAD_BYTES: Final = 200  # a guess; it only sizes batches

_INSERT_EVENT: Final = f"INSERT INTO event ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_UPSERT_TURN: Final = f"""
INSERT INTO turn ({TURN_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    seq = excluded.seq, status = excluded.status, created = excluded.created, updated = excluded.updated,
    idempotency_key = excluded.idempotency_key, digest = excluded.digest, result = excluded.result, sum = excluded.sum
"""
_MOVE_HEAD: Final = """
UPDATE session SET last_seq = ?, fence = ?, updated = ?, head_sum = ?,
    events = events + ?, events_sum = (events_sum + ?) & 4294967295, event_bytes = event_bytes + ?
WHERE id = ? AND last_seq = ? AND fence <= ?
"""
_COUNT_TURN: Final = """
UPDATE session SET turns = turns + ?, turns_sum = (turns_sum + ?) & 4294967295 WHERE id = ?
"""
_UPSERT_APPROVAL: Final = f"""
INSERT INTO approval ({APPROVAL_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    turn = excluded.turn, call = excluded.call, owner_uid = excluded.owner_uid, status = excluded.status,
    created = excluded.created, expires = excluded.expires, updated = excluded.updated, request = excluded.request,
    decision = excluded.decision, sum = excluded.sum
"""
_COUNT_APPROVAL: Final = """
UPDATE session SET approvals = approvals + ?, approvals_sum = (approvals_sum + ?) & 4294967295 WHERE id = ?
"""
_DELETE_EVENTS: Final = """
DELETE FROM event WHERE session = ?1 AND seq IN (SELECT seq FROM event WHERE session = ?1 ORDER BY seq LIMIT ?2)
"""


Outcome = bool | Exception  # an exception is a refusal, and the caller's


class Bounds(NamedTuple):
    """How large a session may be that takes a message; 0 is no bound."""

    events: int = 0
    event_bytes: int = 0


NO_BOUNDS: Final = Bounds()


class Write(Protocol):
    """One change in the writer's queue."""

    @property
    def size_bytes(self) -> int:
        """About how much it stores."""

    @property
    def opens_work(self) -> bool:
        """Whether it begins something new, which is refused while the disk is full so that the rest can be ended."""

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        """Do it: whether there was anything to do, or why it is refused, with nothing written."""


@dataclass(frozen=True, slots=True)
class CreateWrite:
    """A new session."""

    record: SessionRecord
    settings: str
    totals: str

    @classmethod
    def of(cls, record: SessionRecord) -> CreateWrite:
        """Raises TypeError, ValueError if `record` is not JSON-ready."""
        if record.last_seq < 0 or record.fence < 0:
            raise ValueError(f"session {record.id} has last_seq {record.last_seq} and fence {record.fence}")
        return cls(record, dump(record.settings), dump(record.totals))

    @property
    def size_bytes(self) -> int:
        return len(self.settings) + len(self.totals) + _ROW_OVERHEAD_BYTES

    @property
    def opens_work(self) -> bool:
        return True

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        record = self.record
        taken = "SELECT EXISTS (SELECT 1 FROM session WHERE id = ?1 UNION ALL SELECT 1 FROM deleted WHERE session = ?1)"
        if db.execute(taken, (record.id,)).get:
            return SessionExists(f"session {record.id} exists already, or did; take a new id")
        head = head_sum(record.id, record.updated, record.last_seq, record.fence)
        db.execute(
            "INSERT INTO session (id, owner_uid, created, updated, last_seq, fence, head_sum, totals, totals_sum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id, record.owner_uid, record.created, record.updated, record.last_seq, record.fence, head,
                self.totals, row_sum(record.id, self.totals),
            ),
        )  # fmt: skip
        checksum = settings_sum(record.id, record.owner_uid, record.created, self.settings)
        db.execute("INSERT INTO settings (session, data, sum) VALUES (?, ?, ?)", (record.id, self.settings, checksum))
        return True


class AppendWrite:
    """An Append with its rows ready. Raises TypeError, ValueError if it contradicts itself or is not JSON-ready."""

    # A plain class: the one write that there are many of, and a frozen dataclass takes three times as long to make.
    __slots__ = (
        *("_bounds", "change", "event_bytes", "events", "events_sum"),
        *("approvals", "opens_work", "settings", "size_bytes", "totals", "turns"),
    )

    def __init__(self, change: Append) -> None:
        _check_append(change)
        self.change = change
        self.events = [encode_event(event) for event in change.events]
        self.turns: list[Row] = []
        self.settings: str | None = None
        self.totals: str | None = None
        self.opens_work = False
        self._bounds = NO_BOUNDS
        self.events_sum = self.event_bytes = 0
        for row in self.events:
            data = row[6]
            self.event_bytes += len(data) if data.isascii() else len(data.encode())
            self.events_sum += row[7]
        self.size_bytes = _ROW_OVERHEAD_BYTES * (1 + len(self.events)) + self.event_bytes
        for turn in change.turns:
            row = encode_turn(turn)
            self.turns.append(row)
            self.size_bytes += _ROW_OVERHEAD_BYTES + len(row[8] or "")
            self.opens_work = self.opens_work or turn.status == "queued"
        self.approvals = [encode_approval(approval) for approval in change.approvals]
        self.size_bytes += sum(_ROW_OVERHEAD_BYTES + len(row[9]) + len(row[10] or "") for row in self.approvals)
        if change.settings is not None:
            self.settings = dump(change.settings)
            self.size_bytes += len(self.settings)
        if change.totals is not None:
            self.totals = dump(change.totals)

    def bound(self, bounds: Bounds) -> AppendWrite:
        """Let no message be taken by a session that has reached these bounds. Returns itself."""
        self._bounds = bounds
        return self

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        change = self.change
        if self.opens_work and (refusal := _over(db, change.session, self._bounds)) is not None:
            return refusal
        session, fence = change.session, change.fence
        head = head_sum(session, now, change.last_seq, fence)
        counted = (len(self.events), self.events_sum, self.event_bytes)
        db.execute(_MOVE_HEAD, (change.last_seq, fence, now, head, *counted, session, change.expected_last_seq, fence))
        if db.changes() == 0:
            return _refusal(db, change)
        for row in self.events:
            db.execute(_INSERT_EVENT, row)
        for row in self.turns:
            _store_turn(db, row)
        for row in self.approvals:
            _store_approval(db, row)
        if self.settings is not None:
            _store_settings(db, session, self.settings)
        if self.totals is not None:
            checksum = row_sum(session, self.totals)
            db.execute("UPDATE session SET totals = ?, totals_sum = ? WHERE id = ?", (self.totals, checksum, session))
        return True


@dataclass(frozen=True, slots=True)
class DeleteWrite:
    """Removal of a session. Its events go in chunks afterwards; nobody sees them any more."""

    session: str

    @property
    def size_bytes(self) -> int:
        return _ROW_OVERHEAD_BYTES

    @property
    def opens_work(self) -> bool:
        return False

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        db.execute("DELETE FROM session WHERE id = ?", (self.session,))
        found = db.changes()
        db.execute("DELETE FROM settings WHERE session = ?", (self.session,))
        if found + db.changes() == 0:  # one of a damaged session may be there without the other
            return False
        db.execute("DELETE FROM turn WHERE session = ?", (self.session,))
        db.execute("DELETE FROM approval WHERE session = ?", (self.session,))
        db.execute("INSERT OR IGNORE INTO deleted (session) VALUES (?)", (self.session,))
        return True


def sweep_deleted(db: apsw.Connection, chunk: int) -> bool:
    """Remove up to `chunk` events of one deleted session; False if no deleted session is left."""
    session = db.execute("SELECT session FROM deleted LIMIT 1").get
    if session is None:
        return False
    db.execute(_DELETE_EVENTS, (session, chunk))
    if db.changes() < chunk:
        db.execute("DELETE FROM deleted WHERE session = ?", (session,))
    return True


def _store_turn(db: apsw.Connection, row: Row) -> None:
    session, id_, checksum = row[0], row[2], row[-1]
    owner, before = db.execute("SELECT session, sum FROM turn WHERE id = ?", (id_,)).get or (session, None)
    if owner != session:
        raise apsw.ConstraintError(f"turn {id_} belongs to another session")
    db.execute(_UPSERT_TURN, row)
    db.execute(_COUNT_TURN, (1 if before is None else 0, checksum - (before or 0), session))


def _store_approval(db: apsw.Connection, row: Row) -> None:
    id_, session, checksum = row[0], row[1], row[-1]
    owner, before = db.execute("SELECT session, sum FROM approval WHERE id = ?", (id_,)).get or (session, None)
    if owner != session:
        raise apsw.ConstraintError(f"approval {id_} belongs to another session")
    db.execute(_UPSERT_APPROVAL, row)
    db.execute(_COUNT_APPROVAL, (1 if before is None else 0, checksum - (before or 0), session))


def _store_settings(db: apsw.Connection, session: str, data: str) -> None:
    owner_uid, created = db.execute("SELECT owner_uid, created FROM session WHERE id = ?", (session,)).get
    checksum = settings_sum(session, owner_uid, created, data)
    db.execute("UPDATE settings SET data = ?, sum = ? WHERE session = ?", (data, checksum, session))


def _refusal(db: apsw.Connection, change: Append) -> StoreError:
    row = db.execute("SELECT last_seq, fence FROM session WHERE id = ?", (change.session,)).get
    if row is None:
        return SessionMissing(f"session {change.session} does not exist")
    last_seq, fence = row
    if fence > change.fence:
        return Fenced(f"session {change.session} is held under token {fence}; this writer's token is {change.fence}")
    return SequenceConflict(
        f"session {change.session} is at {last_seq}, not at {change.expected_last_seq}: read it again"
    )


def _over(db: apsw.Connection, session: str, bounds: Bounds) -> SessionFull | None:
    if bounds == NO_BOUNDS:
        return None
    row = db.execute("SELECT events, event_bytes FROM session WHERE id = ?", (session,)).get
    events, event_bytes = row if row is not None else (0, 0)
    for found, limit, what in ((events, bounds.events, "events"), (event_bytes, bounds.event_bytes, "bytes")):
        if 0 < limit <= found:
            return SessionFull(f"session {session} has {found} {what} and may have {limit}: go on in a new one")
    return None


def _check_append(change: Append) -> None:
    session, first, last = change.session, change.expected_last_seq, change.last_seq
    if not 0 <= first <= last:
        raise ValueError(f"append to {session} goes from {first} to {last}")
    if change.fence < 0:
        raise ValueError(f"append to {session} has fencing token {change.fence}")
    for event in change.events:
        if event.session != session or not 1 <= event.seq <= last:
            raise ValueError(f"event {event.seq} of {event.session} is not one of {session} up to {last}")
    for turn in change.turns:
        if turn.session != session or not 1 <= turn.seq <= last:
            raise ValueError(f"turn {turn.id} at {turn.seq} of {turn.session} is not one of {session} up to {last}")
    for approval in change.approvals:
        if approval.session != session:
            raise ValueError(f"approval {approval.id} of {approval.session} is not one of {session}")
