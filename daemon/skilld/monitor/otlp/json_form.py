"""OTLP in its JSON form: ids are hexadecimal, whole numbers of 64 bits text or numbers, unknown keys ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from skilld.monitor.otlp.telemetry import (
    MAX_DEPTH,
    BadRequest,
    OtlpLog,
    OtlpSpan,
    Received,
    Signal,
    check_parts,
    span_id,
    trace_id,
)

__all__ = ["read_json"]

_LARGEST_NS: Final = 1 << 63
_WHOLES: Final[dict[Signal, tuple[str, str, str]]] = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}


def read_json(raw: bytes, signal: Signal) -> list[Received]:
    """What the request holds.

    Raises:
        BadRequest: if it is no such request.

    """
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not JSON in UTF-8") from error
    if not isinstance(found, dict):
        raise BadRequest("the body is no JSON object")
    of_resources, of_scopes, of_items = _WHOLES[signal]
    received = []
    count = 0
    for resource in _objects(found, of_resources):
        check_parts(count := count + 1)
        attributes = _attributes(_object(resource, "resource"), 0)
        for scope in _objects(resource, of_scopes):
            group = Received(resource=attributes, scope=_text(_object(scope, "scope"), "name"))
            check_parts(count := count + 1)
            for item in _objects(scope, of_items):
                check_parts(count := count + 1)
                _add(group, item, signal)
            received.append(group)
    return received


def _add(group: Received, item: dict[str, Any], signal: Signal) -> None:
    if signal == "logs":
        group.logs.append(_log(item))
        return
    span = _span(item)
    if span is None:
        group.rejected += 1
    else:
        group.spans.append(span)


def _span(item: dict[str, Any]) -> OtlpSpan | None:
    trace, span = trace_id(_text(item, "traceId")), span_id(_text(item, "spanId"))
    start_ns, end_ns = _whole(item.get("startTimeUnixNano")), _whole(item.get("endTimeUnixNano"))
    if trace is None or span is None or not start_ns or not end_ns:
        return None
    status = _object(item, "status")
    events = tuple(
        (_text(event, "name"), _whole(event.get("timeUnixNano")), _attributes(event, 0))
        for event in _objects(item, "events")
    )
    return OtlpSpan(
        trace=trace,
        span=span,
        parent=span_id(_text(item, "parentSpanId")),
        name=_text(item, "name"),
        kind=_whole(item.get("kind")),
        start_ns=start_ns,
        end_ns=end_ns,
        attributes=_attributes(item, 0),
        code=_whole(status.get("code")),
        message=_text(status, "message"),
        events=events,
    )


def _log(item: dict[str, Any]) -> OtlpLog:
    return OtlpLog(
        trace=trace_id(_text(item, "traceId")),
        span=span_id(_text(item, "spanId")),
        name=_text(item, "eventName"),
        time_ns=_whole(item.get("timeUnixNano")) or _whole(item.get("observedTimeUnixNano")),
        severity=_whole(item.get("severityNumber")),
        body=_value(item.get("body"), 0),
        attributes=_attributes(item, 0),
    )


def _objects(found: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """The objects of a list. Raises BadRequest if it is none, or has anything else."""
    listed = found.get(key)
    if listed is None:
        return
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise BadRequest(f"{key}: expected a list of objects")
    yield from listed


def _object(found: dict[str, Any], key: str) -> dict[str, Any]:
    inner = found.get(key)
    return inner if isinstance(inner, dict) else {}


def _text(found: dict[str, Any], key: str) -> str:
    text = found.get(key)
    return text if isinstance(text, str) else ""


def _whole(value: Any) -> int:
    """0 for what is no whole number of a time."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return value if type(value) is int and 0 <= value < _LARGEST_NS else 0


def _attributes(found: dict[str, Any], depth: int) -> dict[str, Any]:
    return {
        _text(pair, "key"): _value(pair.get("value"), depth + 1)
        for pair in _objects(found, "attributes")
        if _text(pair, "key")
    }


def _value(found: Any, depth: int) -> Any:
    """A value of any type; None for what is none, and what is nested too deep."""
    if not isinstance(found, dict) or depth > MAX_DEPTH:
        return None
    for key in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
        if key in found:
            return found[key] if isinstance(found[key], (str, bool, int, float)) else None
    if "intValue" in found:
        try:
            return int(str(found["intValue"])[:25])
        except ValueError:
            return None
    if "arrayValue" in found:
        return [_value(item, depth + 1) for item in _objects(_object(found, "arrayValue"), "values")]
    if "kvlistValue" in found:
        pairs = _objects(_object(found, "kvlistValue"), "values")
        return {_text(pair, "key"): _value(pair.get("value"), depth + 1) for pair in pairs}
    return None
