"""The workshop over MCP: the real bridge, a client of the SDK, and the real daemon with the offline model."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters, types
from mcp.client.stdio import stdio_client

from claude_kit import open_real_claude, real_claude, session_of
from codex_kit import Remembers
from e2e.harness import Daemon, clean_environment, program, running, write_skill
from skill_actors.backends.agents.base import AgentRequest, McpServer, ToolEnded
from skill_actors.testing import Reply, Text, ToolUse, open_fake_api

pytestmark = pytest.mark.e2e

SOON_S = 60.0
ECHO = "import sys\nprint(*sys.argv[1:])\n"
LINGER = "import sys, time\ntime.sleep(float(sys.argv[1]))\nprint('done')\n"
HELD = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]):\n    time.sleep(0.02)\nprint('done')\n"

# Each of AgentWorkshop's tools with the parameters it has there, and then ours.
THE_21 = {
    "configure": {"model", "context", "permission_mode"},
    "create_agent": {"name", "role", "model", "max_turns", "permission_mode", "allowed_tools"},
    "from_profile": {"profile", "name"},
    "agents": set(),
    "reset": {"agent"},
    "dismiss": {"agent"},
    "ask": {"agent", "prompt"},
    "cast": {"agent", "prompt"},
    "await": {"agent", "timeout"},
    "await_all": {"timeout"},
    "pipe": {"from", "to", "message"},
    "fan": {"message", "agents"},
    "status": set(),
    "result": {"agent"},
    "info": {"agent"},
    "cost": set(),
    "add_work": {"id", "title", "type", "spec", "priority", "depends_on"},
    "board": {"status", "type"},
    "claim_work": {"id", "agent"},
    "complete_work": {"id", "result"},
    "fail_work": {"id", "error"},
}
OURS = {
    *("store_put", "store_get", "store_keys", "store_delete", "events"),
    *("schedule_add", "schedule_list", "schedule_remove", "schedule_run"),
    *("workflow_list", "workflow_run", "workflow_status", "workflow_cancel"),
    *("cancel_work", "history", "budget"),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("mcp")
    write_skill(folder / "skills", "echo", ECHO)
    write_skill(folder / "skills", "linger", LINGER)
    write_skill(folder / "skills", "held", HELD)
    with running(folder, skills=[folder / "skills"]) as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK ends a bridge by a signal that took 2 s to give back what it had claimed."""
    monkeypatch.setattr("mcp.client.stdio.PROCESS_TERMINATION_TIMEOUT", SOON_S)


