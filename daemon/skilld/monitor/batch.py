"""What a line on the ingest socket means: a batch of events of one run of one program. No I/O.

    {"batch", "run", "agent", "pid", "program", "environment", "events": [
        {"seq", "time_us", "name", "channel", "level", "trace", "span", "parent", "duration_ms", "status", "data",
         "session", "user", "tags", "agent", "masked"}]}

A line that is no batch is refused as a whole; an event that is none is refused alone, and the others count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

__all__ = [
    "LEVELS",
    "MAX_EVENTS",
    "MAX_RAW_NAME_CHARS",
    "STATUSES",
    "BadBatch",
    "Batch",
    "Hello",
    "MonitorEvent",
    "as_json",
    "as_name",
    "read_batch",
    "read_line",
    "storable",
]

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
STATUSES: Final = ("ok", "error", "cancelled", "closed", "abandoned")
MAX_EVENTS: Final = 5_000
MAX_RAW_NAME_CHARS: Final = 1_024
"""Of a name as it comes. It is cut to its own length by `naming`, after it was looked into: what stands across a cut is
half a secret that no rule knows any more."""
_MAX_DATA_CHARS: Final = 256 << 10
_MAX_DEPTH: Final = 500  # half of what readers of JSON take: what can be stored can be read again, wherever it is
_MAX_TAGS: Final = 20
_MAX_MASKED: Final = 64
_LARGEST: Final = 1 << 62
_HEX: Final = frozenset("0123456789abcdef")
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=True).encode


class BadBatch(ValueError):
    """The line is no batch; the message says why."""


class MonitorEvent(NamedTuple):
    """One event, or a span that has ended. A changed copy is made with `_replace`.

    Args:
        seq: its number in its run: an event is known by both.
        time_us: when it happened or began, microseconds since 1970, by the program's clock.
        duration_us: of a span; None for an event.
        data: a JSON value, as it was read; encoded when it is stored.
        session: of the program's own conversations; None without one, as `user`.
        tags: the program's own.
        agent: this event's, where it is not the run's.
        masked: ids of the rules by which the program masked it itself.

    """

    seq: int
    time_us: int
    name: str
    channel: str
    level: str
    trace: str | None = None
    span: str | None = None
    parent: str | None = None
    duration_us: int | None = None
    status: str | None = None
    data: Any = None
    session: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    agent: str | None = None
    masked: tuple[str, ...] = ()


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


class Hello(NamedTuple):
    """How a program may begin: who it is, and which policy it has; empty without one."""

    agent: str
    policy: str


def read_line(line: bytes) -> Batch | Hello:
    """The batch, or the greeting, that a line holds.

    Raises:
        BadBatch: if it is neither.

    """
    found, careful = _parse(line)
    if isinstance(found, dict) and "hello" in found:
        return Hello(as_name(found.get("agent"), 200) or "unnamed", as_name(found.get("policy"), 64))
    return batch_of(found, careful=careful or len(line) > _MAX_DATA_CHARS)


def read_batch(line: bytes) -> Batch:
    """The batch that a line holds.

    Raises:
        BadBatch: if it is none.

    """
    found, careful = _parse(line)
    return batch_of(found, careful=careful or len(line) > _MAX_DATA_CHARS)


def batch_of(found: Any, *, careful: bool = True) -> Batch:
    """The batch that a JSON value is.

    Args:
        careful: whether the data of its events may be too large, or nested too deeply, to be stored.

    Raises:
        BadBatch: if it is none.

    """
    if not isinstance(found, dict) or not isinstance(found.get("events"), list):
        raise BadBatch("the line is no object with a list of events")
    if len(found["events"]) > MAX_EVENTS:
        raise BadBatch(f"it has {len(found['events'])} events; {MAX_EVENTS} are allowed")
    run = str(found.get("run"))
    if not _is_hex(run, 32):
        raise BadBatch("run: expected 32 hexadecimal digits")
    if not _is_count(found.get("batch")):
        raise BadBatch("batch: expected a whole number of at least 0")
    events = [event for raw in found["events"] if (event := _read_event(raw, careful=careful)) is not None]
    return Batch(
        number=found["batch"],
        run=run,
        agent=_raw_name(found.get("agent")) or "unnamed",
        pid=found["pid"] if _is_count(found.get("pid")) else 0,
        program=_raw_name(found.get("program")),
        environment=_raw_name(found.get("environment")),
        events=tuple(events),
        refused=len(found["events"]) - len(events),
    )


def _parse(line: bytes) -> tuple[Any, bool]:
    """What the line holds, and whether its parts have to be looked at before they are stored."""
    try:
        return from_json(line), False
    except ValueError:  # it takes no lone surrogate and no deep nesting, and the other does
        try:
            return json.loads(line), True
        except (ValueError, RecursionError) as error:
            raise BadBatch("the line is not JSON in UTF-8") from error


def _read_event(raw: Any, *, careful: bool) -> MonitorEvent | None:
    """The event; None if it is none."""
    if not isinstance(raw, dict):
        return None
    get: Callable[[str], Any] = raw.get
    seq, time_us, name, level, status = get("seq"), get("time_us"), get("name"), get("level"), get("status")
    if not _is_count(seq) or not _is_count(time_us) or not isinstance(name, str) or not name or level not in LEVELS:
        return None
    if status is not None and status not in STATUSES:
        return None
    duration_ms, trace, span, parent = get("duration_ms"), get("trace"), get("span"), get("parent")
    if duration_ms is not None and not (isinstance(duration_ms, (int, float)) and 0 <= duration_ms < 1e12):
        return None
    if not (_is_id(trace) and _is_id(span) and _is_id(parent)):
        return None
    data = get("data")
    if careful and not _fits(data):
        return None
    return MonitorEvent(
        seq,
        time_us,
        _raw_name(name),
        _raw_name(get("channel")) or "SYSTEM",
        level,
        trace,
        span,
        parent,
        None if duration_ms is None else round(duration_ms * 1000),
        status,
        data,
        _raw_name(get("session")) or None,
        _raw_name(get("user")) or None,
        _names(get("tags"), _MAX_TAGS),
        _raw_name(get("agent")) or None,
        _names(get("masked"), _MAX_MASKED),
    )


def _fits(data: Any) -> bool:
    try:
        return len(as_json(data)) <= _MAX_DATA_CHARS and not _is_deep(data)
    except RecursionError:
        return False


def _is_deep(data: Any) -> bool:
    level = [data]
    for _ in range(_MAX_DEPTH):
        level = [inner for value in level if isinstance(value, (dict, list)) for inner in _inside(value)]
        if not level:
            return False
    return True


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def as_json(value: Any) -> str:
    """A JSON value as text that any file can hold and every reader reads: lone surrogates and NaN do not pass."""
    try:
        return to_json(value, inf_nan_mode="null").decode()
    except ValueError:  # it takes no lone surrogate and no deep nesting, and the other leaves NaN as it is
        return storable(_encode(json.loads(_encode(value), parse_constant=lambda _name: None)))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _is_hex(value: Any, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most and set(value) <= _HEX


def _is_id(value: Any) -> bool:
    return value is None or _is_hex(value, 32)


def _names(value: Any, most: int) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(name for raw in value[:most] if (name := _raw_name(raw)))


def _raw_name(value: Any) -> str:
    return as_name(value, MAX_RAW_NAME_CHARS)


def as_name(value: Any, most: int) -> str:
    """A name as text of one line: it is printed on terminals."""
    if not isinstance(value, str):
        return ""
    if value.isprintable() and value.isascii():
        return value[:most]
    return "".join(letter if letter.isprintable() else "?" for letter in storable(value[:most]))


def storable(text: str) -> str:
    """The text without lone surrogates, which JSON can spell and no file can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
