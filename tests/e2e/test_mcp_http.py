"""The workshop over MCP on the daemon's socket: the SDK's own client, earlier protocols, and hostile clients."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from mcp import Client, types
from mcp.client.streamable_http import streamable_http_client

from e2e.harness import Daemon, running, write_skill
from e2e.test_mcp import HELD, Bridge, text_of

# The client's transport leaves a generator to the collector, and warns of it itself.
pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning")]

BOTH = "application/json, text/event-stream"
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("mcp-http")
    write_skill(folder / "skills", "held", HELD)
    config = '[backends.command.shell]\nargv = ["sh", "-c", "sed \'1,/^#!script$/d\' | sh"]\n'
    with running(folder, skills=[folder / "skills"], config=config) as daemon:
        yield daemon


@asynccontextmanager
async def client_of(daemon: Daemon) -> AsyncIterator[Bridge]:
    transport = httpx2.AsyncHTTPTransport(uds=str(daemon.socket))
    async with (
        httpx2.AsyncClient(transport=transport, timeout=30) as http,
        Client(streamable_http_client("http://skilld/mcp", http_client=http)) as client,
    ):
        yield Bridge(client)


def post(daemon: Daemon, body: Any, **headers: str) -> httpx.Response:
    sent = {"accept": BOTH, "content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with daemon.http() as http:
        return http.post("/mcp", content=content, headers=sent)


def session_of(daemon: Daemon) -> str:
    """A session of the protocol that had them."""
    begun = post(daemon, HELLO)
    assert begun.status_code == 200, begun.text
    session = begun.headers["mcp-session-id"]
    assert post(daemon, {"jsonrpc": "2.0", "method": "notifications/initialized"}, mcp_session_id=session).is_success
    return str(session)


def test_a_client_of_the_library_has_the_tools_and_hears_of_a_long_wait(daemon: Daemon) -> None:
    told: list[str | None] = []
    go = daemon.folder / "go"

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async def main() -> None:
        async with client_of(daemon) as bridge:
            assert len((await bridge.client.list_tools()).tools) > 30
            await bridge.call("create_agent", name="slow")
            asked = await bridge.client.call_tool(
                "ask", {"agent": "slow", "prompt": f"/held {go}", "timeout": 200}, progress_callback=note
            )
            assert isinstance(asked, types.CallToolResult)
            turn = text_of(asked).rpartition("turn=")[2].split()[0]
            assert any(turn in str(message) for message in told)
            go.touch()
            assert await bridge.call("await", turn=turn, timeout=60_000) == "done"
            assert "unknown parameter" in await bridge.refused("agents", agent=1)
            lines = (await bridge.call("events", last=2)).splitlines()
            assert [json.loads(line)["seq"] for line in lines] == sorted(json.loads(line)["seq"] for line in lines)

    anyio.run(main, backend="trio")


def test_what_is_claimed_stays_claimed_between_calls(daemon: Daemon) -> None:
    async def main() -> None:
        async with client_of(daemon) as bridge:
            await bridge.call("add_work", id="w1", title="Work")
            assert "Work" in await bridge.call("claim_work", id="w1")
        async with client_of(daemon) as bridge:
            assert "Completed w1: done" in await bridge.call("complete_work", id="w1", result="Done.")

    anyio.run(main, backend="trio")


def test_a_restart_of_the_daemon_loses_no_client(tmp_path: Path) -> None:
    async def main(daemon: Daemon) -> None:
        async with client_of(daemon) as bridge:
            await bridge.call("create_agent", name="one")
            daemon.kill()
            daemon.start()
            assert "one: idle" in await bridge.call("agents")

    with running(tmp_path) as daemon:
        session = session_of(daemon)
        anyio.run(main, daemon, backend="trio")
        # A client of an earlier protocol is told to begin anew.
        assert post(daemon, LIST, mcp_session_id=session).status_code == 404
        assert post(daemon, LIST, mcp_session_id=session_of(daemon)).status_code == 200


def test_a_session_of_an_earlier_protocol_ends_when_it_is_ended(daemon: Daemon) -> None:
    session = session_of(daemon)
    answer = post(daemon, LIST, mcp_session_id=session)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert '"create_agent"' in answer.text
    with daemon.http() as http:
        assert http.delete("/mcp", headers={"mcp-session-id": session}).status_code == 200
    assert post(daemon, LIST, mcp_session_id=session).status_code == 404
    assert post(daemon, LIST, mcp_session_id="x" * 500).status_code == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"jsonrpc": "2.0"}', {}, 400),
        (HELLO, {"accept": "text/html"}, 406),
        (HELLO, {"content_type": "text/plain"}, 400),
        (LIST, {}, 400),
        (LIST, {"mcp_protocol_version": "1999-01-01"}, 400),
        (b'"' + b"x" * (5 << 20) + b'"', {}, 413),
        (b'"' + b"x" * (9 << 20) + b'"', {}, 413),
        (HELLO, {"origin": "https://example.org"}, 403),
    ],
    ids=lambda value: None if isinstance(value, dict | int) else repr(value)[:20],
)
def test_what_is_no_message_is_refused(daemon: Daemon, body: Any, headers: dict[str, str], status: int) -> None:
    assert post(daemon, body, **headers).status_code == status
    session_of(daemon)


def test_sessions_have_a_bound_and_leave_those_alone_that_need_none(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        opened = [post(daemon, HELLO).status_code for _ in range(100)]
        assert opened == [200] * 64 + [503] * 36

        async def main() -> None:
            async with client_of(daemon) as bridge:
                assert "There are no agents" in await bridge.call("agents")

        anyio.run(main, backend="trio")


def test_who_closes_half_has_its_answer_and_who_leaves_harms_nobody(daemon: Daemon) -> None:
    body = json.dumps(HELLO).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nhost: x\r\naccept: {BOTH}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    for leaves in (False, True, True):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(daemon.socket))
            client.sendall(head.encode() + (body[:9] if leaves else body))
            if leaves:
                continue
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    session_of(daemon)
    assert "Traceback" not in daemon.log.read_text()


def test_the_program_of_an_agent_calls_as_the_agent(daemon: Daemon) -> None:
    def called(name: str, arguments: dict[str, Any]) -> str:
        request = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        curl = f'curl -sS --unix-socket "{daemon.socket}" -H content-type:application/json -H "accept: {BOTH}"'
        script = (
            f"S=$({curl} -D - -o /dev/null -d '{json.dumps(HELLO)}' http://x/mcp | grep -i ^mcp-session"
            " | tr -d '\\r' | cut -d' ' -f2)\n"
            f"{curl} -H \"mcp-session-id: $S\" -d '{json.dumps(request)}' http://x/mcp\n"
        )
        turn = daemon.ask(daemon.create(backends=["shell"]), f"\n#!script\n{script}")
        return str(turn["result"]["text"])

    assert "Stored n/k, version" in called("store_put", {"namespace": "n", "key": "k", "value": 1})
    refused = called("configure", {"context": "be free"})
    assert '"isError":true' in refused
    assert "forbidden" in refused
