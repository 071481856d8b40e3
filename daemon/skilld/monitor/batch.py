"""What a line on the ingest socket means: a batch of events of one run of one program. No I/O.

    {"batch", "run", "agent", "pid", "program", "environment", "events": [
        {"seq", "time_us", "name", "channel", "level", "trace", "span", "parent", "duration_ms", "status", "data"}]}

A line that is no batch is refused as a whole; an event that is none is refused alone, and the others count.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["LEVELS", "MAX_EVENTS", "BadBatch", "Batch", "MonitorEvent", "read_batch"]

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
STATUSES: Final = ("ok", "error", "cancelled", "closed", "abandoned")
MAX_EVENTS: Final = 5_000
_MAX_DATA_CHARS: Final = 256 << 10
_LARGEST: Final = 1 << 62
_HEX: Final = frozenset("0123456789abcdef")
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # made once: it is half the time


class BadBatch(ValueError):
    """The line is no batch; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorEvent:
    """One event, or a span that has ended.

    Args:
        time_us: when it happened or began, microseconds since 1970, by the program's clock.
        duration_us: of a span; None for an event.
        data: JSON.

    """

    seq: int
    time_us: int
    name: str
    channel: str
    level: str
    trace: str | None
    span: str | None
    parent: str | None
    duration_us: int | None
    status: str | None
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events of one run, as they were sent.

    Args:
        number: the client's; it is acknowledged by it.
        pid: as the program says; what the kernel says of who sent it is told apart.
        refused: how many events of it were none.

    """

    number: int
    run: str
    agent: str
    pid: int
    program: str
    environment: str
    events: tuple[MonitorEvent, ...]
    refused: int


def read_batch(line: bytes) -> Batch:
    """The batch that a line holds.

    Raises:
        BadBatch: if it is none.

    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadBatch("the line is not JSON in UTF-8") from error
    if not isinstance(found, dict) or not isinstance(found.get("events"), list):
        raise BadBatch("the line is no object with a list of events")
    if len(found["events"]) > MAX_EVENTS:
        raise BadBatch(f"it has {len(found['events'])} events; {MAX_EVENTS} are allowed")
    run = str(found.get("run"))
    if not _is_hex(run, 32):
        raise BadBatch("run: expected 32 hexadecimal digits")
    if not _is_count(found.get("batch")):
        raise BadBatch("batch: expected a whole number of at least 0")
    events = [event for raw in found["events"] if (event := _read_event(raw)) is not None]
    return Batch(
        number=found["batch"],
        run=run,
        agent=_name(found.get("agent"), 200) or "unnamed",
        pid=found["pid"] if _is_count(found.get("pid")) else 0,
        program=_name(found.get("program"), 200),
        environment=_name(found.get("environment"), 64),
        events=tuple(events),
        refused=len(found["events"]) - len(events),
    )


def _read_event(raw: Any) -> MonitorEvent | None:
    """The event; None if it is none."""
    if not isinstance(raw, dict):
        return None
    name, level, duration_ms = raw.get("name"), raw.get("level"), raw.get("duration_ms")
    if not _is_count(raw.get("seq")) or not _is_count(raw.get("time_us")) or not isinstance(name, str) or not name:
        return None
    if level not in LEVELS or (raw.get("status") is not None and raw["status"] not in STATUSES):
        return None
    if duration_ms is not None and not (isinstance(duration_ms, (int, float)) and 0 <= duration_ms < 1e12):
        return None
    ids = raw.get("trace"), raw.get("span"), raw.get("parent")
    if any(id is not None and not _is_hex(id, 32) for id in ids):
        return None
    data = _encode(raw.get("data"))
    if len(data) > _MAX_DATA_CHARS:
        return None
    return MonitorEvent(
        seq=raw["seq"],
        time_us=raw["time_us"],
        name=_name(name, 200),
        channel=_name(raw.get("channel"), 64) or "SYSTEM",
        level=level,
        trace=ids[0],
        span=ids[1],
        parent=ids[2],
        duration_us=None if duration_ms is None else round(duration_ms * 1000),
        status=raw.get("status"),
        data=_storable(data),
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _is_hex(value: Any, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most and set(value) <= _HEX


def _name(value: Any, most: int) -> str:
    """A name as text of one line: it is printed on terminals."""
    if not isinstance(value, str):
        return ""
    if value.isprintable() and value.isascii():
        return value[:most]
    return "".join(letter if letter.isprintable() else "?" for letter in _storable(value[:most]))


def _storable(text: str) -> str:
    """Without lone surrogates, which JSON can spell and no file can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
