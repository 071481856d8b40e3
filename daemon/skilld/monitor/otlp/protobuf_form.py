"""OTLP in its protobuf form. The library is imported when it is spoken, in the thread that reads."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from skilld.monitor.otlp.telemetry import (
    MAX_DEPTH,
    MAX_PARTS,
    BadRequest,
    OtlpLog,
    OtlpSpan,
    Received,
    Signal,
    check_parts,
    span_id,
    trace_id,
)
from skilld.monitor.plain import MAX_ITEMS

__all__ = ["read_protobuf"]


def read_protobuf(raw: bytes, signal: Signal) -> list[Received]:
    """What the request holds.

    Raises:
        BadRequest: if it is no such request.

    """
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        if signal == "logs":
            return _read_logs(ExportLogsServiceRequest.FromString(raw))
        return _read_spans(ExportTraceServiceRequest.FromString(raw))
    except (DecodeError, RecursionError) as error:
        raise BadRequest("the body is no protobuf message of OTLP") from error


def _read_spans(request: Any) -> list[Received]:
    received = []
    check_parts(_count(request.resource_spans, "scope_spans", "spans"))
    for resource in request.resource_spans:
        attributes = _attributes(resource.resource.attributes, 0)
        for scope in resource.scope_spans:
            group = Received(resource=attributes, scope=scope.scope.name)
            for item in scope.spans:
                span = _span(item)
                if span is None:
                    group.rejected += 1
                else:
                    group.spans.append(span)
            received.append(group)
    return received


def _read_logs(request: Any) -> list[Received]:
    received = []
    check_parts(_count(request.resource_logs, "scope_logs", "log_records"))
    for resource in request.resource_logs:
        attributes = _attributes(resource.resource.attributes, 0)
        for scope in resource.scope_logs:
            logs = [_log(item) for item in scope.log_records]
            received.append(Received(resource=attributes, scope=scope.scope.name, logs=logs))
    return received


def _count(resources: Sequence[Any], of_scopes: str, of_items: str) -> int:
    """How many parts there are, or more than may be."""
    count = len(resources)
    for resource in resources[:MAX_PARTS]:
        scopes = getattr(resource, of_scopes)
        count += len(scopes) + sum(len(getattr(scope, of_items)) for scope in scopes[:MAX_PARTS])
    return count


def _span(item: Any) -> OtlpSpan | None:
    trace, span = trace_id(item.trace_id.hex()), span_id(item.span_id.hex())
    if trace is None or span is None or not item.start_time_unix_nano or not item.end_time_unix_nano:
        return None
    return OtlpSpan(
        trace=trace,
        span=span,
        parent=span_id(item.parent_span_id.hex()),
        name=item.name,
        kind=int(item.kind),
        start_ns=item.start_time_unix_nano,
        end_ns=item.end_time_unix_nano,
        attributes=_attributes(item.attributes, 0),
        code=int(item.status.code),
        message=item.status.message,
        events=tuple((event.name, event.time_unix_nano, _attributes(event.attributes, 0)) for event in item.events),
    )


def _log(item: Any) -> OtlpLog:
    return OtlpLog(
        trace=trace_id(item.trace_id.hex()),
        span=span_id(item.span_id.hex()),
        name=item.event_name,
        time_ns=item.time_unix_nano or item.observed_time_unix_nano,
        severity=int(item.severity_number),
        body=_value(item.body, 0),
        attributes=_attributes(item.attributes, 0),
    )


def _attributes(pairs: Sequence[Any], depth: int) -> dict[str, Any]:
    return {pair.key: _value(pair.value, depth + 1) for pair in pairs[:MAX_ITEMS] if pair.key}


def _value(found: Any, depth: int) -> Any:
    """A value of any type; None for what is empty, and what is nested too deep. Bytes are text in base64."""
    kind = found.WhichOneof("value")
    if kind is None or depth > MAX_DEPTH:
        return None
    if kind == "array_value":
        return [_value(item, depth + 1) for item in found.array_value.values[:MAX_ITEMS]]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value, depth + 1) for pair in found.kvlist_value.values[:MAX_ITEMS]}
    if kind == "bytes_value":
        return base64.b64encode(found.bytes_value).decode("ascii")
    return getattr(found, kind)
