"""Records of generation B: lines of its file. Pure.

{"schema_version": "1.0", "timestamp", "trace_id", "span_id", "parent_span_id", "name", "level", "attributes",
 "agent_id", "channel"}

Lines of our own say which run they are of, and what they have for the sake of who reads the others is left out: what
was found in a call, the host, and the session and the trace of what is in none.
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
from skilld_monitor.envelope import ALERT, LIFE, RUN, session_of

__all__ = ["is_of_b", "read_b"]

_VERSIONS: Final = ("1.0",)
_OF_OURS: Final = (*EVENT_KEYS, START, "session.id", "process.id", "host.name")  # what our own lines have besides
_OF_CALLS: Final = (
    *("security.alert_level", "security.keywords", "security.category", "security.severity", "security.description"),
    *("llm.request.timestamp", "llm.response.timestamp"),
)
_DURATIONS: Final = ("llm.response.duration_ms", "function.duration_ms", "method.duration_ms", "duration_ms")
_CHANNELS: Final = {"llm": "LLM", "tool": "TOOL"}


def is_of_b(found: Mapping[str, Any]) -> bool:
    """Whether it looks like one."""
    return "schema_version" in found and "name" in found


def read_b(found: Mapping[str, Any]) -> OldRecord | None:
    """A record of a line; None for one of ours that only tells what was found in the call beside it.

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
    agent = _text(found.get("agent_id")) or "unknown"
    spelled = json.dumps(plain(attributes), sort_keys=True, default=str)
    ids = (_text(found.get("trace_id")), _text(found.get("span_id")))
    trace, session = ids[0], _text(attributes.get("session.id"))
    channel = found.get("channel")
    more = {key: found[key] for key in ("event_category", "performance", "model", "security") if found.get(key)}
    run = attributes.get(RUN)
    known = known_of(run, attributes.get("skilld.seq"))
    if isinstance(run, str):
        if attributes.get(ALERT) is True:
            return None
        trace = "" if trace == run else trace
        session = "" if session == session_of(run) else session
    if known is not None and not attributes.get(START) and "duration_ms" not in attributes:  # whatever it is called
        ours, base, part = (ours if name in LIFE.values() and "agent.id" in attributes else name), "", "alone"
    if isinstance(run, str):
        attributes = _without(attributes, agent, is_event=part == "alone")
    return OldRecord(
        key=("B", agent, _text(found.get("timestamp")), name, *ids, spelled),
        agent=agent,
        time_us=time_us_of(found.get("timestamp"), UTC),
        name=ours,
        base=base,
        part=part,
        channel=_text(channel) or _CHANNELS.get(base, "SYSTEM"),
        level=level_of(found.get("level")),
        trace=trace_id(trace),
        span=span_id(ids[1]),
        parent=span_id(_text(found.get("parent_span_id"))),
        session=session or None,
        duration_ms=_duration_ms(attributes),
        data=plain({**gen_ai_of(base, attributes), **more}),
        known=known,
    )


def _without(attributes: Mapping[str, Any], agent: str, *, is_event: bool) -> dict[str, Any]:
    """What the program said itself, of a line of ours."""
    added = _OF_OURS if is_event else (*_OF_OURS, *_OF_CALLS)
    found = {key: value for key, value in attributes.items() if key not in added}
    if is_event and found.get("agent.id") == agent:
        del found["agent.id"]
    return found


def _duration_ms(attributes: Mapping[str, Any]) -> float | None:
    for key in _DURATIONS:
        value = attributes.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12:
            return float(value)
    return None


def _text(value: Any) -> str:
    return value[:MAX_RAW_NAME_CHARS] if isinstance(value, str) else ""
