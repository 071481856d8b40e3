"""Both forms of OTLP mean the same, whatever is in them, and what is none of it is refused in one way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otlp_kit import SPAN, TRACE, attribute, logs_request, span, traces_request
from sink_kit import event
from skilld.monitor.batch import Batch
from skilld.monitor.otlp.answers import JSON, PROTOBUF, Refusal, refused, taken
from skilld.monitor.otlp.events import as_batches
from skilld.monitor.otlp.json_form import read_json
from skilld.monitor.otlp.protobuf_form import read_protobuf
from skilld.monitor.otlp.protobuf_writing import in_protobuf
from skilld.monitor.otlp.tcp_peer import OwnerGone, owner_in
from skilld.monitor.otlp.telemetry import MAX_PARTS, BadRequest
from skilld.monitor.otlp.writing import as_requests, in_json


def one(raw: bytes, signal: Any = "traces", **given: Any) -> Batch:
    (batch,) = as_batches(read_json(raw, signal), 1000, given.get("keep", "all"))
    return batch


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_what_we_write_means_the_same_in_both_forms(signal: Any) -> None:
    data = {"text": "ü\u2028", "n": -7, "f": 0.5, "b": False, "none": None, "list": [], "map": {}, "deep": {"a": [{}]}}
    spanning = {"trace": TRACE, "span": SPAN, "duration_ms": 3.0, "status": "error"} if signal == "traces" else {}
    request = as_requests([event(data=data, **spanning), event(id=2, data="text", **spanning)])[signal]
    by_json, by_protobuf = read_json(in_json(request), signal), read_protobuf(in_protobuf(request, signal), signal)
    assert by_json == by_protobuf
    (group,) = by_json
    attributes = (group.spans or group.logs)[0].attributes
    assert {key: attributes[key] for key in data if key != "none"} == {k: v for k, v in data.items() if k != "none"}


def test_a_span_that_goes_out_and_comes_in_again_is_the_same(tmp_path: object) -> None:
    given = event(trace=TRACE, span=SPAN, duration_ms=3.25, status="ok", channel="LLM", data={"gen_ai.system": "x"})
    batch = one(in_json(as_requests([given])["traces"]))
    (found,) = batch.events
    assert (batch.agent, found.trace, found.span, found.duration_us) == ("shop", TRACE, SPAN, 3250)
    assert (found.channel, found.data["otel.kind"]) == ("LLM", "client")


BAD: list[bytes] = [
    b"",
    b"[]",
    b"{",
    b'{"resourceSpans": 7}',
    b'{"resourceSpans": [7]}',
    b'{"resourceSpans": [{"scopeSpans": {}}]}',
    b'{"resourceSpans": [{"scopeSpans": [{"spans": [null]}]}]}',
    b"\xff\xfe{}",
    b"[" * 200_000,
]


@pytest.mark.parametrize("raw", BAD, ids=range(len(BAD)))
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        read_json(raw, "traces")


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x0a\xff", b"{}" * 50, b"\x0a\x05\x12\x7f"])
def test_what_is_no_message_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        read_protobuf(raw, "traces")


@pytest.mark.parametrize(
    "changes",
    [
        {"traceId": "0" * 32},
        {"traceId": TRACE[:-1]},
        {"traceId": 7},
        {"spanId": ""},
        {"startTimeUnixNano": 0},
        {"startTimeUnixNano": -5},
        {"endTimeUnixNano": "1e20"},
        {"endTimeUnixNano": None},
    ],
)
def test_a_span_without_ids_or_times_is_rejected_and_its_neighbour_kept(changes: dict[str, Any]) -> None:
    (group,) = read_json(traces_request(span(**changes), span()), "traces")
    assert (group.rejected, len(group.spans)) == (1, 1)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"intValue": "1"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return {"key": "deep", "value": value}


def test_hostile_attributes_do_no_harm() -> None:
    hostile = [
        nested(300),
        attribute("", "no name"),
        {"key": "no value"},
        {"key": "two", "value": {"stringValue": "a", "intValue": "5"}},
        {"key": "int", "value": {"intValue": "not a number"}},
        {"key": "nan", "value": {"doubleValue": float("nan")}},
        {"key": "huge", "value": {"intValue": "9" * 5000}},
        {"key": "text", "value": {"stringValue": "x" * 1_000_000}},
        {"key": "half\ud800", "value": {"stringValue": "\udfff"}},
    ]
    batch = one(traces_request(span(attributes=hostile, name="a\x1b[31m\n" * 100)))
    (found,) = batch.events
    assert found.name.startswith("a?[31m?")
    assert (found.data["nan"], found.data["two"], found.data["int"]) == ("nan", "a", None)
    assert len(found.data["text"]) < 40_000
    assert found.data["half?"] == "?"
    assert "no name" not in json.dumps(found.data)


def test_only_what_tells_of_models_is_kept_where_that_is_asked_for() -> None:
    request = read_json(traces_request(span(), span(spanId="1" * 16, attributes=[])), "traces")
    (batch,) = as_batches(request, 1000, "gen_ai")
    assert [found.span for found in batch.events] == [SPAN]
    assert as_batches(read_json(logs_request({"timeUnixNano": "5"}), "logs"), 1000, "gen_ai") == []


def test_sources_are_told_apart_and_spans_have_their_numbers_from_their_ids() -> None:
    shop = one(traces_request(span()))
    again, stall = one(traces_request(span(name="other"))), one(traces_request(span(), **{"service.name": "stall"}))
    assert (shop.run, shop.events[0].seq) == (again.run, again.events[0].seq)
    assert shop.run != stall.run
    (theirs,) = as_batches(read_json(traces_request(span()), "traces"), 1001, "all")
    assert theirs.run != shop.run
    assert one(traces_request(span(traceId="1" * 32))).events[0].seq != shop.events[0].seq


def test_logs_that_are_alike_are_as_many_as_there_are_and_the_same_when_they_come_again() -> None:
    same, other = {"body": {"stringValue": "tick"}}, {"body": {"stringValue": "tock"}}
    request = logs_request(same, same, other, same)
    seqs = [found.seq for found in one(request, "logs").events]
    assert len(set(seqs)) == 4
    assert [found.seq for found in one(request, "logs").events] == seqs
    assert one(logs_request(same), "logs").events[0].seq == seqs[0]


def test_people_and_conversations_have_their_columns() -> None:
    given = [attribute("gen_ai.conversation.id", "c1"), attribute("user.id", "u1"), attribute("gen_ai.agent.name", "a")]
    (found,) = one(traces_request(span(attributes=given))).events
    assert (found.session, found.user, found.agent) == ("c1", "u1", "a")


@pytest.mark.parametrize(
    ("severity", "level"), [(0, "INFO"), (1, "DEBUG"), (9, "INFO"), (13, "WARNING"), (24, "CRITICAL")]
)
def test_severities_are_levels(severity: int, level: str) -> None:
    assert one(logs_request({"timeUnixNano": "5", "severityNumber": severity}), "logs").events[0].level == level


def test_answers_are_those_that_the_library_of_the_protocol_reads() -> None:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    found = ExportTraceServiceResponse.FromString(taken("traces", 300, PROTOBUF))
    assert found.partial_success.rejected_spans == 300
    assert found.partial_success.error_message
    assert ExportLogsServiceResponse.FromString(taken("logs", 1, PROTOBUF)).partial_success.rejected_log_records == 1
    assert taken("traces", 0, PROTOBUF) == b""
    assert json.loads(taken("logs", 2, JSON))["partialSuccess"]["rejectedLogRecords"] == "2"
    assert refused(Refusal(429, "later", "overloaded", 3), PROTOBUF) == b"\x08\x08\x12\x05later"


ROWS = [
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
    "   0: 0100007F:9C40 0100007F:10DE 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1",
    "   1: 0100007F:9C41 0100007F:10DE 06 00000000:00000000 03:00000000 00000000     0        0 0 3",
    "   2: 0000000000000000FFFF00000100007F:9C42 0000000000000000FFFF00000100007F:10DE 01 0:0 0:0 0 1002 0 4712 1",
]


@pytest.mark.parametrize(("port", "uid"), [(40_000, 1000), (40_002, 1002), (40_003, None)])
def test_the_kernels_table_tells_whose_a_connection_is(port: int, uid: int | None) -> None:
    assert owner_in(ROWS, ("127.0.0.1", port), ("127.0.0.1", 4318)) == uid


def test_of_one_that_is_closed_it_says_no_more_than_that() -> None:
    with pytest.raises(OwnerGone):
        owner_in(ROWS, ("127.0.0.1", 40_001), ("127.0.0.1", 4318))


@pytest.mark.parametrize(
    ("in_json_form", "keys"),
    [
        (b'{"resourceSpans":[%b{}]}', b"\x0a"),
        (b'{"resourceSpans":[{"scopeSpans":[%b{}]}]}', b"\x0a\x12"),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[%b{}]}]}]}', b"\x0a\x12\x12"),
    ],
)
def test_no_request_has_more_parts_than_can_be_read_soon(in_json_form: bytes, keys: bytes) -> None:
    """Empty ones take two bytes, of which there is room for millions."""
    with pytest.raises(BadRequest, match="more than 100000"):
        read_json(in_json_form % (b"{}," * MAX_PARTS), "traces")
    *outer, inner = [bytes([key]) for key in keys]
    body = (inner + b"\0") * (MAX_PARTS + 1)
    for key in reversed(outer):
        body = key + length(body) + body
    with pytest.raises(BadRequest, match="more than 100000"):
        read_protobuf(body, "traces")


def length(body: bytes) -> bytes:
    """As protobuf writes it."""
    left, found = len(body), bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*found, left])
