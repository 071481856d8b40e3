"""A server over HTTP: the SDK's own on a Unix socket, and others that answer in ways that are none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from mcp_kit import SERVER, in_trio, mcp_kit, until
from skill_actors.backends.base import BackendUnavailable, ToolContext
from skill_actors.mcp.http import address_of, seconds_to_rest
from wire_kit import whole_request

# httpx2 leaves a generator of its connection pool to the collector where a stream of events is cancelled.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CONTEXT = ToolContext(timeout_s=20.0)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[str]:
    """The server of the tests on a Unix socket; its URL."""
    socket = folder / "http.sock"
    command = [sys.executable, str(SERVER), str(folder / "notes"), str(socket)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL)
    try:
        await until(socket.exists)
        yield f"unix:{socket}"
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        socket.unlink(missing_ok=True)


@in_trio
async def test_tools_are_listed_and_called_with_the_headers_of_the_operator(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit, serving(tmp_path) as url:
        options = kit.options(command=(), url=url, headers={"X-Team": "tides"})
        secret = {"Authorization": "Bearer geheimnis-123"}
        source = kit.source(options, secrets=secret, hidden=lambda: ["geheimnis-123"])
        assert "echo" in [tool.name for tool in await source.tools()]
        assert (await source.call("echo", {"text": "high"}, CONTEXT)).content == "echo: high"
        assert (await source.call("header", {"text": "x-team"}, CONTEXT)).content == "tides"
        assert (await source.call("header", {"text": "authorization"}, CONTEXT)).content == "Bearer ***"
        late = await source.call("hang", {}, ToolContext(timeout_s=0.3))
        assert late.outcome == "timeout"
        await until(lambda: "hang was cancelled" in kit.notes)
        await source.close()


@in_trio
async def test_a_server_that_was_started_again_is_spoken_to_in_a_new_session(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        async with serving(tmp_path) as url:
            source = kit.source(kit.options(command=(), url=url))
            await source.tools()
        async with serving(tmp_path):
            assert (await source.call("count", {}, CONTEXT)).content == "1"
            assert kit.notes.count("call count ") == 1


@in_trio
async def test_a_server_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options(command=(), url=f"unix:{tmp_path}/nothing.sock"))
        with pytest.raises(BackendUnavailable, match="ConnectError"):
            await source.tools()


Answer = Callable[[bytes], bytes]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """A server that gives one answer to every request; its URL."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await stream.send_all(answer(await whole_request(stream)))
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/mcp"
        nursery.cancel_scope.cancel()


def http(status: str, *headers: str, body: bytes = b"") -> Answer:
    lines = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {len(body)}", *headers, "", ""]
    return lambda _request: "\r\n".join(lines).encode() + body


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http("401 Unauthorized"), "HTTP 401"),
        (http("302 Found", "Location: http://127.0.0.1:1/other"), "HTTP 302|not followed"),
        (http("307 Moved", "Location: http://elsewhere.example/mcp"), "HTTP 307|not followed"),
        (http("200 OK", "Content-Type: application/json", body=b"{" * 200_000), "longer than max_result_bytes"),
        (http("200 OK", "Content-Type: application/json", "Content-Encoding: gzip", body=b"x"), "compressed"),
        (http("200 OK", "Content-Type: text/html", body=b"<html>"), "Unexpected content type"),
        (http("200 OK", "Content-Type: application/json", body=b"not json"), "does not begin a session"),
    ],
)
def test_an_answer_that_is_none_is_told_of(tmp_path: Path, answer: Answer, why: str) -> None:
    @in_trio
    async def main() -> None:
        async with mcp_kit(tmp_path) as kit, answering(answer) as url:
            source = kit.source(kit.options(command=(), url=url, max_result_bytes=100_000, start_s=5.0))
            with pytest.raises(BackendUnavailable, match=why):
                await source.tools()

    main()


@in_trio
async def test_a_server_that_asks_for_it_is_left_alone(tmp_path: Path) -> None:
    asked: list[bytes] = []
    busy = http("503 Busy", "Retry-After: 120")

    def answer(request: bytes) -> bytes:
        asked.append(request)
        return busy(request)

    async with mcp_kit(tmp_path) as kit, answering(answer) as url:
        for session in ("ses_a", "ses_b", "ses_a"):
            with pytest.raises(BackendUnavailable, match=r"HTTP 503|left alone for another 1[12][0-9] s"):
                await kit.source(kit.options(command=(), url=url), kit.user(session)).tools()
        assert len(asked) == 1


@in_trio
async def test_no_proxy_of_the_environment_is_asked(tmp_path: Path) -> None:
    asked: list[bytes] = []

    def answer(request: bytes) -> bytes:
        asked.append(request)
        return http("500 No")(request)

    with pytest.MonkeyPatch.context() as patch:
        async with mcp_kit(tmp_path) as kit, answering(answer) as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                patch.setenv(name, proxy)
            source = kit.source(kit.options(command=(), url="http://127.0.0.1:1/mcp"))
            with pytest.raises(BackendUnavailable, match="ConnectError"):
                await source.tools()
            assert asked == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("999999999999", 3600.0),
        ("-5", 0.0),
        ("", 0.0),
        ("soon", 0.0),
    ],
)
def test_what_retry_after_asks_for(text: str, seconds: float) -> None:
    assert seconds_to_rest(text, now=10.0) == seconds


def test_an_address_may_be_a_socket() -> None:
    assert address_of("https://x.example/mcp") == ("https://x.example/mcp", None)
    assert address_of("unix:/run/x.sock") == ("http://localhost:8000/mcp", "/run/x.sock")
    assert address_of("unix:/run/x.sock:/v2/mcp") == ("http://localhost:8000/v2/mcp", "/run/x.sock")
