"""Batches out of records that came another way than the ingest socket: the same form, and so the same rules.

An event is known by its run and its number. Here both come from what the record is, so that a record that comes twice
is kept once: the run from its source, the number from the record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from skilld.monitor.batch import MAX_EVENTS, Batch, read_batch

__all__ = ["MAX_LINE_BYTES", "batch_lines", "batches", "run_of", "seq_of"]

JSON = Mapping[str, Any]

MAX_LINE_BYTES: Final = 512 << 10  # half of the least that monitor.max_batch_bytes can be
_LARGEST_SEQ: Final = (1 << 61) - 1


def run_of(*source: str) -> str:
    """32 hexadecimal digits for a source."""
    return hashlib.sha256("\0".join(source).encode("utf-8", "replace")).hexdigest()[:32]


def seq_of(*record: str) -> int:
    """A number for a record: another one for another record, but for one chance in 2**61."""
    digest = hashlib.sha256("\0".join(record).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") & _LARGEST_SEQ


def batch_lines(head: JSON, events: Iterable[JSON]) -> Iterator[tuple[bytes, int]]:
    """Lines of the ingest socket without their ends, and how many events each has; none is over `MAX_LINE_BYTES`.

    An event that is larger alone goes without its data, and says so.
    """
    raw: list[bytes] = []
    size = number = 0
    for event in events:
        encoded = _encode(event)
        if len(encoded) > MAX_LINE_BYTES // 2:
            encoded = _encode({**event, "data": {"skilld.truncated_bytes": len(encoded)}})
        if raw and (size + len(encoded) > MAX_LINE_BYTES - 4096 or len(raw) >= MAX_EVENTS):
            number += 1
            yield _line(head, number, raw), len(raw)
            raw, size = [], 0
        raw.append(encoded)
        size += len(encoded) + 1
    if raw:
        yield _line(head, number + 1, raw), len(raw)


def batches(head: JSON, events: Iterable[JSON]) -> list[Batch]:
    """The same as batches.

    Raises:
        BadBatch: if the head is none.

    """
    return [read_batch(line) for line, _ in batch_lines(head, events)]


def _line(head: JSON, number: int, events: list[bytes]) -> bytes:
    return _encode({**head, "batch": number})[:-1] + b',"events":[' + b",".join(events) + b"]}"


def _encode(value: JSON) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")
