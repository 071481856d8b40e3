"""What goes to other hosts: all of it, once, in the form they read, and not one bad event more is left out."""

from __future__ import annotations

import gzip
import json
import logging
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from otlp_kit import in_trio
from sink_kit import Answer, Asked, Collector, collector, event
from skill_actors.models.breaker import CircuitState
from skilld.monitor.otlp.json_form import read_json
from skilld.monitor.otlp.protobuf_form import read_protobuf
from skilld.monitor.sinks.envelope import envelopes
from skilld.monitor.sinks.exports import OtlpSink, TelemetrySink
from skilld.monitor.sinks.posting import NeverTaken, Poster, Receiver
from skilld.monitor.sinks.status import SinkStatus
from wire_kit import whole_request

SPAN: dict[str, Any] = {
    "trace": "a" * 32,
    "span": "b" * 16,
    "parent": "c" * 16,
    "duration_ms": 12.5,
    "status": "error",
    "level": "ERROR",
    "channel": "LLM",
    "session": "ses-1",
    "data": {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.response.finish_reasons": ["end_turn"],
        "deep": {"a": [1, 2.5, True, None, "x"]},
        "error.message": "boom",
    },
}


class Line:
    """One receiver and a poster for it."""

    def __init__(self, found: Collector, **changes: Any) -> None:
        self.status = SinkStatus(name="test", target="somewhere")
        given = {"headers": {}, "secrets": {}, "gzip": True, "timeout_s": 5.0, "ca_file": None, "version": "9.9"}
        self.poster = Poster(Receiver(**{**given, **changes}), self.status, Random(1))
        self.url = found.url

    def otlp(self, protocol: Any = "protobuf") -> OtlpSink:
        return OtlpSink(self.poster, self.status, self.url, page=100, protocol=protocol)

    def telemetry(self, body: Any) -> TelemetrySink:
        return TelemetrySink(self.poster, self.status, self.url, page=100, body=body)


