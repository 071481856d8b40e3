"""Records of generation A: lines of its file, and rows of its data base, which say the same. Pure.

    {"timestamp", "level", "channel", "agent_id", "event", "data"}

Its times have no zone: they are taken for those of this host unless another is named. A line has neither ids nor a
session, unless our own client has written it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import tzinfo
from typing import Any, Final

from skilld.monitor.batch import MAX_RAW_NAME_CHARS
from skilld.monitor.imports.names import gen_ai_of, split_name
from skilld.monitor.imports.record import BadRecord, OldRecord, Part, time_us_of
from skilld.monitor.plain import plain

__all__ = ["is_of_a", "level_of", "read_a"]

_LEVELS: Final = {"WARN": "WARNING", "FATAL": "CRITICAL", "SECURITY_ALERT": "CRITICAL"}
_TEXTS: Final = ("prompt", "args", "kwargs")  # at the start of a call, JSON in text
_KNOWN: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def is_of_a(found: Mapping[str, Any]) -> bool:
    """Whether it looks like one."""
    return "event" in found and "timestamp" in found


def read_a(found: Mapping[str, Any], zone: tzinfo | None) -> OldRecord:
    """A record of a line.

    Raises:
        BadRecord: if it is none.

    """
    event, data = found.get("event"), found.get("data")
    if not isinstance(event, str) or not event:
        raise BadRecord("event: expected a name")
    if not isinstance(data, Mapping):
        data = {} if data is None else {"data": data}
    name, base, part = split_name(event)
    if base and "." in event:  # B's names are none of A's
        name, base, part = event, "", "alone"
    if base and _id(found.get("span_id")) is not None:
        data = _parsed(data, part)
    duration_ms = _milliseconds(data.get("duration"))
    cleaned: dict[str, Any] = plain(gen_ai_of(base, data))
    if duration_ms is not None and part in ("finish", "error"):
        cleaned.pop("duration", None)
    return OldRecord(
        key=("A", _text(found.get("agent_id")), _text(found.get("timestamp")).replace(" ", "T"), event, _spelled(data)),
        agent=_text(found.get("agent_id")) or "unknown",
        time_us=time_us_of(found.get("timestamp"), zone),
        name=name,
        base=base,
        part=part,
        channel=_text(found.get("channel")) or "SYSTEM",
        level=level_of(found.get("level")),
        trace=_id(found.get("trace_id")),
        span=_id(found.get("span_id")),
        parent=_id(found.get("parent_span_id")),
        session=_text(found.get("session_id")) or None,
        duration_ms=duration_ms,
        data=cleaned,
    )


def _parsed(data: Mapping[str, Any], part: Part) -> dict[str, Any]:
    """The data of a line of ours, with what was said as it was before it became text."""
    found = dict(data)
    if part == "start":
        texts: tuple[str, ...] = _TEXTS
    else:  # spans of a program's own may have anything under that name
        texts = ("result",) if "function.name" in data or "gen_ai.tool.name" in data else ()
    for name in texts:
        text = found.get(name)
        if isinstance(text, str):
            with suppress(ValueError, RecursionError):
                found[name] = json.loads(text)
        if part == "start" and not found.get(name):
            found.pop(name, None)
    return found


def _milliseconds(value: Any) -> float | None:
    """Of seconds; None for what is no time that anything can take."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        return None
    return value * 1000


def level_of(value: Any) -> str:
    """A level of ours; INFO for what is none."""
    name = str(value).upper()[:40]
    name = _LEVELS.get(name, name)
    return name if name in _KNOWN else "INFO"


def _text(value: Any) -> str:
    return value[:MAX_RAW_NAME_CHARS] if isinstance(value, str) else ""


def _id(value: Any) -> str | None:
    text = value.lower() if isinstance(value, str) else ""
    return text if 0 < len(text) <= 32 and set(text) <= set("0123456789abcdef") else None


def _spelled(data: Any) -> str:
    """The same for the same data, in whichever order its keys are."""
    return json.dumps(plain(data), sort_keys=True, default=str)
