"""The writes of documents, applied on the journal's writer thread inside its transaction (see `store.changes`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import apsw

from skill_actors.store.changes import Outcome
from skill_actors.store.codec import Row, row_sum
from skill_actors.store.documents.base import (
    MAX_CHANGES,
    MAX_DOCUMENT_BYTES,
    MAX_EVENT_BYTES,
    Applied,
    Change,
    Document,
    DocumentConflict,
    DocumentDamaged,
    DocumentHead,
    DocumentsFull,
    NewEvent,
    Room,
    WorkshopEvent,
)
from skill_actors.store.documents.codec import (
    DOCUMENT_COLUMNS,
    EVENT_COLUMNS,
    HEAD_COLUMNS,
    check_change,
    check_event,
    decode_head,
    encode_data,
    encode_document,
    encode_event,
)

__all__ = ["DocumentsWrite", "ForgetEventsWrite", "RecountWrite", "counts_of", "line_of"]

_ROW_BYTES: Final = 200  # a guess; it only sizes batches
_EVENTS_AT_ONCE: Final = 500

_HEAD: Final = f"SELECT {HEAD_COLUMNS} FROM document WHERE kind = ? AND id = ?"
_PUT: Final = f"""
INSERT INTO document ({DOCUMENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (kind, id) DO UPDATE SET
    version = excluded.version, created = excluded.created, updated = excluded.updated, owner_uid = excluded.owner_uid,
    expires = excluded.expires, size_bytes = excluded.size_bytes, data_sum = excluded.data_sum, sum = excluded.sum,
    data = excluded.data
"""
_COUNT: Final = """
INSERT INTO document_count (kind, owner_uid, documents, size_bytes, documents_sum)
VALUES (?1, ?2, ?3, ?4, ?5 & 4294967295)
ON CONFLICT (kind, owner_uid) DO UPDATE SET
    documents = documents + ?3, size_bytes = size_bytes + ?4, documents_sum = (documents_sum + ?5) & 4294967295
"""
_COUNTED: Final = "SELECT documents, size_bytes FROM document_count WHERE kind = ? AND owner_uid = ?"
_PUT_EVENT: Final = f"INSERT INTO workshop_event ({EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_PUT_LINE: Final = "INSERT OR REPLACE INTO workshop_line (id, first_seq, last_seq, sum) VALUES (1, ?, ?, ?)"


class DocumentsWrite:
    """Changes of documents and the events that tell of them; `result` is set when it was applied.

    Encoding much data takes a while: make it in a worker thread then.

    Raises:
        ValueError, TypeError, DocumentTooLarge: see DocumentStore.apply.

    """

    __slots__ = ("_changes", "_events", "_room", "opens_work", "result", "size_bytes")

    def __init__(
        self, changes: Sequence[Change], events: Sequence[NewEvent], opens_work: bool | None, room: Sequence[Room]
    ) -> None:
        _check(changes, events)
        self._room = tuple(room)
        self._changes = [(change, _encoded(change)) for change in changes]
        self._events = [
            (event, encode_data(event.data, MAX_EVENT_BYTES, f"the event {event.topic}.{event.name}")[0])
            for event in events
        ]
        self.opens_work = _may_make(changes) if opens_work is None else opens_work
        self.size_bytes = sum(_ROW_BYTES + size_bytes for _, (_, size_bytes) in self._changes)
        self.size_bytes += sum(_ROW_BYTES + len(text) for _, text in self._events)
        self.result = Applied()

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        try:
            heads = [_head(db, change, now) for change, _ in self._changes]
            first, last = line_of(db)
            self._check_room(db)
        except (DocumentConflict, DocumentDamaged, DocumentsFull) as error:
            return error
        documents: list[Document] = []
        removed = 0
        for (change, (text, size_bytes)), head in zip(self._changes, heads, strict=True):
            if change.data is None:
                removed += _remove(db, change)
            else:
                documents.append(_put(db, change, head, now, text, size_bytes))
        events = _put_events(db, self._events, first, last, now)
        self.result = Applied(documents=tuple(documents), removed=removed, events=events)
        return True

    def _check_room(self, db: apsw.Connection) -> None:
        for room in self._room:
            more = more_bytes = 0
            for change, (_, size_bytes) in self._changes:
                if (change.kind, change.owner_uid) == (room.kind, room.owner_uid):
                    there, _, before_bytes = _counted(db, change)
                    more += (change.data is not None) - there
                    more_bytes += size_bytes - before_bytes
            if more <= 0 and more_bytes <= 0:
                continue
            row = db.execute(_COUNTED, (room.kind, room.owner_uid)).fetchone() or (0, 0)
            _refuse_beyond("documents", int(row[0]), more, room.documents, room)
            _refuse_beyond("bytes", int(row[1]), more_bytes, room.size_bytes, room)


class ForgetEventsWrite:
    """Some of the oldest events, if they are older than a time; `removed` says how many this step took."""

    __slots__ = ("_before", "removed")

    def __init__(self, before: str) -> None:
        self._before = before
        self.removed = 0

    @property
    def size_bytes(self) -> int:
        return _ROW_BYTES

    @property
    def opens_work(self) -> bool:
        return False

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        try:
            first, last = line_of(db)
        except DocumentDamaged as error:
            return error
        rows: list[Row] = db.execute(
            "SELECT seq, time < ? FROM workshop_event ORDER BY seq LIMIT ?", (self._before, _EVENTS_AT_ONCE)
        ).fetchall()
        through = 0
        for seq, is_old in rows:
            if not is_old:
                break
            through = int(seq)
        if not through:
            return False
        db.execute("DELETE FROM workshop_event WHERE seq <= ?", (through,))
        self.removed = db.changes()
        _put_line(db, max(first, through + 1), last)
        return True


class RecountWrite:
    """The indexes and counts anew from the rows there are. The number line goes on above every number that was seen."""

    __slots__ = ()

    @property
    def size_bytes(self) -> int:
        return _ROW_BYTES

    @property
    def opens_work(self) -> bool:
        return False

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        try:
            db.execute("REINDEX document; REINDEX workshop_event")
        except apsw.ConstraintError as error:  # two rows have one name since one of them is damaged
            return DocumentDamaged(f"the indexes of the documents cannot be made anew: {error}. Restore a backup")
        found = counts_of(db)
        db.execute("DELETE FROM document_count")
        for (kind, owner_uid), counted in found.items():
            db.execute(_COUNT, (kind, owner_uid, *counted))
        lowest, highest = db.execute("SELECT min(seq), max(seq) FROM workshop_event").fetchone() or (None, None)
        stored = db.execute("SELECT last_seq FROM workshop_line").fetchone()
        last = max(int(highest or 0), 0 if stored is None else int(stored[0]))
        if last:
            _put_line(db, int(lowest) if lowest is not None else last + 1, last)
        return True


def counts_of(db: apsw.Connection) -> dict[tuple[str, int], tuple[int, int, int]]:
    """By kind and owner: how many documents there are, their bytes, and the sum of their sums modulo 2^32."""
    rows: list[Row] = db.execute(
        "SELECT kind, owner_uid, count(*), sum(size_bytes), sum(sum) & 4294967295 FROM document"
        " GROUP BY kind, owner_uid"
    ).fetchall()
    return {(str(row[0]), int(row[1])): (int(row[2]), int(row[3]), int(row[4])) for row in rows}


def line_of(db: apsw.Connection) -> tuple[int, int]:
    """The lowest number of an event that is not forgotten, and the highest given out. Raises DocumentDamaged.

    One statement sees one state: between two the first event of all may come.
    """
    row = db.execute(
        "SELECT first_seq, last_seq, sum, EXISTS (SELECT 1 FROM workshop_event)"
        " FROM (SELECT 1) LEFT JOIN workshop_line ON 1"
    ).fetchone()
    assert row is not None  # the one row on the left is always there
    if row[0] is None:
        if row[3]:
            raise DocumentDamaged("the number line of the workshop's events is missing. Restore a backup")
        return 1, 0
    first, last, stored = (int(value) for value in row[:3])
    if row_sum("line", first, last) != stored:
        raise DocumentDamaged("the number line of the workshop's events is damaged on disk. Restore a backup")
    return first, last


def _check(changes: Sequence[Change], events: Sequence[NewEvent]) -> None:
    if max(len(changes), len(events)) > MAX_CHANGES:
        raise ValueError(f"{len(changes)} changes and {len(events)} events at once: at most {MAX_CHANGES} each")
    for change in changes:
        check_change(change)
    for event in events:
        check_event(event)
    if len({(change.kind, change.id) for change in changes}) != len(changes):
        raise ValueError("a document is changed twice at once")


def _encoded(change: Change) -> tuple[str, int]:
    if change.data is None:
        return "", 0
    return encode_data(change.data, MAX_DOCUMENT_BYTES, f"{change.kind} {change.id}")


def _may_make(changes: Sequence[Change]) -> bool:
    return any(change.data is not None and not change.expected for change in changes)


def _head(db: apsw.Connection, change: Change, now: str) -> DocumentHead | None:
    """What is stored of it, unless it has expired. Damage is nothing to a change that expects nothing.

    Raises: DocumentConflict, DocumentDamaged.
    """
    try:
        row = db.execute(_HEAD, (change.kind, change.id)).fetchone()
        head = None if row is None else decode_head(row)
    except (DocumentDamaged, UnicodeDecodeError) as error:
        if change.expected is None:
            return None
        raise DocumentDamaged(str(error)) from error
    if head is not None and head.expires is not None and head.expires <= now:
        head = None
    found = 0 if head is None else head.version
    if change.expected is not None and change.expected != found:
        raise DocumentConflict(change.kind, change.id, change.expected, found)
    return head


def _put(
    db: apsw.Connection, change: Change, head: DocumentHead | None, now: str, text: str, size_bytes: int
) -> Document:
    assert change.data is not None
    version, created = (1, now) if head is None else (head.version + 1, head.created)
    row = encode_document(change, version, created, now, text, size_bytes)
    there, sum_, before_bytes = _counted(db, change)
    db.execute(_PUT, row)
    db.execute(_COUNT, (change.kind, change.owner_uid, 1 - there, size_bytes - before_bytes, row[9] - sum_))
    return Document(
        kind=change.kind,
        id=change.id,
        version=version,
        created=created,
        updated=now,
        owner_uid=change.owner_uid,
        data=change.data,
        expires=change.expires,
        size_bytes=size_bytes,
    )


def _remove(db: apsw.Connection, change: Change) -> int:
    there, sum_, size_bytes = _counted(db, change)
    if there:
        db.execute("DELETE FROM document WHERE kind = ? AND id = ?", (change.kind, change.id))
        db.execute(_COUNT, (change.kind, change.owner_uid, -1, -size_bytes, -sum_))
    return there


def _counted(db: apsw.Connection, change: Change) -> tuple[int, int, int]:
    """What a row, however damaged, is counted with: 1 if there is one, its sum, its bytes."""
    row = db.execute(
        "SELECT sum, size_bytes FROM document WHERE kind = ? AND id = ?", (change.kind, change.id)
    ).fetchone()
    return (0, 0, 0) if row is None else (1, int(row[0]), int(row[1]))


def _refuse_beyond(what: str, found: int, more: int, limit: int, room: Room) -> None:
    if more > 0 and found + more > limit:
        raise DocumentsFull(
            f"uid {room.owner_uid} has {found} {what} of the kind {room.kind} and may have {limit}: remove some"
        )


def _put_events(
    db: apsw.Connection, events: Sequence[tuple[NewEvent, str]], first: int, last: int, now: str
) -> Sequence[WorkshopEvent]:
    stored = []
    for event, text in events:
        last += 1
        db.execute(_PUT_EVENT, encode_event(event, last, now, text))
        stored.append(
            WorkshopEvent(
                seq=last, time=now, owner_uid=event.owner_uid, topic=event.topic, name=event.name, data=event.data
            )
        )
    if stored:
        _put_line(db, first, last)
    return tuple(stored)


def _put_line(db: apsw.Connection, first: int, last: int) -> None:
    db.execute(_PUT_LINE, (first, last, row_sum("line", first, last)))