async def fail_to_deliver(line: Line, times: int, then_s: float = 0.0) -> None:
    """Try to deliver an event until that has failed so many times, and for so long after it; then give it up."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.telemetry("array").deliver, [event(id=1)])
        with trio.fail_after(20):
            while line.status.retries < times:  # noqa: ASYNC110  # a status tells nobody
                await trio.sleep(0.01)
        await trio.sleep(then_s)
        nursery.cancel_scope.cancel()
    await line.poster.close()


@pytest.mark.parametrize("protocol", ["protobuf", "json"])
@in_trio
async def test_a_collector_gets_spans_and_logs_as_the_specification_has_them(protocol: str) -> None:
    async with collector() as found:
        line = Line(found, headers={"x-tenant": "7"})
        await line.otlp(protocol).deliver([event(id=1, **SPAN), event(id=2, data={"n": 1}), event(id=3, data="text")])
        await line.poster.close()
    spans, logs = found.asked
    read: Any = read_json if protocol == "json" else read_protobuf
    (group,) = read(spans.body, "traces")
    (span,) = group.spans
    assert (spans.path, logs.path) == ("/v1/traces", "/v1/logs")
    assert (spans.headers["content-encoding"], spans.headers["x-tenant"]) == ("gzip", "7")
    assert spans.headers["content-type"] == f"application/{'json' if protocol == 'json' else 'x-protobuf'}"
    assert spans.connection == logs.connection, "the connection is kept"
    assert (span.trace, span.span, span.parent, span.code, span.message) == ("a" * 32, "b" * 16, "c" * 16, 2, "boom")
    assert (span.kind, span.end_ns - span.start_ns) == (3, 12_500_000)
    assert span.attributes["deep"] == {"a": [1, 2.5, True, None, "x"]}
    assert (span.attributes["session.id"], group.resource["service.name"]) == ("ses-1", "shop")
    (group,) = read(logs.body, "logs")
    assert [log.attributes.get("data", log.attributes.get("n")) for log in group.logs] == [1, "text"]
    assert (line.status.sent, line.status.failed) == (3, 0)


@pytest.mark.parametrize("body", ["object", "array", "lines"])
@in_trio
async def test_a_receiver_of_generation_b_gets_its_envelopes(body: str) -> None:
    async with collector() as found:
        line = Line(found, gzip=False, secrets={"authorization": lambda: "Bearer tok-9"})
        await line.telemetry(body).deliver([event(id=1, **SPAN), event(id=2, name="order", data={"n": 1})])
        await line.poster.close()
    assert {asked.path for asked in found.asked} == {"/v1/telemetry"}
    assert {asked.headers["authorization"] for asked in found.asked} == {"Bearer tok-9"}
    if body == "object":
        start, error, order = [asked.json for asked in found.asked]
    elif body == "array":
        start, error, order = found.asked[0].json
    else:
        start, error, order = [json.loads(line) for line in found.asked[0].body.splitlines()]
    assert [start["name"], error["name"], order["name"]] == ["llm.call.start", "llm.call.error", "order"]
    assert start["span_id"] == error["span_id"] == "b" * 16
    assert start["timestamp"] < error["timestamp"]
    assert error["attributes"]["llm.usage.total_tokens"] == 7
    assert error["attributes"]["error.message"] == "boom"
    assert (start["schema_version"], start["agent_id"], start["attributes"]["session.id"]) == ("1.0", "shop", "ses-1")
    assert line.status.sent == 2


def test_the_envelope_of_the_daemon_is_the_clients_with_what_the_daemon_knows() -> None:
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"}
    start, end = envelopes(event(id=1, **{**SPAN, "data": agent, "status": "ok"}, user="u-1", tags=["t"]))
    assert (start["name"], end["name"]) == ("agent.invoke.start", "agent.invoke.end")
    assert (start["attributes"]["user.id"], start["attributes"]["tags"]) == ("u-1", ["t"])
    assert (start["attributes"]["skilld.start"], start["attributes"]["skilld.event_id"]) == (True, 1)
    assert "skilld.start" not in end["attributes"]
    assert end["attributes"]["process.id"] == start["attributes"]["process.id"]
    _start, failed = envelopes(event(id=2, **SPAN))
    said = failed["attributes"]
    assert (said["llm.response.stop_reason"], said["gen_ai.response.finish_reasons"]) == ("end_turn", ["end_turn"])
    (odd,) = envelopes(event(id=3, data="text", time=None))
    assert (odd["timestamp"], odd["attributes"]["data"]) == ("1970-01-01T00:00:00.000000Z", "text")


@in_trio
async def test_one_bad_event_costs_no_other() -> None:
    def judge(asked: Asked) -> Answer:
        return Answer(413 if b"poison" in asked.body else 200)

    async with collector(judge) as found:
        line = Line(found)
        events = [event(id=id, data={"text": "poison" if id == 5 else "good"}) for id in range(1, 12)]
        await line.telemetry("array").deliver(events)
        await line.poster.close()
    taken = [item["attributes"]["skilld.event_id"] for a in found.asked if judge(a).status == 200 for item in a.json]
    assert sorted(taken) == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert (line.status.sent, line.status.failed) == (10, 1)


@in_trio
async def test_a_receiver_that_takes_nothing_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async with collector(lambda asked: Answer(415)) as found:
        line = Line(found)
        with caplog.at_level(logging.WARNING, "skilld.monitor.sinks.exports"):
            await line.telemetry("array").deliver([event(id=id) for id in range(1, 33)])
        await line.poster.close()
    assert (line.status.sent, line.status.failed) == (0, 32)
    assert line.status.problem.startswith("event 32: ")
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == ["test: event 1 is left out"]


@in_trio
async def test_what_a_collector_leaves_out_is_counted() -> None:
    partial = b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "no"}}'
    async with collector(lambda asked: Answer(200, body=partial)) as found:
        line = Line(found)
        await line.otlp("json").deliver([event(id=id, **{**SPAN, "span": f"{id:016x}"}) for id in (1, 2, 3)])
        await line.poster.close()
    assert (line.status.sent, line.status.failed) == (1, 2)


@in_trio
async def test_who_is_busy_is_asked_again_when_it_says_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.monitor.sinks.posting._FIRST_WAIT_S", 0.01)
    answers = [Answer(503, (("retry-after", "1"),)), Answer(429), Answer(401), Answer(200)]
    async with collector(lambda asked: answers.pop(0)) as found:
        line = Line(found)
        begun = trio.current_time()
        await line.telemetry("array").deliver([event(id=1)])
        await line.poster.close()
        assert 1.0 <= trio.current_time() - begun < 10
    assert len({asked.body for asked in found.asked}) == 1
    assert (len(found.asked), line.status.sent, line.status.retries) == (4, 1, 3)
    assert line.status.problem == "", "that is over"


@in_trio
async def test_who_is_away_is_left_alone_after_five_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.monitor.sinks.posting._FIRST_WAIT_S", 0.001)
    async with collector() as found:
        pass  # it is away again
    line = Line(found)
    await fail_to_deliver(line, 5, then_s=0.5)
    assert line.status.retries == 5
    assert line.poster._breaker.state is CircuitState.OPEN
    assert "ConnectError" in line.status.problem


@in_trio
async def test_a_receiver_that_never_answers_is_not_waited_for() -> None:
    async with collector(lambda asked: Answer(0)) as found:
        line = Line(found, timeout_s=0.2)
        await fail_to_deliver(line, 1)
    assert line.status.problem == "no answer within 0.2 s"


@in_trio
async def test_redirects_are_not_followed_and_secrets_go_nowhere_else() -> None:
    async with collector(lambda asked: Answer(307, (("location", "/other"),))) as found:
        line = Line(found, secrets={"authorization": lambda: "Bearer tok-9"})
        await fail_to_deliver(line, 1)
    assert {asked.path for asked in found.asked} == {"/v1/telemetry"}


@in_trio
async def test_secrets_are_in_no_log_and_no_status(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.DEBUG):
        async with collector(lambda asked: Answer(400)) as found:
            line = Line(found, secrets={"authorization": lambda: "Bearer tok-secret"})
            with pytest.raises(NeverTaken):
                await line.poster.post(f"{found.url}/v1/telemetry", b"[]", "application/json")
            await line.telemetry("array").deliver([event(id=1)])
            await line.poster.close()
    assert "tok-secret" not in caplog.text + str(line.status.as_json(0))


def deep(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = {"a": found}
    return found


@pytest.mark.parametrize("protocol", ["protobuf", "json"])
@in_trio
async def test_what_cannot_be_spelled_is_left_out_and_the_others_go(protocol: str) -> None:
    odd = {"data": deep(3000)}, {"time": "9999-12-31T23:59:59.999999Z"}, {**SPAN, "time": "9999-12-31T23:59:59Z"}
    async with collector() as found:
        line = Line(found)
        await line.otlp(protocol).deliver([event(id=1), *(event(id=n, **given) for n, given in enumerate(odd, 2))])
        await line.poster.close()
    assert (line.status.sent, line.status.failed) == (3, 1)


@pytest.mark.parametrize("body", ["object", "array", "lines"])
@in_trio
async def test_no_envelope_is_a_reason_to_stop(body: str) -> None:
    tokens = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": "x", "gen_ai.usage.output_tokens": {}}
    async with collector() as found:
        line = Line(found)
        events = [event(id=1, data=deep(3000)), event(id=2, **{**SPAN, "data": tokens}), event(id=3)]
        await line.telemetry(body).deliver(events)
        await line.poster.close()
    assert (line.status.sent, line.status.failed) == (2, 1)


PACKED = gzip.compress(b" " * (8 << 20))
ANSWERS = [
    Answer(200, body=b"\xff\xfe\x00garbage"),
    Answer(200, body=b"[" * 5000),
    Answer(200, (("content-encoding", "gzip"),), b"not gzip"),
    Answer(200, (("content-encoding", "gzip"),), PACKED),
    Answer(200, (("content-encoding", "br, zstd"),), b"\xff"),
    Answer(200, body=b"x" * (1 << 20)),
]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("protocol", ["protobuf", "json"])
@in_trio
async def test_what_a_collector_says_with_its_success_does_no_harm(protocol: str, answer: Answer) -> None:
    async with collector(lambda asked: answer) as found:
        line = Line(found)
        with trio.fail_after(25):
            await line.otlp(protocol).deliver([event(id=1, **SPAN)])
        await line.poster.close()
    assert (line.status.sent, line.status.retries) == (1, 0)
    assert found.asked[0].headers["accept-encoding"] == "identity"


@in_trio
async def test_what_a_receiver_writes_is_in_no_log_it_may_be_our_secret(caplog: pytest.LogCaptureFixture) -> None:
    async def echo(stream: trio.SocketStream) -> None:
        async with stream:
            asked = await whole_request(stream)
            await stream.send_all(asked.partition(b"authorization: ")[2].split(b"\r\n")[0] + b"\r\n\r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        line = Line(Collector(port), secrets={"authorization": lambda: "Bearer tok-secret"})
        await fail_to_deliver(line, 1)
        nursery.cancel_scope.cancel()
    assert line.status.problem == "RemoteProtocolError: what it answers is not HTTP"
    assert "tok-secret" not in caplog.text
