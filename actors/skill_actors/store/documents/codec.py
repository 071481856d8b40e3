"""Rows of documents and events to records and back, each with its CRC-32.

A document's row has two: one of its data, and one of all the rest and of that sum, so that a head can be believed
without reading what may be a megabyte behind it.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from skill_actors.store.codec import Row, dump, row_sum
from skill_actors.store.documents.base import (
    Change,
    Document,
    DocumentDamaged,
    DocumentHead,
    DocumentTooLarge,
    NewEvent,
    WorkshopEvent,
)

__all__ = [
    *("DOCUMENT_COLUMNS", "EVENT_COLUMNS", "HEAD_COLUMNS", "MAX_DEPTH"),
    *("check_change", "check_event", "decode_document", "decode_event", "decode_head"),
    *("encode_data", "encode_document", "encode_event", "weight_of"),
]

HEAD_COLUMNS: Final = "kind, id, version, created, updated, owner_uid, expires, size_bytes, data_sum, sum"
DOCUMENT_COLUMNS: Final = f"{HEAD_COLUMNS}, data"
EVENT_COLUMNS: Final = "seq, time, owner_uid, topic, name, sum, data"
MAX_DEPTH: Final = 100  # what was written must be readable however deep the reader stands

_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TOPIC: Final = re.compile(r"[a-z][a-z0-9._-]{0,127}")
_MAX_ID_BYTES: Final = 512


def check_change(change: Change) -> None:
    """Raises ValueError if the change cannot be meant."""
    if _WORD.fullmatch(change.kind) is None:
        raise ValueError(f"{change.kind!r} is no kind of document")
    _check_id(change.id, change.owner_uid)
    if change.expected is not None and change.expected < 0:
        raise ValueError(f"{change.kind} {change.id} is expected at version {change.expected}")


def check_event(event: NewEvent) -> None:
    """Raises ValueError if its topic or name is none."""
    if _TOPIC.fullmatch(event.topic) is None or _TOPIC.fullmatch(event.name) is None:
        raise ValueError(f"{event.topic[:80]!r} and {event.name[:80]!r} are no topic and name of an event")


def _check_id(id_: str, owner_uid: int) -> None:
    owner, _, name = id_.partition("/")
    if owner != str(owner_uid) or owner_uid < 0:
        raise ValueError(f"the document {id_[:80]!r} is not one of the owner {owner_uid}")
    size_bytes = len(id_.encode())  # raises UnicodeEncodeError, a ValueError, on half a surrogate pair
    if not name or "\0" in name or size_bytes > _MAX_ID_BYTES:
        raise ValueError(f"{id_[:80]!r} is no id of a document: at most {_MAX_ID_BYTES} bytes, and no NUL")


def weight_of(data: Mapping[str, Any], stop_at: int) -> int:
    """About how many bytes of JSON it makes, counted only up to `stop_at`. Does not recurse.

    Raises:
        TypeError: a key is no text.
        ValueError: it is nested too deep.

    """
    total, depth = 0, 0
    level: list[Any] = [data]
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"the data is nested more than {MAX_DEPTH} levels deep")
        below: list[Any] = []
        for value in level:
            total += _weigh(value, below)
            if total >= stop_at:
                return total
        level = below
    return total


def _weigh(value: Any, below: list[Any]) -> int:
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{type(key).__name__} cannot be a key of a document: text can")
        below.extend(value.values())
        return sum(len(key) + 4 for key in value)
    if isinstance(value, Sequence):
        below.extend(value)
        return len(value) + 2
    return 8


def encode_data(data: Mapping[str, Any], max_bytes: int, what: str) -> tuple[str, int]:
    """The data as JSON, and its size in bytes.

    Raises:
        DocumentTooLarge: it takes more than `max_bytes`.
        TypeError, ValueError: it is not JSON-ready, or nested too deep.

    """
    # What is far too large is refused before it is made; dict and list may hold themselves, which depth finds.
    if weight_of(data, 8 * max_bytes) >= 8 * max_bytes:
        raise _too_large(what, "far more", max_bytes)
    text = dump(data)
    size_bytes = len(text) if text.isascii() else len(text.encode())
    if size_bytes > max_bytes:
        raise _too_large(what, f"{size_bytes}", max_bytes)
    return text, size_bytes


def _too_large(what: str, found: str, max_bytes: int) -> DocumentTooLarge:
    return DocumentTooLarge(f"{what} takes {found} bytes and may take {max_bytes}")


def encode_document(change: Change, version: int, created: str, updated: str, text: str, size_bytes: int) -> Row:
    """A row of DOCUMENT_COLUMNS."""
    head = (
        change.kind, change.id, version, created, updated, change.owner_uid, change.expires, size_bytes,
        zlib.crc32(text.encode()),
    )  # fmt: skip
    return (*head, row_sum(*head), text)


def decode_head(row: Row) -> DocumentHead:
    """Raises DocumentDamaged."""
    kind, id_, version, created, updated, owner_uid, expires, size_bytes, _, stored = row[:10]
    _verify(row[:9], stored, f"{kind} {id_}")
    return DocumentHead(
        kind=kind,
        id=id_,
        version=version,
        created=created,
        updated=updated,
        owner_uid=owner_uid,
        size_bytes=size_bytes,
        expires=expires,
    )


def decode_document(row: Row) -> Document:
    """Raises DocumentDamaged."""
    kind, id_, version, created, updated, owner_uid, expires, size_bytes, data_sum, stored, text = row
    _verify(row[:9], stored, f"{kind} {id_}")
    if zlib.crc32(text.encode(errors="surrogatepass")) != data_sum:
        raise _damaged(f"{kind} {id_}")
    return Document(
        kind=kind,
        id=id_,
        version=version,
        created=created,
        updated=updated,
        owner_uid=owner_uid,
        data=json.loads(text),
        expires=expires,
        size_bytes=size_bytes,
    )


def encode_event(event: NewEvent, seq: int, time: str, text: str) -> Row:
    """A row of EVENT_COLUMNS."""
    head = (seq, time, event.owner_uid, event.topic, event.name)
    return (*head, row_sum(*head, text), text)


def decode_event(row: Row) -> WorkshopEvent:
    """Raises DocumentDamaged."""
    seq, time, owner_uid, topic, name, stored, text = row
    _verify((seq, time, owner_uid, topic, name, text), stored, f"the workshop event {seq}")
    return WorkshopEvent(seq=seq, time=time, owner_uid=owner_uid, topic=topic, name=name, data=json.loads(text))


def _verify(values: Row, stored: int, what: str) -> None:
    try:
        found = row_sum(*values)
    except UnicodeEncodeError:
        found = -1
    if found != stored:
        raise _damaged(what)


def _damaged(what: str) -> DocumentDamaged:
    return DocumentDamaged(
        f"{what} is damaged on disk: its checksum does not match. Restore a backup, or remove it and write it anew"
    )
