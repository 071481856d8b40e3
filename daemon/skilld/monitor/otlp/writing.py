"""Our events as requests of OTLP: spans for what took time and has ids, records of a log for the rest. Pure.

What is made is the JSON form; `protobuf_writing` makes the other one out of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from skilld.monitor.otlp.events import KINDS
from skilld.monitor.otlp.telemetry import Signal
from skilld.monitor.sinks.canonical import compact

__all__ = ["as_requests", "in_json"]

Event = Mapping[str, Any]
JSON = dict[str, Any]

_SEVERITIES: Final = {"DEBUG": 5, "INFO": 9, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}
_SCOPE: Final = {"name": "skilld.monitor"}
_NAMES: Final[dict[Signal, tuple[str, str, str]]] = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}
_OURS: Final = (("session", "session.id"), ("user", "user.id"), ("cost_usd", "skilld.cost_usd"))
_LARGEST: Final = 1 << 63
_MAX_DEPTH: Final = 20  # what is deeper is text: readers of protobuf take a hundred levels, and a value has up to four


def as_requests(events: Sequence[Event]) -> dict[Signal, JSON]:
    """The requests that these events make, in the JSON form; a signal without any is left out."""
    found: dict[Signal, JSON] = {}
    spans = [event for event in events if _is_span(event)]
    logs = [event for event in events if not _is_span(event)]
    if spans:
        found["traces"] = _request("traces", spans)
    if logs:
        found["logs"] = _request("logs", logs)
    return found


def in_json(request: JSON) -> bytes:
    """As it is sent."""
    return compact(request)


def _request(signal: Signal, events: Iterable[Event]) -> JSON:
    of_resources, of_scopes, of_items = _NAMES[signal]
    make = _span if signal == "traces" else _log
    groups: dict[tuple[Any, ...], list[Event]] = {}
    for event in events:
        source = tuple(event[key] for key in ("agent", "program", "environment", "uid", "pid", "run"))
        groups.setdefault(source, []).append(event)
    return {
        of_resources: [
            {
                "resource": _resource(group[0]),
                of_scopes: [{"scope": _SCOPE, of_items: [make(event) for event in group]}],
            }
            for group in groups.values()
        ]
    }


def _resource(event: Event) -> JSON:
    attributes = {"service.name": event["agent"], "service.instance.id": event["run"], "process.pid": event["pid"]}
    if event["program"]:
        attributes["process.executable.name"] = event["program"]
    if event["environment"]:
        attributes["deployment.environment.name"] = event["environment"]
    return {"attributes": _pairs({**attributes, "skilld.uid": event["uid"]})}


def _is_span(event: Event) -> bool:
    return event["duration_ms"] is not None and event["time"] is not None


def _span(event: Event) -> JSON:
    start_ns = _nanoseconds(event["time"])
    data = _data(event)
    kind = data.pop("otel.kind", "client" if event["channel"] in ("LLM", "MCP") else "internal")
    failed = event["status"] == "error"
    if event["status"] not in ("ok", "error"):
        data["skilld.status"] = event["status"]
    span: JSON = {
        "traceId": _id(event["trace"], 32, event["run"], "trace", event["seq"]),
        "spanId": _id(event["span"], 16, event["run"], "span", event["seq"]),
        "name": event["name"],
        "kind": KINDS.index(kind) if kind in KINDS else 1,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(min(start_ns + round(event["duration_ms"] * 1e6), _LARGEST - 1)),
        "attributes": _pairs(data),
        "status": {"code": 2, "message": str(data.get("error.message", ""))[:1000]} if failed else {},
    }
    if event["parent"]:
        span["parentSpanId"] = _id(event["parent"], 16)
    return span


def _log(event: Event) -> JSON:
    data = _data(event)
    body = data.pop("otel.body", None)
    time_ns = str(_nanoseconds(event["time"]) if event["time"] else 0)
    log: JSON = {
        "timeUnixNano": time_ns,
        "observedTimeUnixNano": time_ns,
        "severityNumber": _SEVERITIES[event["level"]],
        "severityText": event["level"],
        "eventName": event["name"],
        "attributes": _pairs(data),
    }
    if body is not None:
        log["body"] = _value(body)
    if event["trace"]:
        log["traceId"] = _id(event["trace"], 32)
    if event["span"]:
        log["spanId"] = _id(event["span"], 16)
    return log


def _data(event: Event) -> JSON:
    data = dict(event["data"]) if isinstance(event["data"], dict) else {"data": event["data"]}
    data["skilld.channel"] = event["channel"]
    for ours, name in _OURS:
        if event.get(ours) is not None:
            data.setdefault(name, event[ours])
    if event.get("tags"):
        data["skilld.tags"] = list(event["tags"])
    return data


def _pairs(values: Mapping[str, Any], depth: int = _MAX_DEPTH) -> list[JSON]:
    return [{"key": key, "value": _value(value, depth)} for key, value in values.items() if value is not None and key]


def _value(value: Any, depth: int = _MAX_DEPTH) -> JSON:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str):
        return {"stringValue": value.encode("utf-8", "replace").decode()}
    if isinstance(value, int):
        return {"intValue": str(value)} if -_LARGEST <= value < _LARGEST else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _pairs(value, depth - 1)}} if depth else _as_text(value)
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_value(item, depth - 1) for item in value]}} if depth else _as_text(value)
    return {}


def _as_text(value: Any) -> JSON:
    return {"stringValue": compact(value).decode()}


def _id(given: str | None, length: int, *else_of: object) -> str:
    """Hexadecimal digits of this length: those that are there, or others that are the same every time."""
    if given and given.strip("0"):
        return given[-length:].rjust(length, "0")
    return hashlib.sha256(repr(else_of).encode()).hexdigest()[:length]


def _nanoseconds(time: str) -> int:
    """Since 1970; of a clock that is centuries ahead the most that the protocol can say."""
    moment = datetime.fromisoformat(time)
    return min(int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000, _LARGEST - 1)
