"""Records of generation B: lines of its file. Pure.

{"schema_version": "1.0", "timestamp", "trace_id", "span_id", "parent_span_id", "name", "level", "attributes",
 "agent_id", "channel"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any, Final

from skilld.monitor.batch import MAX_RAW_NAME_CHARS
from skilld.monitor.imports.generation_a import level_of
from skilld.monitor.imports.names import gen_ai_of, split_name
from skilld.monitor.imports.own import known_of
from skilld.monitor.imports.record import BadRecord, OldRecord, time_us_of
from skilld.monitor.otlp.telemetry import span_id, trace_id
from skilld.monitor.plain import plain
from skilld.monitor.sinks.canonical import EVENT_KEYS
from skilld.monitor.sinks.envelope import START

__all__ = ["is_of_b", "read_b"]

_VERSIONS: Final = ("1.0",)
_OF_OURS: Final = (*EVENT_KEYS, START, "process.id")  # what our own lines of this form have besides
_DURATIONS: Final = ("llm.response.duration_ms", "function.duration_ms", "method.duration_ms", "duration_ms")
_CHANNELS: Final = {"llm": "LLM", "tool": "TOOL"}


def is_of_b(found: Mapping[str, Any]) -> bool:
    """Whether it looks like one."""
    return "schema_version" in found and "name" in found


def read_b(found: Mapping[str, Any]) -> OldRecord:
    """A record of a line.

    Raises:
        BadRecord: if it is none, or of a schema that is not known.

    """
    version, name, attributes = found.get("schema_version"), found.get("name"), found.get("attributes")
    if version not in _VERSIONS:
        raise BadRecord(f"schema_version: only {', '.join(_VERSIONS)} is known")
    if not isinstance(name, str) or not name:
        raise BadRecord("name: expected a name")
    attributes = {} if attributes is None else attributes
    if not isinstance(attributes, Mapping):
        raise BadRecord("attributes: expected an object")
    ours, base, part = split_name(name)
    session = attributes.get("session.id")
    channel = found.get("channel")
    more = {key: found[key] for key in ("event_category", "performance", "model", "security") if found.get(key)}
    spelled = json.dumps(plain(attributes), sort_keys=True, default=str)
    agent = _text(found.get("agent_id")) or "unknown"
    known = known_of(attributes.get("skilld.run"), attributes.get("skilld.seq"))
    if known is not None:
        if not attributes.get(START) and "duration_ms" not in attributes:  # an event, whatever it is called
            ours, base, part = name, "", "alone"
        attributes = {key: value for key, value in attributes.items() if key not in _OF_OURS}
    ids = (_text(found.get("trace_id")), _text(found.get("span_id")))
    return OldRecord(
        key=("B", agent, _text(found.get("timestamp")), name, *ids, spelled),
        agent=agent,
        time_us=time_us_of(found.get("timestamp"), UTC),
        name=ours,
        base=base,
        part=part,
        channel=_text(channel) or _CHANNELS.get(base, "SYSTEM"),
        level=level_of(found.get("level")),
        trace=trace_id(ids[0]),
        span=span_id(ids[1]),
        parent=span_id(_text(found.get("parent_span_id"))),
        session=_text(session) or None,
        duration_ms=_duration_ms(attributes),
        data=plain({**gen_ai_of(base, attributes), **more}),
        known=known,
    )


def _duration_ms(attributes: Mapping[str, Any]) -> float | None:
    for key in _DURATIONS:
        value = attributes.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12:
            return float(value)
    return None


def _text(value: Any) -> str:
    return value[:MAX_RAW_NAME_CHARS] if isinstance(value, str) else ""
