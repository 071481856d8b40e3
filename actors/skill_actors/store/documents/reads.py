"""The queries of documents and events; they block, on one of the journal's read-only connections."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import apsw

from skill_actors.store.codec import Row
from skill_actors.store.documents.base import Counted, Document, DocumentDamaged, DocumentHead, WorkshopEvent
from skill_actors.store.documents.codec import (
    DOCUMENT_COLUMNS,
    EVENT_COLUMNS,
    HEAD_COLUMNS,
    decode_document,
    decode_event,
    decode_head,
)
from skill_actors.store.documents.writes import counts_of, line_of

__all__ = ["count_of", "document_of", "documents_of", "events_of", "expired_of", "faults_of", "heads_of"]

_log = logging.getLogger(__name__)

_LIST_BYTES: Final = 32 << 20  # of the data of one answer, give or take one document
# An index that does not lead to a row hides it from whoever asks by name, though it is there and counted.
_LOST_DOCUMENTS: Final = """
SELECT kind || ' ' || id FROM document AS d NOT INDEXED WHERE NOT EXISTS (
    SELECT 1 FROM document AS i INDEXED BY sqlite_autoindex_document_1
    WHERE i.kind = d.kind AND i.id = d.id AND i.number = d.number
) LIMIT 100
"""
_LOST_EVENTS: Final = """
SELECT 'workshop event ' || seq FROM workshop_event AS e NOT INDEXED WHERE NOT EXISTS (
    SELECT 1 FROM workshop_event AS i INDEXED BY workshop_event_by_owner
    WHERE i.owner_uid = e.owner_uid AND i.seq = e.seq AND i.topic = e.topic AND i.name = e.name
) LIMIT 100
"""
_LAST: Final = "\U0010ffff"  # no character, and behind every one


def count_of(db: apsw.Connection, kind: str, owner_uid: int) -> Counted:
    row = db.execute(
        "SELECT documents, size_bytes FROM document_count WHERE kind = ? AND owner_uid = ?", (kind, owner_uid)
    ).fetchone()
    return Counted() if row is None else Counted(int(row[0]), int(row[1]))


def document_of(db: apsw.Connection, kind: str, id: str) -> Document | None:
    """Raises DocumentDamaged."""
    try:
        row = db.execute(f"SELECT {DOCUMENT_COLUMNS} FROM document WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return None if row is None else decode_document(row)
    except (UnicodeDecodeError, apsw.CorruptError) as error:
        raise DocumentDamaged(f"{kind} {id} is damaged on disk: {error}") from error


def documents_of(
    db: apsw.Connection, kind: str, owner_uid: int | None, prefix: str, after: str, limit: int
) -> Sequence[Document]:
    """One by one after their heads, so that one that cannot be read costs no other, and large ones end the page."""
    found: list[Document] = []
    while not found and (heads := heads_of(db, kind, owner_uid, prefix, after, limit)):
        size_bytes = 0
        for head in heads:
            document = _sound_document(db, head)
            if document is not None:
                found.append(document)
                size_bytes += head.size_bytes
            if size_bytes >= _LIST_BYTES:
                break
        after = heads[-1].id  # where none of them could be read, or all are gone by now, the page is not the end
    return tuple(found)


def _sound_document(db: apsw.Connection, head: DocumentHead) -> Document | None:
    try:
        return document_of(db, head.kind, head.id)
    except DocumentDamaged as error:
        _log.error("%s", error)
        return None


def heads_of(
    db: apsw.Connection, kind: str, owner_uid: int | None, prefix: str, after: str, limit: int
) -> Sequence[DocumentHead]:
    begin = prefix if owner_uid is None else f"{owner_uid}/"
    if owner_uid is not None and prefix.startswith(begin):
        begin = prefix
    elif owner_uid is not None and not begin.startswith(prefix):
        return ()
    rows = db.execute(
        f"SELECT {HEAD_COLUMNS} FROM document WHERE kind = ? AND id >= ? AND id < ? AND id > ? ORDER BY id LIMIT ?",
        (kind, begin, begin + _LAST, after, limit),
    )
    return _sound(rows)


def expired_of(db: apsw.Connection, kind: str, now: str, limit: int) -> Sequence[DocumentHead]:
    rows = db.execute(
        f"SELECT {HEAD_COLUMNS} FROM document WHERE expires IS NOT NULL AND expires <= ? AND kind = ?"
        " ORDER BY expires LIMIT ?",
        (now, kind, limit),
    )
    return _sound(rows)


def events_of(
    db: apsw.Connection,
    after: int,
    owner_uid: int | None,
    topics: Sequence[str],
    names: Sequence[str],
    limit: int,
    newest: bool,
) -> Sequence[WorkshopEvent]:
    """Damaged ones are left out and logged. Raises DocumentDamaged where SQLite itself can read no further."""
    conditions, values = _choice(owner_uid, topics, names)
    order = "seq DESC" if newest else "seq"
    sql = f"SELECT {EVENT_COLUMNS} FROM workshop_event WHERE seq > ?{conditions} ORDER BY {order} LIMIT ?"
    while True:
        try:
            rows: list[Row] = db.execute(sql, (after, *values, limit)).fetchall()
        except (UnicodeDecodeError, apsw.CorruptError) as error:
            raise DocumentDamaged(f"workshop events behind {after} are damaged on disk: {error}") from error
        found = [event for row in rows if (event := _sound_event(row)) is not None]
        if found or newest or not rows:
            return tuple(reversed(found) if newest else found)
        after = int(rows[-1][0])  # a page of nothing but damage is not the end


def _sound_event(row: Row) -> WorkshopEvent | None:
    try:
        return decode_event(row)
    except DocumentDamaged as error:
        _log.error("%s", error)
        return None


def _choice(owner_uid: int | None, topics: Sequence[str], names: Sequence[str]) -> tuple[str, list[str | int]]:
    conditions, values = "", list[str | int]()
    if owner_uid is not None:
        conditions += " AND owner_uid = ?"
        values.append(owner_uid)
    if topics:
        begins = [topic[:-1] for topic in topics if topic.endswith("*")]
        exact = [topic for topic in topics if not topic.endswith("*")]
        parts = [f"topic IN ({', '.join('?' * len(exact))})"] if exact else []
        parts += ["(topic >= ? AND topic < ?)"] * len(begins)
        conditions += f" AND ({' OR '.join(parts)})"
        values += exact
        for begin in begins:
            values += [begin, begin + _LAST]
    if names:
        conditions += f" AND name IN ({', '.join('?' * len(names))})"
        values += names
    return conditions, values


def _sound(rows: apsw.Cursor) -> Sequence[DocumentHead]:
    found = []
    for row in rows:
        try:
            found.append(decode_head(row))
        except DocumentDamaged as error:
            _log.error("%s", error)
    return tuple(found)


def faults_of(db: apsw.Connection) -> Sequence[str]:
    """What is wrong, in words: rows that are damaged, and counts that are not those of the rows.

    Holds a snapshot, so that it compares what belongs together.
    """
    db.execute("BEGIN")
    try:
        return (*_row_faults(db), *_index_faults(db), *_count_faults(db), *_line_faults(db))
    except (UnicodeDecodeError, apsw.CorruptError) as error:
        return (f"the documents cannot be read to their end: {error}",)
    finally:
        db.execute("ROLLBACK")


def _row_faults(db: apsw.Connection) -> Sequence[str]:
    faults = []
    for sql, decode in (
        (f"SELECT {DOCUMENT_COLUMNS} FROM document", decode_document),
        (f"SELECT {EVENT_COLUMNS} FROM workshop_event", decode_event),
    ):
        for row in db.execute(sql):
            try:
                decode(row)
            except DocumentDamaged as error:
                faults.append(str(error))
    return faults


def _index_faults(db: apsw.Connection) -> Sequence[str]:
    lost = [str(row[0]) for sql in (_LOST_DOCUMENTS, _LOST_EVENTS) for row in db.execute(sql)]
    return [f"an index does not lead to {name}" for name in lost]


def _count_faults(db: apsw.Connection) -> Sequence[str]:
    rows = db.execute("SELECT kind, owner_uid, documents, size_bytes, documents_sum FROM document_count")
    expected = {(str(row[0]), int(row[1])): (int(row[2]), int(row[3]), int(row[4])) for row in rows if row[2]}
    found = counts_of(db)
    return [
        f"{found.get(key, (0,))[0]} documents of the kind {key[0]} of uid {key[1]} are there, "
        f"{expected.get(key, (0,))[0]} were stored, or one was replaced"
        for key in sorted({*expected, *found})
        if expected.get(key) != found.get(key)
    ]


def _line_faults(db: apsw.Connection) -> Sequence[str]:
    try:
        first, last = line_of(db)
    except DocumentDamaged as error:
        return (str(error),)
    count, lowest, highest = db.execute("SELECT count(*), min(seq), max(seq) FROM workshop_event").get
    if count != last - first + 1 or (count and (lowest, highest) != (first, last)):
        return (f"{count} workshop events are there, and {first} to {last} were stored",)
    return ()
