"""Two records of one call become one span, where their ids say that they belong together. Pure but for what waits.

Without ids nobody can tell which of two calls at once an end belongs to: then the start stays an event, and the end
becomes a span by itself if it says how long it took.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from skilld.monitor.batch import MAX_RAW_NAME_CHARS
from skilld.monitor.imports.record import Head, OldRecord, OwnRecord, Record
from skilld.monitor.wire import run_of, seq_of

__all__ = ["events_of"]

_MAX_WAITING: Final = 10_000
_MOST_TIMES: Final = 1_000
_NAMES: Final = {"llm": ("chat", "gen_ai.request.model"), "tool": ("execute_tool", "gen_ai.tool.name")}

Waiting = dict[tuple[str, str, str, str], tuple[int, OldRecord]]


def events_of(records: Iterable[Record]) -> Iterator[tuple[Head, dict[str, Any]]]:
    """Events, as they go over the ingest socket, and whose they are, in the order in which they ended."""
    waiting: Waiting = {}
    for number, record in _numbered(records):
        if isinstance(record, OwnRecord):
            yield record.head, record.event
        elif record.part == "alone":
            yield _head(record), _event(number, record)
        elif record.part == "start" and record.span is not None:
            yield from _begin(waiting, number, record)
        elif record.part == "start":
            yield _head(record), _event(number, record)
        else:
            begun = waiting.pop(_call(record), None)
            yield _head(record), _span(number, record, None if begun is None else begun[1])
    for number, begun_record in waiting.values():
        yield _head(begun_record), _event(number, begun_record)


def _head(record: OldRecord) -> Head:
    run = run_of("import", record.agent) if record.known is None else record.known[0]
    return Head(record.agent, run, 0, "import", "")


def _numbered(records: Iterable[Record]) -> Iterator[tuple[int, Record]]:
    """Each with its number. Records that are alike in everything, also in their time, are told apart by their count,
    also where some of other times stand between them, as threads write them.
    """
    by_time: dict[int, dict[tuple[str, ...], int]] = {}
    for record in records:
        if isinstance(record, OwnRecord):
            yield record.event["seq"], record
            continue
        if record.known is not None:
            yield record.known[1], record
            continue
        seen = by_time.setdefault(record.time_us, {})
        if len(by_time) > _MOST_TIMES:
            del by_time[next(iter(by_time))]
        count = seen[record.key] = seen.get(record.key, 0) + 1
        yield seq_of(*record.key, str(count)), record


def _begin(waiting: Waiting, number: int, record: OldRecord) -> Iterator[tuple[Head, dict[str, Any]]]:
    call = _call(record)
    if call in waiting:  # it never ended, and its id was used again
        older, begun = waiting.pop(call)
        yield _head(begun), _event(older, begun)
    waiting[call] = (number, record)
    if len(waiting) > _MAX_WAITING:
        older, begun = waiting.pop(next(iter(waiting)))
        yield _head(begun), _event(older, begun)


def _call(record: OldRecord) -> tuple[str, str, str, str]:
    return record.agent, record.trace or "", record.span or "", record.base


def _event(number: int, record: OldRecord) -> dict[str, Any]:
    name = record.name if record.part == "alone" else f"{record.name}.{record.part}"
    return {
        "seq": number,
        "time_us": record.time_us,
        "name": name,
        "channel": record.channel,
        "level": record.level,
        "trace": record.trace,
        "span": record.span,
        "parent": record.parent,
        "session": record.session,
        "agent": None if record.known is None else record.agent,  # a run of ours may have several
        "data": record.data,
    }


def _span(number: int, record: OldRecord, begun: OldRecord | None) -> dict[str, Any]:
    duration_ms = record.duration_ms
    if begun is not None:
        between_ms = (record.time_us - begun.time_us) / 1000
        duration_ms = max(0.0, between_ms) if duration_ms is None else duration_ms
    if duration_ms is None:
        return _event(number, record)
    failed = record.part == "error"
    start_us = max(0, record.time_us - round(duration_ms * 1000)) if begun is None else begun.time_us
    data = {**({} if begun is None else begun.data), **record.data}
    if failed and isinstance(data.get("error"), str):
        data.setdefault("error.message", data.pop("error"))
    return {
        **_event(number, record),
        "time_us": start_us,
        "name": _span_name(record, data),
        "level": "ERROR" if failed else record.level,
        "parent": record.parent or (None if begun is None else begun.parent),
        "duration_ms": duration_ms,
        "status": "error" if failed else "ok",
        "data": data,
    }


def _span_name(record: OldRecord, data: dict[str, Any]) -> str:
    operation, key = _NAMES.get(record.base, ("", ""))
    if operation:
        what = data.get(key)
        return f"{operation} {what}"[:MAX_RAW_NAME_CHARS] if isinstance(what, str) and what else operation
    if record.base == "function" and isinstance(data.get("function"), str):
        return str(data["function"])[:MAX_RAW_NAME_CHARS] or record.name
    return record.name
