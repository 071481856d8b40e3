"""Servers that mean no good, or are broken: each costs its own conversation an answer, and nobody anything else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from mcp_kit import in_trio, mcp_kit, script
from skill_actors.backends.base import BackendUnavailable, ToolContext

CONTEXT = ToolContext(timeout_s=20.0)
SPEAK = """
def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\\n")
    sys.stdout.flush()
def tool(name, description="", schema={"type": "object"}):
    return {"name": name, "description": description, "inputSchema": schema}
tools = [tool("one")]
def called(id, params):
    say({"id": id, "result": {"content": [{"type": "text", "text": "done"}]}})
def serve():
    for line in sys.stdin:
        heard = json.loads(line)
        id, method, params = heard.get("id"), heard.get("method"), heard.get("params") or {}
        if method == "initialize":
            say({"id": id, "result": {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "x", "version": "1"}}})
        elif method == "tools/list":
            say({"id": id, "result": {"tools": tools}})
        elif method == "tools/call":
            called(id, params)
"""


def server(text: str) -> tuple[str, ...]:
    """A server that speaks the protocol, but for what `text` changes of it."""
    return script(f"{SPEAK}\n{text}\nserve()")


@in_trio
async def test_a_line_without_an_end_ends_the_server_and_not_the_memory(tmp_path: Path) -> None:
    text = "def called(id, params):\n    while True: sys.stdout.write('x' * 1_000_000)"
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options(command=server(text), max_result_bytes=100_000))
        await source.tools()
        result = await source.call("one", {}, CONTEXT)
        assert "a line of more than" in result.content


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def called(id, params):\n    while True: print('log line')", "lines that are no messages"),
        (
            "def called(id, params):\n    while True: say({'method': 'notifications/tools/list_changed'})",
            "more than 200 messages a second",
        ),
        (
            "def called(id, params):\n    while True: say({'id': 5, 'method': 'sampling/createMessage', 'params': {}})",
            "more than 200 messages a second",
        ),
        ("def called(id, params):\n    while True: print()", "more than 200 messages a second"),
    ],
)
def test_a_flood_ends_the_server_at_once(tmp_path: Path, text: str, why: str) -> None:
    @in_trio
    async def main() -> None:
        async with mcp_kit(tmp_path) as kit:
            source = kit.source(kit.options(command=server(text)))
            await source.tools()
            began = time.monotonic()
            result = await source.call("one", {}, CONTEXT)
            assert why in result.content
            assert time.monotonic() - began < 10

    main()


@in_trio
async def test_some_garbage_between_messages_is_passed_over(tmp_path: Path) -> None:
    text = "print('Starting server...'); print('{\"not\": \"ours\"}'); sys.stdout.write('\\x00\\xff\\n')"
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options(command=server(text)))
        assert [tool.name for tool in await source.tools()] == ["one"]
        assert (await source.call("one", {}, CONTEXT)).content == "done"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("'result': {'tools': 5}", "its answer is none of the protocol"),
        ("'result': {'tools': [{'name': 'x'}]}", "its answer is none of the protocol"),
        ("'error': {'code': -32603, 'message': 'no\\x1b[31m'}", "it answers with an error: no"),
        ("'result': {'tools': [], 'nextCursor': 'again'}", "more than 50 pages of tools"),
    ],
)
def test_a_listing_that_is_none_is_told_of(tmp_path: Path, answer: str, why: str) -> None:
    text = f"""
say_it = say
def say(message):
    say_it({{"id": message["id"], {answer}}} if "tools" in message.get("result", {{}}) else message)
"""

    @in_trio
    async def main() -> None:
        async with mcp_kit(tmp_path) as kit:
            with pytest.raises(BackendUnavailable, match=why):
                await kit.source(kit.options(command=server(text))).tools()

    main()


@in_trio
async def test_ten_thousand_tools_are_cut_to_what_the_operator_permits(tmp_path: Path) -> None:
    text = "tools = [tool(f'tool_{n}') for n in range(10_000)]"
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options(command=server(text), max_tools=20))
        assert [tool.name for tool in await source.tools()] == [f"tool_{n}" for n in range(20)]
        assert "max_tools" in source.left_out["tool_20"]


@in_trio
async def test_a_server_that_hangs_is_ended_once_a_call_has_run_out_of_time(tmp_path: Path) -> None:
    text = "def called(id, params):\n    if params['arguments'].get('hang'): time.sleep(600)\n    " + (
        "say({'id': id, 'result': {'content': [{'type': 'text', 'text': 'done'}]}})"
    )
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options(command=server(text)))
        await source.tools()  # what comes is the time of a call alone
        late = await source.call("one", {"hang": True}, ToolContext(timeout_s=0.2))
        assert late.outcome == "timeout"
        ref = kit.servers().child("test/ses_a")
        assert ref is not None
        await ref.wait_stopped()  # it does not answer a ping
        assert (await source.call("one", {}, CONTEXT)).content == "done"


@in_trio
async def test_a_server_that_does_not_begin_is_given_up(tmp_path: Path) -> None:
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options(command=script("time.sleep(600)"), start_s=0.3))
        with pytest.raises(BackendUnavailable, match=r"it has not begun a session within 0\.3 s"):
            await source.tools()


@in_trio
async def test_a_server_that_reads_nothing_blocks_nobody(tmp_path: Path) -> None:
    text = "def called(id, params):\n    time.sleep(600)"
    async with mcp_kit(tmp_path) as kit:
        source = kit.source(kit.options(command=server(text)))
        await source.tools()
        big = {"text": "x" * 1_000_000}
        began = time.monotonic()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(source.call, "one", big, ToolContext(timeout_s=0.3))
        assert time.monotonic() - began < 20
        await source.close()
