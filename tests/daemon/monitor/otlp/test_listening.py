"""OTLP comes in over loopback and a Unix socket, from the programs that speak it, and as the user that sends it."""

from __future__ import annotations

import gzip
import os
import socket
from math import ceil
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
import trio

from otlp_kit import SPAN, TRACE, free_port, in_trio, keys, logs_request, span, traces_request
from skilld.monitor.questions import Wanted
from skilld.monitor.rates import Rate, RateTable
from tree_kit import Tree, open_tree

JSON_TYPE = {"content-type": "application/json"}


async def events(tree: Tree, least: int = 1) -> list[dict[str, Any]]:
    monitor = tree.parts.monitor.get()
    found: list[dict[str, Any]] = []
    with trio.fail_after(20):
        while len(found) < least:
            after = found[-1]["id"] if found else 0
            found += await monitor.events(Wanted(uid=None, after=after), wait_s=5)
    return found


async def post(url: str, body: bytes, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        with trio.fail_after(20):
            while True:
                try:
                    return await client.post(url, content=body, headers={**JSON_TYPE, **headers})
                except httpx.ConnectError:  # it is starting
                    await trio.sleep(0.02)


@in_trio
async def test_spans_of_the_real_sdk_arrive_and_those_that_come_twice_are_kept_once(tmp_path: Path) -> None:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    port = free_port()

    def report() -> None:
        exporter = OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces", compression=Compression.Gzip)
        seen = InMemorySpanExporter()
        provider = TracerProvider(resource=Resource.create({"service.name": "shop", "service.instance.id": "7"}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        provider.add_span_processor(SimpleSpanProcessor(seen))
        tracer = provider.get_tracer("tests")
        with tracer.start_as_current_span("order") as outer:
            outer.set_attribute("http.request.method", "GET")
            with tracer.start_as_current_span("chat m") as inner:
                inner.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7})
        exporter.export(seen.get_finished_spans())
        provider.shutdown()

    async with open_tree(tmp_path, **keys({"monitor.otlp.listen": f"127.0.0.1:{port}"})) as tree:
        assert (await post(f"http://127.0.0.1:{port}/v1/traces", traces_request())).status_code == 200
        await trio.to_thread.run_sync(report)
        inner, outer = await events(tree, 2)
    assert (inner["name"], inner["channel"], inner["agent"], inner["uid"]) == ("chat m", "LLM", "shop", os.getuid())
    assert (inner["trace"], inner["parent"]) == (outer["trace"], outer["span"])
    assert (outer["channel"], outer["status"]) == ("API", "ok")
    assert inner["data"]["gen_ai.usage.input_tokens"] == 7


@in_trio
async def test_logs_and_packed_bodies_arrive_and_metrics_are_refused(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    record = {"timeUnixNano": "1700000000000000000", "severityNumber": 17, "traceId": TRACE, "spanId": SPAN}
    named = {**record, "eventName": "gen_ai.client.operation.exception", "body": {"stringValue": "it broke"}}
    async with open_tree(tmp_path, **keys({"monitor.otlp.listen": f"127.0.0.1:{port}"})) as tree:
        packed = gzip.compress(logs_request(named))
        answers = [
            await post(f"{url}/v1/logs", packed, **{"content-encoding": "gzip"}),
            await post(f"{url}/v1/metrics", b"{}"),
        ]
        (event,) = await events(tree)
    assert [answer.status_code for answer in answers] == [200, 404]
    assert answers[0].json() == {}
    assert "metrics are not taken" in answers[1].json()["message"]
    assert (event["name"], event["level"], event["trace"]) == (named["eventName"], "ERROR", TRACE)
    assert event["data"]["otel.body"] == "it broke"


@in_trio
async def test_the_socket_says_who_it_is_and_takes_nothing_that_is_not_otlp(tmp_path: Path) -> None:
    path = tmp_path / "otlp.sock"
    async with open_tree(tmp_path, **keys({"monitor.otlp.socket": str(path)})) as tree:
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://skilld", timeout=20) as client:
            answer = await client.post("/v1/traces", content=traces_request(span()), headers=JSON_TYPE)
            assert (answer.status_code, answer.json()) == (200, {})
            assert (await client.get("/v1/traces")).status_code == 405
            assert (await client.get("/v1/sessions")).status_code == 404
        (event,) = await events(tree)
    assert (event["span"], event["sender_pid"]) == (SPAN, os.getpid())


@in_trio
async def test_with_a_token_nobody_comes_in_without_it(tmp_path: Path) -> None:
    port, token = free_port(), tmp_path / "token"
    token.write_text("tok-1234\n")
    flags: dict[str, Any] = {"monitor.otlp.listen": f"127.0.0.1:{port}", "monitor.otlp.token_file": str(token)}
    url = f"http://127.0.0.1:{port}/v1/traces"
    async with open_tree(tmp_path, **flags):
        assert (await post(url, traces_request(span()))).status_code == 401
        assert (await post(url, traces_request(span()), authorization="Bearer wrong")).status_code == 401
        answer = await post(url, traces_request(span()), authorization="Bearer tok-1234")
        assert answer.status_code == 200
        token.unlink()
        answer = await post(url, traces_request(span()), authorization="Bearer tok-1234")
        assert answer.status_code == 503, "without a token to compare with nobody comes in"
        assert "tok-1234" not in answer.text


@in_trio
async def test_web_pages_and_names_that_lead_here_are_refused(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/traces"
    async with open_tree(tmp_path, **keys({"monitor.otlp.listen": f"127.0.0.1:{port}"})):
        assert (await post(url, traces_request(), origin="https://evil.example")).status_code == 403
        assert (await post(url, traces_request(), host="evil.example")).status_code == 421


@in_trio
async def test_too_much_and_nonsense_have_the_answers_of_the_specification(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/traces"
    flags: dict[str, Any] = {"monitor.otlp.listen": f"127.0.0.1:{port}", "monitor.otlp.max_bytes": 8192}
    async with open_tree(tmp_path, **flags) as tree:
        bomb = gzip.compress(b" " * (64 << 20))
        assert (await post(url, bomb, **{"content-encoding": "gzip"})).status_code == 413
        assert (await post(url, gzip.compress(b" " * 9000), **{"content-encoding": "gzip"})).status_code == 413
        whole = await post(url, b" " * 9000)
        assert (whole.status_code, "monitor.otlp.max_bytes = 8192" in whole.text) == (413, True)
        assert (await post(url, gzip.compress(b"{}"), **{"content-encoding": "GZip"})).status_code == 200
        assert (await post(url, b"not gzip", **{"content-encoding": "gzip"})).status_code == 400
        assert (await post(url, gzip.compress(b"{}")[:-4], **{"content-encoding": "gzip"})).status_code == 400
        assert (await post(url, b"{}", **{"content-encoding": "br"})).status_code == 415
        assert (await post(url, b"{}", **{"content-type": "text/plain"})).status_code == 415
        assert (await post(url, b"\xff\xff", **{"content-type": "application/x-protobuf"})).status_code == 400
        answer = await post(url, traces_request(span(), span(traceId="0" * 32), span(spanId="ab"), span(name="x" * 9)))
        assert answer.json()["partialSuccess"]["rejectedSpans"] == "2"
        assert len(await events(tree)) == 1, "the same span under another name is the same span"


@in_trio
async def test_who_sends_too_much_is_told_when_to_come_again(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/traces"
    flags = keys({"monitor.otlp.listen": f"127.0.0.1:{port}", "monitor.events_per_s": 1.0})
    async with open_tree(tmp_path, **flags) as tree:
        several = [
            post(url, traces_request(*[span(spanId=f"{n:016x}") for n in numbers]))
            for numbers in (range(1, 7), range(7, 17))
        ]
        answers = [await one for one in several]
        page = await tree.parts.monitor.get().events(Wanted(uid=None, after=0))
        rates = tree.parts.monitor.get().rates
        left = rates.take(os.getuid(), 4, 0, trio.current_time())
    assert [answer.status_code for answer in answers] == [200, 429]
    assert len(page) == 6
    assert 1 <= int(answers[1].headers["retry-after"]) <= 7, "6 of 10 are missing, and one comes each second"
    assert answers[1].json()["code"] == 8
    assert left < 1, "what is refused is not counted, and what is taken is for the ingest socket too"


def test_who_waits_as_long_as_is_said_is_taken_however_much_it_is() -> None:
    table, now_s = RateTable(Rate(10, 1000)), 0.0
    for events, size in ((5000, 10), (1, 1), (90, 9000), (1, 1_000_000), (0, 0), (5000, 10)):
        for _ in range(3):
            if not (wait_s := table.admit(1, events, size, now_s)):
                break
            assert table.admit(1, events, size, now_s) == wait_s, "to ask costs nothing"
            now_s += ceil(wait_s)
        else:
            raise AssertionError((events, size))
    assert now_s >= (5000 + 90 + 5000 - 100) / 10


@in_trio
async def test_who_leaves_in_the_middle_fills_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    async with open_tree(tmp_path, **keys({"monitor.otlp.listen": f"127.0.0.1:{port}"})) as tree:
        await post(f"http://127.0.0.1:{port}/v1/traces", traces_request())
        for length in (b"100", b"0x10", b"-1", b"99999999999999999999"):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            head = b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: "
            await stream.send_all(head + length + b"\r\n\r\n{")
            await stream.send_eof()
            with trio.fail_after(20):
                while await stream.receive_some():
                    pass
            await stream.aclose()
        assert (await post(f"http://127.0.0.1:{port}/v1/traces", traces_request(span()))).status_code == 200
        assert (await events(tree))[0]["span"] == SPAN
        assert [facts["agent"] for facts in tree.parts.monitor.get().sources(None)] == ["shop"]  # type: ignore[misc]
    assert [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


@in_trio
async def test_what_cannot_be_stored_may_come_again_and_is_then_kept_once(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/traces"

    async def full(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    async with open_tree(tmp_path, **keys({"monitor.otlp.listen": f"127.0.0.1:{port}"})) as tree:
        monitor = await tree.parts.monitor.wait()
        tree.parts.monitor.clear()
        early = await post(url, traces_request(span()))
        tree.parts.monitor.put(monitor)
        write, monitor.write = monitor.write, full  # type: ignore[method-assign, assignment]
        refused = await post(url, traces_request(span()))
        monitor.write = write  # type: ignore[method-assign]
        taken = [await post(url, traces_request(span())) for _ in range(2)]
        page = await monitor.events(Wanted(uid=None, after=0))
    for answer in (early, refused):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert [answer.status_code for answer in taken] == [200, 200]
    assert len(page) == 1


@pytest.mark.parametrize("named", [None, 4242])
@in_trio
async def test_of_whom_nobody_knows_is_refused_or_whom_the_operator_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: int | None
) -> None:
    monkeypatch.setattr("skilld.monitor.otlp.listening.tcp_owner", lambda peer, own: None)
    port = free_port()
    flags = keys({"monitor.otlp.listen": f"127.0.0.1:{port}", "monitor.otlp.uid": named})
    async with open_tree(tmp_path, **flags) as tree:
        await tree.parts.monitor.wait()
        answer = await post(f"http://127.0.0.1:{port}/v1/traces", traces_request(span()))
        page = await tree.parts.monitor.get().events(Wanted(uid=None, after=0))
    assert answer.status_code == (403 if named is None else 200)
    assert [event["uid"] for event in page] == ([] if named is None else [4242])
    assert named is not None or "monitor.otlp.uid" in answer.text


@in_trio
async def test_who_is_gone_is_not_taken_for_whom_the_operator_names(tmp_path: Path) -> None:
    """Else who may not report would send, and end at once."""
    port = free_port()
    flags = keys({"monitor.otlp.listen": f"127.0.0.1:{port}", "monitor.otlp.uid": 4242})
    body, outcomes = traces_request(span()), list[str]()
    head = f"POST /v1/traces HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    async with open_tree(tmp_path, **flags) as tree:
        monitor = await tree.parts.monitor.wait()
        tree.parts.bus.attach(
            "test", ("monitor.otlp",), lambda _name, _facts, meta: outcomes.append(str(meta["outcome"]))
        )
        answer = await post(f"http://127.0.0.1:{port}/v1/traces", body)
        sock = socket.create_connection(("127.0.0.1", port))  # and accepted only when this task waits
        sock.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        sock.close()
        with trio.fail_after(20):
            while len(outcomes) < 2:  # noqa: ASYNC110 - a bus tells no task
                await trio.sleep(0.01)
        page = await monitor.events(Wanted(uid=None, after=0))
    assert (answer.status_code, outcomes[1]) == (200, "forbidden")
    assert [event["uid"] for event in page] == [os.getuid()]
