"""Turns of the codex backend over a stand-in for the program: both forms of it, and what goes wrong with either."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio

from codex_kit import DENY, Remembers, open_stand_in, session_of, survivors
from skill_actors.backends.agents.base import (
    AgentError,
    AgentRequest,
    AgentSession,
    McpServer,
    Notice,
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
from skill_actors.backends.agents.codex import CodexBackend
from skill_actors.models.base import Usage
from skill_actors.models.prices import PriceTable, Rates
from support import run

ONE = Usage(input_tokens=100, output_tokens=20)
BOTH = pytest.mark.parametrize("warm", [True, False], ids=["server", "single"])
PRICES = PriceTable(
    dated=date(2026, 1, 1),
    web_search_per_1000=Decimal(0),
    rates={
        "stand-in-1": [
            Rates(
                input=Decimal(10),
                cache_write_5m=Decimal(10),
                cache_write_1h=Decimal(10),
                cache_read=Decimal(1),
                output=Decimal(100),
            )
        ]
    },
)
COST_USD = (100 * 10 + 20 * 100) / 1e6  # of ONE

Body = Callable[[AgentSession, CodexBackend], Awaitable[None]]


def play(folder: Path, body: Body, *, spec: dict[str, Any] | None = None, **options: Any) -> None:
    """Run `body` with a session over the stand-in; nothing is left running after it."""

    async def main() -> None:
        async with open_stand_in(folder, **options) as backend:
            await body(await session_of(backend, folder, **(spec or {})), backend)

    run(main)


async def fails(session: AgentSession, prompt: str, watch: Remembers | None = None) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await session.send_message(AgentRequest(prompt=prompt), watch or Remembers())
    return caught.value


def settings(folder: Path, name: str) -> Any:
    """What the stand-in has noted down."""
    return json.loads((folder / "codex_cli" / "codex" / name).read_text())


@BOTH
def test_an_answer_is_the_text_the_id_and_what_it_took(tmp_path: Path, warm: bool) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        assert (session.session_id, session.last_result, session.turn_count) == (None, None, 0)
        watch = Remembers()
        first = await session.send_message(AgentRequest(prompt="say hello there"), watch)
        second = await session.send_message(AgentRequest(prompt="say more"))
        assert (first.result, first.is_error, first.usage) == ("hello there", False, ONE)
        assert first.cost_usd == second.cost_usd == pytest.approx(COST_USD)
        assert first.by_model == {"stand-in-1": ONE}
        assert (second.result, second.usage, second.session_id) == ("more", ONE, first.session_id)
        assert watch.of(SessionKnown) == [SessionKnown(str(first.session_id))]
        assert Said([{"type": "text", "text": "hello there"}]) in watch.events
        assert watch.of(Spent)[-1].usage == ONE
        assert (session.session_id, session.turn_count) == (first.session_id, 2)
        assert [result.result for result in session.history] == ["hello there", "more"]
        assert session.total_cost == pytest.approx(2 * COST_USD)
        if warm:
            assert "".join(delta.text for delta in watch.of(TextDelta)) == "hello there"

    play(tmp_path, body, warm=warm, prices=PRICES, model="stand-in-1")


@BOTH
def test_a_session_is_gone_on_with_by_its_id_and_pays_only_for_what_came(tmp_path: Path, warm: bool) -> None:
    async def main() -> None:
        async with open_stand_in(tmp_path, warm=warm) as backend:
            session = await session_of(backend, tmp_path)
            await session.send_message(AgentRequest(prompt="say one"))
            known = {"session_id": session.session_id, "totals": json.loads(json.dumps(session.totals))}
        async with open_stand_in(tmp_path, warm=warm) as backend:
            again = await session_of(backend, tmp_path, **known)
            result = await again.send_message(AgentRequest(prompt="say two"))
            assert (result.session_id, result.usage) == (known["session_id"], ONE)
            fork = await session_of(backend, tmp_path, **known, fork=True)
            watch = Remembers()
            result = await fork.send_message(AgentRequest(prompt="say three"), watch)
            assert result.session_id not in (None, known["session_id"])
            assert watch.of(SessionKnown) == [SessionKnown(str(result.session_id))]
            assert again.session_id == known["session_id"]

    run(main)


@BOTH
def test_role_sandbox_model_and_servers_of_tools_are_given_anew_when_a_session_goes_on(
    tmp_path: Path, warm: bool
) -> None:
    server = McpServer(command=("prog", "-x"), environment={"TOKEN": "hidden-value"})
    spec = {"system": 'a "role" é', "options": {"sandbox": "read-only", "model": "m-1"}, "mcp": {"t": server}}

    async def body(session: AgentSession, _: CodexBackend) -> None:
        await session.send_message(AgentRequest(prompt="say one"))
        await session.stop_session()

    async def later(session: AgentSession, _: CodexBackend) -> None:
        await session.send_message(AgentRequest(prompt="say two"))

    play(tmp_path, body, spec=spec, warm=warm)
    thread = next(iter(settings(tmp_path, "threads.json")))
    play(tmp_path, later, spec={**spec, "session_id": thread}, warm=warm)
    if warm:
        asked = settings(tmp_path, "asked.json")
        assert asked["method"] == "thread/resume"
        assert (asked["developerInstructions"], asked["sandbox"], asked["model"]) == ('a "role" é', "read-only", "m-1")
        assert asked["config"]["mcp_servers"]["t"]["env"] == {"TOKEN": "hidden-value"}
        assert asked["cwd"] == str(tmp_path / "work")
    else:
        argv = settings(tmp_path, "argv.json")
        assert argv.index("--sandbox") < argv.index("resume")
        assert argv[argv.index("--cd") + 1] == str(tmp_path / "work")
        assert "hidden-value" not in " ".join(argv)
        profile = (tmp_path / "codex_cli" / "codex" / "profile.txt").read_text()
        assert 'developer_instructions = "a \\"role\\" é"' in profile
        assert "hidden-value" in profile
        assert profile.endswith(oct(0o100600))
        assert list((tmp_path / "codex_cli" / "codex").glob("*.config.toml")) == []


@BOTH
def test_a_call_is_told_with_its_result_and_counts_as_an_act(tmp_path: Path, warm: bool) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        watch = Remembers()
        await session.send_message(AgentRequest(prompt="run echo out; exit 3"), watch)
        [began], [ended] = watch.of(ToolBegan), watch.of(ToolEnded)
        assert (began.name, began.input["command"]) == ("Bash", "echo out; exit 3")
        assert (ended.id, ended.is_error) == (began.id, True)
        assert ended.content == "out\n\n(exit code 3)"
        called = Said([{"type": "tool_use", "id": began.id, "name": "Bash", "input": dict(began.input)}])
        assert watch.events.index(called) == watch.events.index(began) - 1
        watch = Remembers()
        await session.send_message(AgentRequest(prompt="run true"), watch)
        assert [event.is_error for event in watch.of(ToolEnded)] == [False]
        assert watch.of(ToolBegan)[0].id != began.id

    play(tmp_path, body, warm=warm)


@pytest.mark.parametrize("unasked", [False, True])
def test_whatever_runs_is_asked_about_in_words_that_policies_know(tmp_path: Path, unasked: bool) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        watch = Remembers()
        for prompt in ("run true", "patch new.txt", "tool"):
            await session.send_message(AgentRequest(prompt=prompt), watch)
        assert [question.tool for question in watch.questions] == ["Bash", "Write", "Edit", "mcp__t__echo"]
        beyond = "codex may run it without the sandbox, also again where the sandbox has stopped it"
        assert watch.questions[0].input == {"command": "true", "cwd": str(tmp_path / "work"), "sandbox": beyond}
        assert [question.beyond for question in watch.questions] == ["" if unasked else beyond, "", "", ""]
        assert watch.questions[1].input == {"file_path": "new.txt", "change": "add", "diff": "new"}
        assert watch.questions[3].input == {"x": 1}
        assert [event.content for event in watch.of(ToolEnded)] == ["", "", "echoed"]

    play(tmp_path, body, unasked=unasked)


@pytest.mark.parametrize("prompt", ["run touch made", "patch made", "tool"])
@pytest.mark.parametrize("answer", [DENY, Permitted({"command": "something else"})], ids=["denied", "edited"])
def test_what_is_not_permitted_as_it_is_does_not_run(tmp_path: Path, prompt: str, answer: Refusal | Permitted) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        watch = Remembers(answer)
        result = await session.send_message(AgentRequest(prompt=prompt), watch)
        assert result.result == "declined"
        assert [denial.tool for denial in result.denials] == [event.name for event in watch.of(ToolBegan)]
        assert [event.is_error for event in watch.of(ToolEnded)] == [True]
        assert any("not permitted" in notice.text for notice in watch.of(Notice))
        assert not (tmp_path / "work" / "made").exists()

    play(tmp_path, body)


def test_a_refusal_that_stops_ends_the_turn(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        error = await fails(session, "run true", Remembers(Refusal("stop it", stop=True)))
        assert (error.code, error.usage) == ("interrupted", ONE)
        result = await session.send_message(AgentRequest(prompt="say on"))
        assert (result.result, result.session_id) == ("on", error.session_id)

    play(tmp_path, body)


def test_a_question_that_nobody_understands_is_refused(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        watch = Remembers()
        result = await session.send_message(AgentRequest(prompt="odd"), watch)
        assert "is not answered here" in result.result
        assert watch.questions == []

    play(tmp_path, body)


def test_an_interrupt_reaches_whoever_decides(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        watch = Remembers(hold=True)
        async with trio.open_nursery() as nursery:
            errors: list[AgentError] = []

            async def send() -> None:
                errors.append(await fails(session, "run touch made", watch))

            nursery.start_soon(send)
            await watch.heard.wait()
            await session.interrupt()
        assert [error.code for error in errors] == ["interrupted"]
        assert not (tmp_path / "work" / "made").exists()

    play(tmp_path, body)


@BOTH
@pytest.mark.parametrize("prompt", ["stall half an answer", "hang half an answer"])
def test_an_interrupted_turn_ends_with_its_words_and_nothing_left(tmp_path: Path, warm: bool, prompt: str) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        if warm:
            await session.send_message(AgentRequest(prompt="say first"))
        errors: list[AgentError] = []

        async def send() -> None:
            errors.append(await fails(session, prompt, watch))

        watch = Remembers()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            if warm:
                await watch.heard.wait()
            else:
                await _until(lambda: bool(survivors(tmp_path)))
            began_s = trio.current_time()
            await session.interrupt()
            took_s = trio.current_time() - began_s
        [error] = errors
        assert error.code == "interrupted"
        assert took_s < 20  # ten times the figure
        assert survivors(tmp_path) == []
        if warm:
            assert error.partial == "half an answer"
            assert error.usage == (ONE if prompt.startswith("stall") else Usage())
            result = await session.send_message(AgentRequest(prompt="say on"))
            assert (result.result, result.session_id) == ("on", error.session_id)

    play(tmp_path, body, warm=warm)


@BOTH
@pytest.mark.parametrize("prompt", ["stall half", "hang half"])
def test_a_cancelled_turn_leaves_nothing_running_and_the_session_usable(
    tmp_path: Path, warm: bool, prompt: str
) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.send_message, AgentRequest(prompt=prompt), watch := Remembers())
                if warm:
                    await watch.heard.wait()
                else:
                    await _until(lambda: bool(survivors(tmp_path)))
                began_s = trio.current_time()
                scope.cancel()
        assert trio.current_time() - began_s < 20  # ten times the figure
        assert survivors(tmp_path) == []
        assert (await session.send_message(AgentRequest(prompt="say on"))).result == "on"

    play(tmp_path, body, warm=warm)


@BOTH
def test_a_turn_is_closed_when_its_session_is_stopped(tmp_path: Path, warm: bool) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        errors: list[AgentError] = []

        async def send() -> None:
            errors.append(await fails(session, "hang", Remembers()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await _until(lambda: any("sleep" in line for line in survivors(tmp_path)))
            await session.stop_session()
        assert [error.code for error in errors] == ["closed"]
        assert survivors(tmp_path) == []
        await session.stop_session()
        assert (await fails(session, "say more")).code == "closed"

    play(tmp_path, body, warm=warm)


def test_one_message_at_a_time(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, session, "stall a", watch := Remembers())
            await watch.heard.wait()
            assert (await fails(session, "say b")).code == "turn_in_flight"
            await session.interrupt()

    play(tmp_path, body)


@BOTH
def test_lines_that_are_no_messages_and_unknown_ones_do_no_harm(tmp_path: Path, warm: bool) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        watch = Remembers()
        result = await session.send_message(AgentRequest(prompt="garbage fine"), watch)
        assert result.result == "fine"
        told = [event.data.get("method") or event.data.get("type") for event in watch.of(Raw)]
        assert "thread/brandNew" in told

    play(tmp_path, body, warm=warm)


@BOTH
def test_an_error_on_the_way_is_no_end(tmp_path: Path, warm: bool) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        watch = Remembers()
        assert (await session.send_message(AgentRequest(prompt="again fine"), watch)).result == "fine"
        told = [event.reason for event in watch.of(Retrying)] + [event.text for event in watch.of(Notice)]
        assert told == ["Reconnecting... 1/5"]
        assert [event.attempt for event in watch.of(Retrying)] == ([1] if warm else [])

    play(tmp_path, body, warm=warm)


@BOTH
@pytest.mark.parametrize(
    ("prompt", "code", "words"),
    [
        ("fail unauthorized", "auth", "it failed"),
        ("fail other", "command_failed", "it failed"),
        ("exit 7", "command_failed", "codex ended with 7: it broke"),
        ("vanish", "terminated", "codex ended with -9"),
        ("none", "terminated", "codex ended with 0"),
        ("huge", "protocol", "line of more than"),
    ],
)
def test_a_turn_that_fails_has_a_code_and_is_no_success(
    tmp_path: Path, warm: bool, prompt: str, code: str, words: str
) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        error = await fails(session, prompt)
        assert error.code == code
        assert words in error.message
        assert "backtrace" not in error.message
        assert error.session_id
        assert error.acted == (not warm and code != "auth")  # without figures on the way nobody knows
        assert error.cost_usd == (0 if code == "auth" else None)
        assert session.turn_count == 0
        result = await session.send_message(AgentRequest(prompt="say on"))
        assert (result.result, result.session_id) == ("on", error.session_id)

    play(tmp_path, body, warm=warm)


@BOTH
def test_a_session_that_is_lost_is_not_begun_anew_in_silence(tmp_path: Path, warm: bool) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        assert (await fails(session, "say hello")).code == "session_lost"

    play(tmp_path, body, warm=warm, spec={"session_id": "01a20117-0000-7803-83cc-ff1d63e2142a"})


@BOTH
def test_a_thread_that_never_had_a_whole_turn_may_be_begun_anew(tmp_path: Path, warm: bool) -> None:
    """The program writes a thread down some time after it has told its id."""
    known = {"session_id": "01a20117-0000-7803-83cc-ff1d63e2142a", "totals": {"input": 7, "kept": False}}

    async def body(session: AgentSession, _: CodexBackend) -> None:
        watch = Remembers()
        result = await session.send_message(AgentRequest(prompt="say hello"), watch)
        assert (result.result, result.usage) == ("hello", ONE)
        assert watch.of(SessionKnown) == [SessionKnown(str(session.session_id))]
        assert (session.session_id != known["session_id"], session.totals["kept"]) == (True, True)

    play(tmp_path, body, warm=warm, spec=known)


def test_commands_that_an_answer_leaves_running_end_with_the_program(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        await session.send_message(AgentRequest(prompt="children done"))
        assert any("sleep" in line for line in survivors(tmp_path))
        await session.stop_session()
        assert survivors(tmp_path) == []

    play(tmp_path, body)


def test_without_a_server_each_turn_is_a_program_of_its_own(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        watch = Remembers()
        result = await session.send_message(AgentRequest(prompt="say hello"), watch)
        assert result.result == "hello"
        assert any("no server here" in notice.text for notice in watch.of(Notice))

    play(tmp_path, body, spec={"options": {"approval": "never"}}, environment={"STAND_IN": "no-server"})


def test_a_session_that_asks_is_never_run_in_a_form_that_cannot(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        assert (await fails(session, "run touch made")).code == "version_mismatch"
        assert not (tmp_path / "work" / "made").exists()

    play(tmp_path, body, environment={"STAND_IN": "no-server"})


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        assert (await fails(session, "say hello")).code == "timeout"
        assert survivors(tmp_path) == []

    play(tmp_path, body, environment={"STAND_IN": "deaf"}, start_s=0.5)


@BOTH
def test_programs_wait_for_each_other_and_an_idle_one_makes_room(tmp_path: Path, warm: bool) -> None:
    async def body(session: AgentSession, backend: CodexBackend) -> None:
        others = [await session_of(backend, tmp_path, agent=f"ses_{number}") for number in range(3)]
        results: list[str] = []

        async def send(one: AgentSession, number: int) -> None:
            results.append((await one.send_message(AgentRequest(prompt=f"say {number}"))).result)
            assert len([line for line in survivors(tmp_path) if " app-server" in line or " exec" in line]) <= 1

        async with trio.open_nursery() as nursery:
            for number, one in enumerate([session, *others]):
                nursery.start_soon(send, one, number)
        assert sorted(results) == ["0", "1", "2", "3"]

    play(tmp_path, body, warm=warm, max_processes=1)


def test_an_idle_program_is_ended_and_its_session_goes_on(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        first = await session.send_message(AgentRequest(prompt="say one"))
        await _until(lambda: survivors(tmp_path) == [])
        second = await session.send_message(AgentRequest(prompt="say two"))
        assert (second.session_id, second.usage) == (first.session_id, ONE)

    play(tmp_path, body, idle_close_s=0.05)


def test_a_prompt_is_in_no_command_line_and_may_hold_anything(tmp_path: Path) -> None:
    prompt = "say " + "x" * 300_000 + " \ud800 'quoted' $(id) \0"

    async def body(session: AgentSession, _: CodexBackend) -> None:
        result = await session.send_message(AgentRequest(prompt=prompt))
        assert result.result == prompt.removeprefix("say ").replace("\ud800", "?")

    play(tmp_path, body)
    play(tmp_path, body, warm=False)
    assert "xxx" not in " ".join(settings(tmp_path, "argv.json"))


@BOTH
def test_an_answer_in_a_schema_is_data(tmp_path: Path, warm: bool) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        result = await session.send_message(AgentRequest(prompt='say {"a": 1}', schema={"type": "object"}))
        assert result.structured_output == {"a": 1}
        result = await session.send_message(AgentRequest(prompt="say no data", schema={"type": "object"}))
        assert result.structured_output is None

    play(tmp_path, body, warm=warm)


def test_an_effort_holds_for_one_turn(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        await session.send_message(AgentRequest(prompt="say one", effort="high", model="other"))
        assert settings(tmp_path, "turn.json")["effort"] == "high"
        assert settings(tmp_path, "turn.json")["model"] == "other"
        await session.send_message(AgentRequest(prompt="say two"))
        assert "effort" not in settings(tmp_path, "turn.json")
        assert settings(tmp_path, "turn.json")["model"] == "stand-in-1"
        assert settings(tmp_path, "asked.json")["method"] == "thread/resume"

    play(tmp_path, body)


def test_a_turn_without_a_price_costs_nobody_knows_what(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: CodexBackend) -> None:
        watch = Remembers()
        result = await session.send_message(AgentRequest(prompt="say one"), watch)
        assert (result.cost_usd, session.total_cost, watch.of(Spent)[0].cost_usd) == (None, None, None)
        assert result.usage == ONE

    play(tmp_path, body, prices=PRICES, model="never-heard-of")


def test_what_is_told_of_a_watch_that_fails_ends_the_turn(tmp_path: Path) -> None:
    class Broken(Remembers):
        async def event(self, event: Any) -> None:
            raise LookupError("no room")

        async def permit(self, question: PermissionQuestion) -> Permitted:
            raise AssertionError

    async def body(session: AgentSession, _: CodexBackend) -> None:
        for _again in range(2):
            with pytest.raises(LookupError):
                await session.send_message(AgentRequest(prompt="say one"), Broken())
            assert survivors(tmp_path) == []

    play(tmp_path, body)
    play(tmp_path, body, warm=False)


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody but the operating system tells."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.01)
