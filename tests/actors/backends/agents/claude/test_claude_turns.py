"""Turns of the claude backend over the stand-in: what is told, what is asked, and what each costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from claude_kit import log, open_stand_in, session_of
from codex_kit import DENY, Remembers
from skill_actors.backends.agents.base import (
    AgentError,
    AgentRequest,
    AgentSession,
    Denial,
    McpServer,
    PermissionAnswer,
    PermissionQuestion,
    Permitted,
    Raw,
    Refusal,
    Retrying,
    Said,
    SessionKnown,
    Spent,
    TextDelta,
    ToolBegan,
    ToolEnded,
)
from skill_actors.backends.agents.claude import ClaudeBackend
from skill_actors.backends.base import Image
from skill_actors.models.base import Usage
from support import run

ONE = Usage(input_tokens=10, output_tokens=5, cache_read_tokens=3, cache_write_5m_tokens=2)
Body = Callable[[AgentSession, ClaudeBackend], Awaitable[None]]


def play(folder: Path, body: Body, *, spec: dict[str, Any] | None = None, **options: Any) -> None:
    async def main() -> None:
        async with open_stand_in(folder, **options) as backend:
            session = await session_of(backend, folder, **(spec or {}))
            assert not log(folder), "no program is started before the first message"
            await body(session, backend)

    run(main)


def say(prompt: str, **more: Any) -> AgentRequest:
    return AgentRequest(prompt=prompt, **more)


def test_a_turn_is_told_as_it_goes_and_has_a_result(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        assert (session.session_id, session.last_result, session.turn_count, session.total_cost) == (None, None, 0, 0.0)
        watch = Remembers()
        result = await session.send_message(say("hello"), watch)
        assert (result.result, result.is_error, result.model) == ("You said: hello", False, "claude-stand-in")
        assert (result.usage, result.by_model, result.cost_usd) == (ONE, {"claude-stand-in": ONE}, 0.01)
        assert "".join(event.text for event in watch.of(TextDelta)) == "You said: hello"
        assert watch.of(Said) == [Said(({"type": "text", "text": "You said: hello"},))]
        assert watch.of(SessionKnown) == [SessionKnown(str(session.session_id))]
        assert watch.of(Spent)[-1] == Spent(ONE, {"claude-stand-in": ONE})
        assert (session.history, session.last_result, session.turn_count) == ((result,), result, 1)

    play(tmp_path, body)


def test_a_busy_agent_keeps_one_process_and_each_turn_costs_its_own(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        results = [await session.send_message(say(f"turn {number}")) for number in range(3)]
        assert [result.cost_usd for result in results] == pytest.approx([0.01] * 3)
        assert [result.usage for result in results] == [ONE] * 3
        assert session.total_cost == pytest.approx(0.03)
        assert sum("argv" in entry for entry in log(tmp_path)) == 1

    play(tmp_path, body)


def test_calls_are_told_and_asked_in_their_order(tmp_path: Path) -> None:
    order: list[str] = []

    class Watch(Remembers):
        async def event(self, event: Any) -> None:
            order.append(type(event).__name__)

        async def permit(self, question: PermissionQuestion) -> PermissionAnswer:
            order.append("permit")
            return Permitted({"command": "other"})

    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        result = await session.send_message(say('ask Bash {"command": "ls"}'), Watch())
        assert result.result == 'You said: {"command": "other"}'
        assert result.denials == ()

    play(tmp_path, body)
    asked = [name for name in order if name in ("Said", "ToolBegan", "permit", "ToolEnded")]
    assert asked == ["Said", "ToolBegan", "permit", "ToolEnded", "Said"]


def test_a_refusal_reaches_the_agent_with_its_reason(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        watch = Remembers(DENY)
        result = await session.send_message(say('ask Bash {"command": "rm"}'), watch)
        assert result.result == "You said: not today"
        (began,) = watch.of(ToolBegan)
        assert watch.of(ToolEnded) == [ToolEnded(began.id, "not today", True)]
        assert result.denials == (Denial(tool="Bash", id=began.id, input={"command": "rm"}),)
        with pytest.raises(AgentError) as caught:
            await session.send_message(say('ask Bash {"command": "rm"}'), Remembers(Refusal("no", stop=True)))
        assert (caught.value.code, caught.value.acted) == ("interrupted", True)

    play(tmp_path, body)


def test_what_the_watch_raises_ends_the_turn_and_goes_on(tmp_path: Path) -> None:
    class Upset(Exception):
        pass

    class Watch(Remembers):
        async def permit(self, question: PermissionQuestion) -> PermissionAnswer:
            raise Upset

    class Deaf(Remembers):
        async def event(self, event: Any) -> None:
            raise Upset

    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        for watch in (Watch(), Deaf()):
            with pytest.raises(Upset):
                await session.send_message(say('ask Bash {"command": "ls"}'), watch)
            assert (await session.send_message(say("again"))).result == "You said: again"

    play(tmp_path, body)


def test_a_helpers_call_counts_but_its_words_are_not_the_agents(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        watch = Remembers()
        result = await session.send_message(say("helper\nwords"), watch)
        assert [event.id for event in watch.of(ToolBegan)] == ["toolu_helper"]
        assert [said.content[0]["text"] for said in watch.of(Said)] == [result.result]

    play(tmp_path, body)


def test_a_turn_that_the_program_begins_by_itself_is_not_taken_for_the_next(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        first = await session.send_message(say("background\none"))
        watch = Remembers()
        second = await session.send_message(say("two"), watch)
        assert (first.result, second.result) == ("You said: one", "You said: two")
        assert [said.content[0]["text"] for said in watch.of(Said)] == ["You said: two"]
        assert [event.data["result"] for event in watch.of(Raw) if "result" in event.data] == ["of my own"]
        assert session.total_cost == pytest.approx(0.03)  # nobody else would be charged for it

    play(tmp_path, body)


def test_prompt_system_prompt_and_secrets_are_in_no_command_line(tmp_path: Path) -> None:
    servers = {"board": McpServer(command=("board", "--x"), environment={"TOKEN": "mcp-secret"})}

    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        await session.send_message(say("the prompt"))
        started, told, asked = log(tmp_path)
        line = " ".join(started["argv"])
        assert not [text for text in ("the prompt", "a role", "not-a-key", "mcp-secret") if text in line]
        assert told["initialize"]["appendSystemPrompt"] == "a role"
        assert asked["content"] == [{"type": "text", "text": "the prompt"}]
        notes = list((tmp_path / "notes").iterdir())
        assert [note.stat().st_mode & 0o777 for note in notes] == [0o600]
        assert "mcp-secret" in notes[0].read_text()
        await session.stop_session()
        assert list((tmp_path / "notes").iterdir()) == []

    play(tmp_path, body, spec={"system": "a role", "mcp": servers})


def test_the_environment_is_what_the_options_say_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "of-the-daemon")
    monkeypatch.setenv("CLAUDE_CODE_USE_BEDROCK", "1")
    monkeypatch.setenv("SOMETHING", "of-the-daemon")

    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        await session.send_message(say("hello", max_tokens=500))
        env = log(tmp_path)[0]["env"]
        assert env.pop("SKILLD_RUNNER")
        assert env.pop("STAND_IN_HELP")
        env.pop("LC_CTYPE", None)  # of the interpreter that the stand-in runs in
        assert env == {
            "ANTHROPIC_API_KEY": "not-a-key",
            "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",
            "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "500",
            "CLAUDE_CODE_MAX_RETRIES": "4",
            "CLAUDE_CODE_TMPDIR": f"{tmp_path}/tmp",
            "CLAUDE_CONFIG_DIR": f"{tmp_path}/config",
            "DISABLE_AUTOUPDATER": "1",
            "HOME": f"{tmp_path}/home",
            "LANG": "C.UTF-8",
            "MCP_CONNECTION_NONBLOCKING": "0",
            "MCP_CONNECT_TIMEOUT_MS": "30000",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TEAM": "red",
            "TMPDIR": f"{tmp_path}/tmp",
        }

    play(tmp_path, body, spec={"options": {"environment": {"TEAM": "red"}}}, session_variables=["TEAM"])


def test_a_text_that_begins_with_a_slash_is_no_command(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        picture = Image(media_type="image/png", data=b"abc")
        await session.send_message(say("/etc/hosts is wrong", images=[picture]))
        text, image = log(tmp_path)[-1]["content"]
        assert text == {"type": "text", "text": "\n/etc/hosts is wrong"}
        assert image["source"] == {"type": "base64", "media_type": "image/png", "data": "YWJj"}

    play(tmp_path, body)


def test_a_turn_that_wants_something_else_gets_another_process_of_the_same_session(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        await session.send_message(say("one"))
        first = session.session_id
        for more in ({"model": "other"}, {"effort": "high"}, {"schema": {"type": "object"}}, {"max_cost_usd": 5.0}):
            await session.send_message(say("two", **more))
        starts = [entry["argv"] for entry in log(tmp_path) if "argv" in entry]
        assert len(starts) == 5
        assert all(argv[argv.index("--resume") + 1] == first for argv in starts[1:])
        assert session.session_id == first
        assert session.total_cost == pytest.approx(0.05)  # the counters of each process begin anew

    play(tmp_path, body)


def test_the_cap_of_a_turn_is_the_programs_and_a_process_that_has_too_little_left_is_replaced(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        for _number in range(3):
            await session.send_message(say("cheap", max_cost_usd=0.05))  # 0.05, 0.04 and 0.03 are left
        assert sum("argv" in entry for entry in log(tmp_path)) == 1
        await session.send_message(say("cheap", max_cost_usd=0.05))  # 0.02 is less than half
        assert sum("argv" in entry for entry in log(tmp_path)) == 2
        with pytest.raises(AgentError) as caught:
            await session.send_message(say("dear", max_cost_usd=0.001))
        assert (caught.value.code, caught.value.cost_usd) == ("max_budget_exceeded", 0.01)

    play(tmp_path, body)


def test_a_session_goes_on_in_another_backend_and_a_fork_leaves_it_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_stand_in(tmp_path) as backend:
            session = await session_of(backend, tmp_path)
            await session.send_message(say("one"))
        assert session.session_id is not None
        async with open_stand_in(tmp_path) as backend:
            again = await session_of(backend, tmp_path, session_id=session.session_id)
            await again.send_message(say("two"))
            assert again.session_id == session.session_id
            fork = await session_of(backend, tmp_path, work="elsewhere", session_id=session.session_id, fork=True)
            assert fork.session_id is None
            await fork.send_message(say("three"))
            await fork.send_message(say("four", model="other"))
            assert fork.session_id not in (None, session.session_id)
            lost = await session_of(backend, tmp_path, session_id="11111111-1111-4111-8111-111111111111")
            with pytest.raises(AgentError) as caught:
                await lost.send_message(say("x"))
            assert (caught.value.code, caught.value.cost_usd) == ("session_lost", 0.0)

    run(main)
    kept = sorted(len(path.read_text().splitlines()) for path in (tmp_path / "config").glob("projects/*/*.jsonl"))
    assert kept == [2, 2, 4]  # the session, its copy, and the fork


def test_retries_are_told(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        watch = Remembers()
        await session.send_message(say("retry"), watch)
        assert watch.of(Retrying) == [Retrying(2, 1.5, "529 overloaded")]

    play(tmp_path, body)


def test_one_turn_at_a_time(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        watch = Remembers()

        async def write() -> None:
            with pytest.raises(AgentError, match="interrupted"):
                await session.send_message(say("write it"), watch)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await watch.heard.wait()
            with pytest.raises(AgentError) as caught:
                await session.send_message(say("more"))
            assert caught.value.code == "turn_in_flight"
            await session.interrupt()

    play(tmp_path, body)


def test_without_duplex_each_turn_is_a_process_that_resumes_the_session(tmp_path: Path) -> None:
    async def body(session: AgentSession, backend: ClaudeBackend) -> None:
        watch = Remembers()
        first = await session.send_message(say("one"), watch)
        second = await session.send_message(say("two", schema={"type": "object"}))
        assert (first.result, second.result, second.cost_usd) == ("You said: one", "You said: two", 0.01)
        assert watch.of(Said) == [Said(({"type": "text", "text": "You said: one"},))]
        starts = [entry["argv"] for entry in log(tmp_path) if "argv" in entry]
        assert ["--resume" in argv for argv in starts] == [False, True]
        assert "a role" not in str(starts)
        claims = backend.capabilities.facts()
        assert not [name for name in ("stream", "approvals", "images") if claims[name]]
        with pytest.raises(AgentError) as caught:
            await session.send_message(say("exit 1 Not logged in"))
        assert caught.value.code == "auth"
        with pytest.raises(AgentError) as silent:
            await session.send_message(say("silent"))
        assert (silent.value.code, silent.value.acted) == ("command_failed", True)

    play(tmp_path, body, spec={"system": "a role"}, duplex=False)
