"""The JSON form of a request, once more in protobuf. Field by field: the library's own reader of JSON takes ten times
as long, and holds up everybody else meanwhile. It is imported in the thread that writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from skilld.monitor.otlp.telemetry import Signal

__all__ = ["in_protobuf"]

JSON = Mapping[str, Any]

_SCALARS: Final = {"stringValue": "string_value", "boolValue": "bool_value", "doubleValue": "double_value"}
_IDS: Final = {"traceId": "trace_id", "spanId": "span_id", "parentSpanId": "parent_span_id"}


def in_protobuf(request: JSON, signal: Signal) -> bytes:
    """As it is sent."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    if signal == "logs":
        logs = ExportLogsServiceRequest()
        for resource in request["resourceLogs"]:
            made = logs.resource_logs.add()
            _put_attributes(made.resource.attributes, resource["resource"]["attributes"])
            for scope in resource["scopeLogs"]:
                records = made.scope_logs.add()
                records.scope.name = scope["scope"]["name"]
                for item in scope["logRecords"]:
                    _put_log(records.log_records.add(), item)
        return bytes(logs.SerializeToString())
    traces = ExportTraceServiceRequest()
    for resource in request["resourceSpans"]:
        found = traces.resource_spans.add()
        _put_attributes(found.resource.attributes, resource["resource"]["attributes"])
        for scope in resource["scopeSpans"]:
            spans = found.scope_spans.add()
            spans.scope.name = scope["scope"]["name"]
            for item in scope["spans"]:
                _put_span(spans.spans.add(), item)
    return bytes(traces.SerializeToString())


def _put_span(span: Any, item: JSON) -> None:
    _put_ids(span, item)
    span.name = item["name"]
    span.kind = item["kind"]
    span.start_time_unix_nano = int(item["startTimeUnixNano"])
    span.end_time_unix_nano = int(item["endTimeUnixNano"])
    _put_attributes(span.attributes, item["attributes"])
    if item["status"]:
        span.status.code = item["status"]["code"]
        span.status.message = item["status"]["message"]


def _put_log(log: Any, item: JSON) -> None:
    _put_ids(log, item)
    log.time_unix_nano = int(item["timeUnixNano"])
    log.observed_time_unix_nano = int(item["observedTimeUnixNano"])
    log.severity_number = item["severityNumber"]
    log.severity_text = item["severityText"]
    log.event_name = item["eventName"]
    _put_attributes(log.attributes, item["attributes"])
    if "body" in item:
        _put_value(log.body, item["body"])


def _put_ids(target: Any, item: JSON) -> None:
    for key, name in _IDS.items():
        if key in item:
            setattr(target, name, bytes.fromhex(item[key]))


def _put_attributes(target: Any, pairs: Iterable[JSON]) -> None:
    for pair in pairs:
        made = target.add()
        made.key = pair["key"]
        _put_value(made.value, pair["value"])


def _put_value(target: Any, value: JSON) -> None:
    for key, found in value.items():  # there is one, or none
        if key == "intValue":
            target.int_value = int(found)
        elif key == "arrayValue":
            target.array_value.SetInParent()
            for item in found["values"]:
                _put_value(target.array_value.values.add(), item)
        elif key == "kvlistValue":
            target.kvlist_value.SetInParent()
            _put_attributes(target.kvlist_value.values, found["values"])
        else:
            setattr(target, _SCALARS[key], found)
