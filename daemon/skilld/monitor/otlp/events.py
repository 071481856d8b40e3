"""Spans and logs of OpenTelemetry as our events: the same ids, the same names of attributes. Pure.

A span becomes the event that the client would have reported of the same call, under the same names whatever its own
words are; what it says of its resource that nobody asks for (versions of SDKs, processes, operating systems) is left
out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from skilld.monitor.batch import MAX_RAW_NAME_CHARS, Batch
from skilld.monitor.otlp.telemetry import OtlpLog, OtlpSpan, Received
from skilld.monitor.plain import plain
from skilld.monitor.wire import batches, run_of, seq_of
from skilld_monitor.otel_names import in_our_names, is_gen_ai, kind_in_others_words

__all__ = ["KINDS", "Kept", "as_batches"]

Kept = Literal["all", "gen_ai"]

KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_MAX_SPAN_EVENTS: Final = 64
_NO_MODEL: Final = {
    "execute_tool": "TOOL",
    "invoke_agent": "AGENT",
    "create_agent": "AGENT",
    "invoke_workflow": "AGENT",
}
_NO_MODEL_OF_OTHERS: Final = {"tool": "TOOL", "agent": "AGENT"}
_LEVELS: Final = ("INFO", "DEBUG", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")  # by severity, four of each
_SESSIONS: Final = ("gen_ai.conversation.id", "session.id")
_USERS: Final = ("user.id", "enduser.id")
_OF_RESOURCES: Final = ("service.version", "service.namespace", "telemetry.sdk.language")


def as_batches(received: Iterable[Received], uid: int, keep: Kept) -> list[Batch]:
    """Batches of what came, one or more for each resource.

    Logs that are alike in everything have numbers by their count: the same request has the same again.

    Args:
        uid: whose it is: another user's program of the same name is another source.
        keep: `gen_ai`: nothing but what tells of models, agents and tools; the rest counts as taken.

    """
    found: list[Batch] = []
    alike = Counter[tuple[str, int]]()
    for group in received:
        head = _head(group.resource, uid)
        events = [_span_event(span, group) for span in group.spans if keep == "all" or is_gen_ai(span.attributes)]
        for log in group.logs:
            if keep == "all" or _is_of_gen_ai(log):
                events.append(_counted(_log_event(log, group), head["run"], alike))
        found += batches(head, events)
    return found


def _counted(event: dict[str, Any], run: str, alike: Counter[tuple[str, int]]) -> dict[str, Any]:
    """The event, told apart from those before it in the same request that are the same."""
    seq = event["seq"]
    alike[run, seq] += 1
    count = alike[run, seq]
    return event if count == 1 else {**event, "seq": seq_of(str(seq), str(count))}


def _is_of_gen_ai(log: OtlpLog) -> bool:
    return log.name.startswith("gen_ai.") or is_gen_ai(log.attributes)


def _head(resource: Mapping[str, Any], uid: int) -> dict[str, Any]:
    name = _text(resource.get("service.name")) or "unnamed"
    instance = _text(resource.get("service.instance.id"))
    pid = resource.get("process.pid")
    environment = resource.get("deployment.environment.name", resource.get("deployment.environment"))
    return {
        "run": run_of("otlp", str(uid), name, instance),
        "agent": name,
        "pid": pid if type(pid) is int and pid >= 0 else 0,
        "program": _text(resource.get("process.executable.name")) or name,
        "environment": _text(environment),
    }


def _span_event(span: OtlpSpan, group: Received) -> dict[str, Any]:
    failed = span.code == 2
    attributes = _attributes(span.attributes)
    data = _data(attributes, group)
    if span.kind > 1 and span.kind < len(KINDS):
        data["otel.kind"] = KINDS[span.kind]
    if failed and span.message:
        data.setdefault("error.message", plain(span.message))
    if span.events:
        data["otel.events"] = [
            {"name": plain(name), "time_us": time_ns // 1000, "attributes": plain(attributes)}
            for name, time_ns, attributes in span.events[:_MAX_SPAN_EVENTS]
        ]
    return {
        "seq": seq_of(span.trace, span.span),
        "time_us": span.start_ns // 1000,
        "name": span.name or "unnamed",
        "channel": _channel(attributes),
        "level": "ERROR" if failed else "INFO",
        "trace": span.trace,
        "span": span.span,
        "parent": span.parent,
        "duration_ms": max(0, span.end_ns - span.start_ns) / 1e6,
        "status": "error" if failed else "ok",
        **_people(attributes),
        "data": data,
    }


def _log_event(log: OtlpLog, group: Received) -> dict[str, Any]:
    attributes = _attributes(log.attributes)
    data = _data(attributes, group)
    if log.body is not None:
        data["otel.body"] = plain(log.body)
    name = log.name or _text(log.attributes.get("event.name")) or "log"
    identity = json.dumps([plain(log.body), plain(log.attributes)], sort_keys=True, default=str)
    return {
        "seq": seq_of("log", log.trace or "", log.span or "", str(log.time_ns), name, identity),
        "time_us": log.time_ns // 1000,
        "name": name,
        "channel": "LLM" if _is_of_gen_ai(log) else "OTEL",
        "level": _LEVELS[min((log.severity + 3) // 4, len(_LEVELS) - 1)],
        "trace": log.trace,
        "span": log.span,
        **_people(attributes),
        "data": data,
    }


def _attributes(given: Mapping[str, Any]) -> Mapping[str, Any]:
    return in_our_names(given) if is_gen_ai(given) else given


def _data(attributes: Mapping[str, Any], group: Received) -> dict[str, Any]:
    found: dict[str, Any] = plain(dict(attributes))
    if group.scope:
        found["otel.scope"] = plain(group.scope)
    for key in _OF_RESOURCES:
        if key in group.resource:
            found.setdefault(key, plain(group.resource[key]))
    return found


def _channel(attributes: Mapping[str, Any]) -> str:
    if "mcp.method.name" in attributes:
        return "MCP"
    if not is_gen_ai(attributes):
        return "API" if "http.request.method" in attributes else "OTEL"
    operation = _text(attributes.get("gen_ai.operation.name"))
    if operation:
        return _NO_MODEL.get(operation, "LLM")
    return _NO_MODEL_OF_OTHERS.get(kind_in_others_words(attributes) or "", "LLM")


def _people(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Whose it is, as far as it says."""
    found = {}
    for name, keys in (("session", _SESSIONS), ("user", _USERS), ("agent", ("gen_ai.agent.name",))):
        text = next((text for key in keys if (text := _text(attributes.get(key)))), "")
        if text:
            found[name] = text
    return found


def _text(value: Any) -> str:
    return value[:MAX_RAW_NAME_CHARS] if isinstance(value, str) else ""
