"""Each request of an MCP session is one span, and passes through untouched."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trio

pytest.importorskip("mcp")
from mcp import Client, ClientSession, MCPError, StdioServerParameters

import monitor_mcp_server
from monitor_kit import Collector
from skilld_monitor import Monitoring, Span, enable_monitoring
from skilld_monitor.adapters import mcp as adapter
from skilld_monitor.patching import Patches

SERVER = Path(monitor_mcp_server.__file__)
METHODS = ("send_request", "send_discover", "__aenter__", "__aexit__")


def run(body: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with Client(monitor_mcp_server.server) as client:
            await body(client)

    asyncio.run(main())


def spans(made: Monitoring, collector: Collector, name: str | None = None) -> list[dict[str, Any]]:
    assert made.flush()
    return [span for span in collector.events(channel="MCP") if name in (None, span["name"])]


def test_a_call_of_a_tool_is_one_span_below_what_is_open(made: Monitoring, collector: Collector) -> None:
    async def body(client: Client) -> None:
        with Span("request"):
            assert (await client.call_tool("add", {"a": 40, "b": 2})).structured_content == {"result": 42}

    run(body)
    (span,) = spans(made, collector, "tools/call add")
    (request,) = collector.events(name="request")
    assert (span["parent"], span["trace"], span["status"]) == (request["span"], request["trace"], "ok")
    assert span["data"]["mcp.method.name"] == "tools/call"
    assert span["data"]["gen_ai.operation.name"] == "execute_tool"
    assert span["data"]["gen_ai.tool.name"] == "add"
    assert span["data"]["mcp.protocol.version"]
    assert "40" not in str(span["data"])
    assert span["duration_ms"] > 0


def test_every_method_of_a_session_is_watched(made: Monitoring, collector: Collector) -> None:
    async def body(client: Client) -> None:
        await client.list_tools()
        await client.list_resource_templates()
        assert "about ann" in str(await client.read_resource("note://ann"))
        assert "Greet ann" in str(await client.get_prompt("greet", {"name": "ann"}))

    run(body)
    found = [span["name"] for span in spans(made, collector)]
    for name in ("tools/list", "resources/templates/list", "resources/read", "prompts/get greet", "mcp.session"):
        assert found.count(name) == 1
    assert "ann" not in str([span["data"] for span in spans(made, collector)])
    (session,) = spans(made, collector, "mcp.session")
    assert session["data"]["mcp.server.name"] == "small"
    assert session["duration_ms"] >= max(span["duration_ms"] for span in spans(made, collector, "tools/list"))


def test_what_a_session_says_of_itself_first_is_watched_in_each_protocol(
    made: Monitoring, collector: Collector
) -> None:
    async def main() -> None:
        for mode in ("auto", "legacy"):
            async with Client(monitor_mcp_server.server, mode=mode) as client:
                await client.list_tools()

    asyncio.run(main())
    names = [span["name"] for span in spans(made, collector)]
    assert (names.count("server/discover"), names.count("initialize"), names.count("tools/list")) == (1, 1, 2)


def test_a_result_that_is_an_error_is_one_and_its_text_is_not_told(made: Monitoring, collector: Collector) -> None:
    async def body(client: Client) -> None:
        result = await client.call_tool("fail", {"secret": "the key"})
        assert result.is_error
        assert "the key" in str(result.content)

    run(body)
    (span,) = spans(made, collector, "tools/call fail")
    assert (span["status"], span["level"], span["data"]["error.type"]) == ("error", "ERROR", "tool_error")
    assert "the key" not in str(span)


def test_a_refused_request_raises_as_before_and_says_its_code(made: Monitoring, collector: Collector) -> None:
    async def body(client: Client) -> None:
        with pytest.raises(MCPError, match="gone"):
            await client.read_resource("gone://secret")

    run(body)
    (span,) = spans(made, collector, "resources/read")
    assert span["status"] == "error"
    assert int(span["data"]["error.type"]) < 0
    assert "secret" not in str(span)


def test_progress_timeouts_and_other_arguments_pass_through(made: Monitoring, collector: Collector) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async def body(client: Client) -> None:
        session: Any = client.session
        result = await session.call_tool(
            "slow", None, read_timeout_seconds=10, progress_callback=note, meta={"own": "thing"}
        )
        assert "done" in str(result)

    run(body)
    assert heard == [(1, 2, "half")]
    assert len(spans(made, collector, "tools/call slow")) == 1


def test_the_server_learns_which_span_asked_it(made: Monitoring, collector: Collector) -> None:
    said: list[str] = []

    async def body(client: Client) -> None:
        said.append((await client.call_tool("trace", {})).content[0].text)  # type: ignore[union-attr]
        given = {"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"}
        said.append((await client.call_tool("trace", {}, meta=given)).content[0].text)  # type: ignore[union-attr, arg-type]

    run(body)
    first, _second = spans(made, collector, "tools/call trace")
    assert said[0] == f"00-{first['trace']}-{first['span']}-01"
    assert said[1].startswith("00-abab"), "what the program says itself stays"


def test_arguments_and_results_are_reported_when_asked_for(collector: Collector) -> None:
    made = enable_monitoring("shop", capture="arguments,result")

    async def body(client: Client) -> None:
        await client.call_tool("add", {"a": 40, "b": 2})
        await client.read_resource("note://ann")

    run(body)
    (call,), (read,) = spans(made, collector, "tools/call add"), spans(made, collector, "resources/read")
    assert call["data"]["gen_ai.tool.call.arguments"] == {"a": 40, "b": 2}
    assert call["data"]["gen_ai.tool.call.result"][0]["text"] == "42"
    assert read["data"]["mcp.resource.uri"] == "note://ann"


def test_a_cancelled_call_is_cancelled_and_the_session_goes_on(made: Monitoring, collector: Collector) -> None:
    async def body(client: Client) -> None:
        task = asyncio.create_task(client.call_tool("add", {"a": 1, "b": 2}))
        await asyncio.sleep(0)  # it has begun, and waits for its answer
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}

    run(body)
    assert [span["status"] for span in spans(made, collector, "tools/call add")] == ["cancelled", "ok"]


def test_calls_at_once_have_a_span_and_a_parent_each(made: Monitoring, collector: Collector) -> None:
    async def one(client: Client, n: int) -> None:
        with Span(f"task {n}"):
            await client.call_tool("add", {"a": n, "b": n})

    async def body(client: Client) -> None:
        await asyncio.gather(*(one(client, n) for n in range(10)))

    run(body)
    found = spans(made, collector, "tools/call add")
    parents = {event["span"]: event["name"] for event in collector.events(channel="SYSTEM")}
    assert {parents[span["parent"]] for span in found} == {f"task {n}" for n in range(10)}


def test_where_mcp_traces_itself_a_request_is_one_span_with_the_ids_that_it_has_there(
    made: Monitoring, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    ended: list[Any] = []

    class Kept(sdk.SpanProcessor):  # type: ignore[misc, name-defined]
        def on_end(self, span: Any) -> None:
            ended.append(span)

    provider = sdk.TracerProvider()
    provider.add_span_processor(Kept())
    monkeypatch.setattr("mcp.shared._otel._tracer", provider.get_tracer("mcp-python-sdk"))
    said: list[str] = []

    async def main() -> None:
        async with Client(StdioServerParameters(command=sys.executable, args=[str(SERVER)])) as client:
            with provider.get_tracer("program").start_as_current_span("request"):
                said.append((await client.call_tool("trace", {})).content[0].text)  # type: ignore[union-attr]

    asyncio.run(main())
    (span,) = spans(made, collector, "tools/call trace")
    (native,) = [span for span in ended if span.name == "MCP send tools/call trace"]
    assert (span["trace"], span["span"]) == (f"{native.context.trace_id:032x}", f"{native.context.span_id:016x}")
    assert span["parent"] == f"{native.parent.span_id:016x}"
    assert said[0].startswith(f"00-{span['trace']}-{span['span']}-")
    assert span["data"]["jsonrpc.request.id"] == native.attributes["jsonrpc.request.id"]
    assert len(spans(made, collector)) == len(ended), "one of each, the program's own left out and the session added"


def test_sessions_on_trio_are_watched_too(made: Monitoring, collector: Collector) -> None:
    async def main() -> None:
        async with Client(monitor_mcp_server.server) as client:
            with Span("request"), trio.move_on_after(30):
                await client.call_tool("add", {"a": 1, "b": 2})
            with trio.CancelScope() as scope:
                scope.cancel()
                await client.call_tool("add", {"a": 1, "b": 2})

    trio.run(main)
    found = spans(made, collector, "tools/call add")
    assert [span["status"] for span in found] == ["ok", "cancelled"]
    assert found[0]["parent"] == collector.events(name="request")[0]["span"]


def test_a_real_server_on_its_streams_and_one_over_http_are_watched(made: Monitoring, collector: Collector) -> None:
    async def ask(client: Client) -> None:
        async with client:
            assert (await client.call_tool("trace", {})).content[0].text.startswith("00-")  # type: ignore[union-attr]

    with subprocess.Popen(
        [sys.executable, str(SERVER), "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as served:
        try:
            assert served.stdout is not None
            port = int(served.stdout.readline())
            asyncio.run(ask(Client(f"http://127.0.0.1:{port}/mcp")))
        finally:
            served.terminate()
    asyncio.run(ask(Client(StdioServerParameters(command=sys.executable, args=[str(SERVER)]))))
    assert len(spans(made, collector, "tools/call trace")) == 2
    assert len(spans(made, collector, "mcp.session")) == 2


def test_everything_is_put_back_exactly_as_it_was(collector: Collector) -> None:
    before = [vars(ClientSession)[name] for name in METHODS]
    made = enable_monitoring("shop")
    for name, was in zip(METHODS, before, strict=True):
        now = vars(ClientSession)[name]
        assert now is not was
        assert inspect.iscoroutinefunction(now)
        assert inspect.signature(now) == inspect.signature(was)
    made.disable()
    assert all(vars(ClientSession)[name] is was for name, was in zip(METHODS, before, strict=True))

    async def body(client: Client) -> None:
        await client.call_tool("add", {"a": 1, "b": 2})

    run(body)
    assert collector.events(channel="MCP") == []


def test_a_request_that_cannot_be_read_is_sent_as_it_is(made: Monitoring, collector: Collector) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    class Session:
        server_info = Odd()

        async def send_request(self, request: Any) -> Any:
            return request

        async def __aenter__(self) -> Any:
            return self

        async def __aexit__(self, *_raised: object) -> None:
            pass

    patches = Patches()
    patches.replace(Session, "send_request", adapter._watched_request)
    patches.replace(Session, "__aenter__", adapter._watched_enter)
    patches.replace(Session, "__aexit__", adapter._watched_exit)

    async def main() -> None:
        asked = Odd()
        async with Session() as session:
            assert await session.send_request(asked) is asked
            assert await session.send_request(None) is None

    asyncio.run(main())
    patches.restore()
    found = spans(made, collector)
    assert [(span["name"], span["status"]) for span in found] == [
        ("mcp.request", "ok"),
        ("mcp.request", "ok"),
        ("mcp.session", "ok"),
    ]
    assert found[0]["data"]["skilld.unread"] == found[2]["data"]["skilld.unread"] == "RuntimeError"