class Bridge:
    """A client of the SDK at the other end of a bridge."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def result(self, name: str, /, **arguments: Any) -> types.CallToolResult:
        found = await self.client.call_tool(name, arguments)
        assert isinstance(found, types.CallToolResult)
        return found

    async def call(self, name: str, /, **arguments: Any) -> str:
        """The answer of a call that succeeds."""
        found = await self.result(name, **arguments)
        assert not found.is_error, text_of(found)
        return text_of(found)

    async def refused(self, name: str, /, **arguments: Any) -> str:
        """What is said of a call that does not."""
        found = await self.result(name, **arguments)
        assert found.is_error, text_of(found)
        return text_of(found)


def text_of(result: types.CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, types.TextContent)
    return block.text


@asynccontextmanager
async def bridge_to(daemon: Daemon, *options: str) -> AsyncIterator[Bridge]:
    command, *arguments = program("skillctl")
    started = StdioServerParameters(
        command=command,
        args=[*arguments, "mcp", *options],
        env=clean_environment(SKILLD_SOCKET=str(daemon.socket)),
    )
    async with Client(stdio_client(started)) as client:
        yield Bridge(client)


def test_every_tool_does_what_it_says(daemon: Daemon) -> None:
    daemon.skillctl("workshop", "profile", "define", "clerk", "--role", "You file things.")

    async def main() -> None:
        async with bridge_to(daemon) as bridge:
            listed = {each.name: each for each in (await bridge.client.list_tools()).tools}
            assert set(listed) == set(THE_21) | OURS
            for name, parameters in THE_21.items():
                schema = listed[name].input_schema
                assert parameters <= set(schema["properties"]), name
                assert schema["additionalProperties"] is False, name
            await agents_are_made_and_spoken_to(bridge)
            await work_is_added_and_done(bridge)
            await values_are_shared(bridge)
            await plans_are_made(bridge)

    anyio.run(main, backend="trio")


async def agents_are_made_and_spoken_to(bridge: Bridge) -> None:
    assert "Be brief." in await bridge.call("configure", context="Be brief.")
    assert await bridge.call("create_agent", name="one", role="You repeat.") == (
        "Made one: idle, 0 turns, $0.0000 - You repeat."
    )
    assert "clerk" not in await bridge.call("agents")
    assert "two: idle" in await bridge.call("from_profile", profile="clerk", name="two")
    assert "has not answered anything yet" in await bridge.refused("result", agent="one")
    assert await bridge.call("ask", agent="one", prompt="/echo hello there") == "hello there"
    assert await bridge.call("result", agent="one") == "hello there"
    told = await bridge.call("cast", agent="two", prompt="/echo on its own")
    turn = told.split()[3]
    assert await bridge.call("await", turn=turn) == "on its own"
    assert await bridge.call("await", agent="two") == "on its own"
    assert "All agents are done." in await bridge.call("await_all")
    piped = await bridge.call("pipe", **{"from": "one", "to": "two", "message": "/echo see"})
    assert piped.startswith("see")
    assert "hello there" in piped
    fanned = await bridge.call("fan", message="/echo same", agents=["one", "two"])
    assert fanned == "== one\nsame\n\n== two\nsame"
    with anyio.fail_after(SOON_S):
        while "one: idle, 2 turns" not in await bridge.call("status"):  # noqa: ASYNC110  # it is counted behind the answer
            await anyio.sleep(0.02)
    assert json.loads(await bridge.call("info", agent="one"))["settings"]["role"] == "You repeat."
    assert "hello there" in await bridge.call("history", agent="one")
    assert "all: $" in await bridge.call("cost")
    assert await bridge.call("budget")
    assert "Reset one: idle" in await bridge.call("reset", agent="one")
    assert await bridge.call("dismiss", agent="one") == "Dismissed one."
    assert "there is no agent 'one'" in await bridge.refused("ask", agent="one", prompt="x")


async def work_is_added_and_done(bridge: Bridge) -> None:
    added = await bridge.call("add_work", id="a", title="First", type="code", spec="Do it.", priority=1, depends_on=[])
    assert added == "Added a: ready, code, P1 - First"
    await bridge.call("add_work", id="b", title="Second", depends_on=["a"])
    assert await bridge.call("board", type="code", status="ready") == "a: ready, code, P1 - First"
    assert "was not claimed here" in await bridge.refused("complete_work", id="a")
    assert await bridge.call("claim_work", id="a", agent="two") == "Claimed by two: First (code)\n\nDo it."
    assert "Completed a: done" in await bridge.call("complete_work", id="a", result="It is done.")
    await bridge.call("claim_work", id="b")
    assert "Failed b: ready" in await bridge.call("fail_work", id="b", error="no time")
    assert "Cancelled b: cancelled" in await bridge.call("cancel_work", id="b", reason="not needed")


async def values_are_shared(bridge: Bridge) -> None:
    assert await bridge.call("store_put", namespace="n", key="k", value={"a": [1]}) == "Stored n/k, version 1."
    assert json.loads(await bridge.call("store_get", namespace="n", key="k"))["value"] == {"a": [1]}
    assert await bridge.call("store_keys", namespace="n") == "n/k (version 1)"
    assert "conflict" in await bridge.refused("store_put", namespace="n", key="k", value=2, expected=7)
    assert await bridge.call("store_delete", namespace="n", key="k") == "Deleted n/k."
    assert "not_found" in await bridge.refused("store_get", namespace="n", key="k")
    last = [json.loads(line) for line in (await bridge.call("events", last=3)).splitlines()]
    assert [event["seq"] for event in last] == sorted(event["seq"] for event in last)
    assert len(last) == 3


async def plans_are_made(bridge: Bridge) -> None:
    await bridge.call("schedule_add", name="daily", agent="two", prompt="/echo tick", cron="0 4 * * *")
    assert json.loads(await bridge.call("schedule_list"))[0]["name"] == "daily"
    turn = (await bridge.call("schedule_run", name="daily")).split()[1]
    assert await bridge.call("await", turn=turn) == "tick"
    assert await bridge.call("schedule_remove", name="daily") == "Removed schedule daily."
    assert await bridge.call("workflow_list") == "There are no workflows."
    assert "not_found" in await bridge.refused("workflow_run", name="none")
    assert await bridge.call("workflow_status") == "There are no runs."
    assert "not_found" in await bridge.refused("workflow_cancel", run="run_none")


def test_a_long_ask_gives_back_its_turn_and_tells_of_it_meanwhile(daemon: Daemon) -> None:
    """No answer is lost, however long it takes (G17)."""
    told: list[str | None] = []
    go = daemon.folder / "go"

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async def main() -> None:
        async with bridge_to(daemon) as bridge:
            await bridge.call("create_agent", name="slow")
            asked = await bridge.client.call_tool(
                "ask", {"agent": "slow", "prompt": f"/held {go}", "timeout": 200}, progress_callback=note
            )
            assert isinstance(asked, types.CallToolResult)
            assert "it goes on. Call await with turn=" in text_of(asked)
            turn = text_of(asked).rpartition("turn=")[2].split()[0]
            assert any(turn in str(message) for message in told)
            busy = await bridge.refused("pipe", **{"from": "slow", "to": "slow", "timeout": 0})
            assert "still at work" in busy
            go.touch()
            assert await bridge.call("await", turn=turn, timeout=60_000) == "done"

    anyio.run(main, backend="trio")


def test_a_bridge_of_an_agent_claims_in_its_name_and_never_waits_for_itself(daemon: Daemon) -> None:
    async def main() -> None:
        async with bridge_to(daemon, "--agent", "boss") as bridge:
            await bridge.call("create_agent", name="aide")
            assert "cannot ask itself" in await bridge.refused("ask", agent="boss", prompt="x")
            assert "cannot wait for itself" in await bridge.refused("await", agent="boss")
            await bridge.call("add_work", id="mine", title="Mine")
            assert "leave 'agent' out" in await bridge.refused("claim_work", id="mine", agent="aide")
            assert (await bridge.call("claim_work", id="mine")).startswith("Claimed by boss: ")

    anyio.run(main, backend="trio")
    item = json.loads(daemon.skillctl("board", "show", "mine", "--json").stdout)
    assert (item["status"], item["attempts"]) == ("ready", 1)  # given back when the bridge ended


def test_what_fails_is_told_with_its_reason(daemon: Daemon) -> None:
    async def main() -> None:
        async with bridge_to(daemon) as bridge:
            await bridge.call("create_agent", name="good")
            fanned = await bridge.call("fan", message="/echo same", agents=["good", "nobody"])
            assert "== good\nsame\n\n== nobody\nrefused: there is no agent 'nobody'" in fanned
            await bridge.call("create_agent", name="late")
            told = await bridge.call("cast", agent="late", prompt="/linger 60")
            turn = told.split()[3]
            daemon.skillctl("cancel", turn)
            assert f"turn {turn} cancelled" in await bridge.refused("await", turn=turn)
            assert "one of them" in await bridge.refused("await")
            assert "no_such" in await bridge.refused("from_profile", profile="no_such", name="x")

    anyio.run(main, backend="trio")


def test_tools_that_are_not_allowed_are_not_there(daemon: Daemon) -> None:
    async def main() -> None:
        async with bridge_to(daemon, "--allow", "agents", "--allow", "ask", "--read-only") as bridge:
            assert [each.name for each in (await bridge.client.list_tools()).tools] == ["agents"]
            assert "there is no tool 'ask' here" in await bridge.refused("ask", agent="x", prompt="y")
            assert "there is no tool 'dismiss' here" in await bridge.refused("dismiss", agent="x")

    anyio.run(main, backend="trio")


def test_a_daemon_that_is_away_is_an_error_of_the_tool_and_comes_back(tmp_path: Path) -> None:
    async def main(daemon: Daemon) -> None:
        async with bridge_to(daemon) as bridge:
            assert "unreachable: cannot reach the daemon" in await bridge.refused("agents")
            daemon.start()
            assert "There are no agents" in await bridge.call("agents")
            daemon.kill()
            assert "the daemon" in await bridge.refused("agents")

    anyio.run(main, Daemon(tmp_path), backend="trio")


def test_a_bridge_that_waits_finds_a_daemon_again_that_was_killed(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "linger", LINGER)

    async def main(daemon: Daemon) -> None:
        runs = anyio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            if "running" in str(message):  # told every five seconds
                runs.set()

        async def ask() -> None:
            asked = await bridge.client.call_tool(
                "ask", {"agent": "slow", "prompt": "/linger 60"}, progress_callback=note
            )
            assert isinstance(asked, types.CallToolResult)
            assert asked.is_error
            assert "interrupted" in text_of(asked)

        async with bridge_to(daemon) as bridge:
            await bridge.call("create_agent", name="slow")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                with anyio.fail_after(2 * SOON_S):
                    await runs.wait()
                daemon.kill()
                daemon.start()
            assert "slow: " in await bridge.call("agents")

    with running(tmp_path, skills=[tmp_path / "skills"]) as daemon:
        anyio.run(main, daemon, backend="trio")


def test_what_is_no_message_is_survived_and_the_end_of_the_input_ends_the_bridge(daemon: Daemon) -> None:
    command = [*program("skillctl"), "mcp"]
    env = clean_environment(SKILLD_SOCKET=str(daemon.socket))
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    hostile = [b"garbage\n", b"\xff\xfe\n", b"[]\n", b'{"jsonrpc": "2.0"}\n', b"{" * 5000 + b"\n", b"\n"]
    calls = [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "agents", "arguments": {"agent": 1}}},
        {
            "jsonrpc": "2.0",
            "id": 3,
            "method": "tools/call",
            "params": {"name": "info", "arguments": {"agent": "\ud800"}},
        },
    ]
    sent = [json.dumps(hello).encode() + b"\n", *hostile, *(json.dumps(call).encode() + b"\n" for call in calls)]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bridge:
        timer = threading.Timer(SOON_S, bridge.kill)
        timer.start()
        assert bridge.stdin is not None
        assert bridge.stdout is not None
        bridge.stdin.write(b"".join(sent))
        bridge.stdin.flush()
        answers: dict[Any, Any] = {}
        while not {1, 2, 3} <= set(answers):
            line = bridge.stdout.readline()
            assert line, answers
            answers[json.loads(line).get("id")] = json.loads(line)
        bridge.stdin.close()
        assert bridge.wait(SOON_S) == 0
        timer.cancel()
    assert answers[1]["result"]["protocolVersion"] == "2025-06-18"
    refused = answers[2]["result"]
    assert refused["isError"]
    assert "unknown parameter 'agent'" in refused["content"][0]["text"]
    assert answers[3]["result"]["isError"]


def test_options_that_name_no_tool_are_refused(daemon: Daemon) -> None:
    done = daemon.skillctl("mcp", "--allow", "aks", input="")
    assert (done.returncode, "did you mean 'ask'?" in done.stderr) == (2, True)
    done = daemon.skillctl("mcp", "--allow", "ask", "--read-only", input="")
    assert (done.returncode, "no tool is left" in done.stderr) == (2, True)


def test_the_claude_program_calls_a_tool_of_the_bridge(daemon: Daemon, tmp_path: Path) -> None:
    real_claude()
    server = McpServer(
        command=(*program("skillctl"), "mcp"),
        environment={"SKILLD_SOCKET": str(daemon.socket)},
    )
    put = {"namespace": "from-claude", "key": "k", "value": "put by claude"}
    answers = [Reply([ToolUse("mcp__workshop__store_put", put)]), Reply([Text("done")])]

    async def main() -> None:
        async with open_fake_api(answers) as api, open_real_claude(tmp_path, api.base_url) as backend:
            session = await session_of(backend, tmp_path, mcp={"workshop": server})
            watch = Remembers()
            assert (await session.send_message(AgentRequest(prompt="go"), watch)).result == "done"
            (ended,) = watch.of(ToolEnded)
            assert "Stored from-claude/k, version 1." in str(ended.content)

    anyio.run(main, backend="trio")
    found = json.loads(daemon.skillctl("workshop", "store", "get", "from-claude", "k", "--json").stdout)
    assert found["value"] == "put by claude"
