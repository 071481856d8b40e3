"""How turns of the claude backend end other than well, over the stand-in: nothing is left, and the session goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from claude_kit import log, open_stand_in, session_of
from codex_kit import Remembers
from proc_kit import lives
from skill_actors.backends.agents.base import AgentError, AgentRequest, AgentSession, Notice, Raw
from skill_actors.backends.agents.claude import ClaudeBackend
from skill_actors.backends.agents.claude.running import Running
from support import run

Body = Callable[[AgentSession, ClaudeBackend], Awaitable[None]]


def play(folder: Path, body: Body, **options: object) -> None:
    async def main() -> None:
        async with open_stand_in(folder, **options) as backend:
            await body(await session_of(backend, folder), backend)

    run(main)


async def fails(session: AgentSession, prompt: str, watch: Remembers | None = None) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await session.send_message(AgentRequest(prompt=prompt), watch or Remembers())
    return caught.value


async def goes_on(session: AgentSession) -> None:
    assert (await session.send_message(AgentRequest(prompt="again"))).result == "You said: again"


def pids(folder: Path) -> list[int]:
    return [entry["pid"] for entry in log(folder) if "pid" in entry]


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("exit 3 something broke", "command_failed"),
        ("exit 1 Invalid API key", "auth"),
        ("exit 1 error: unknown option '--replay-user-messages'", "version_mismatch"),
        ("silent", "command_failed"),
        ("exit 143 ", "terminated"),
        ("die SIGKILL", "terminated"),
        ("die SIGSEGV", "terminated"),
        ("line 17000000", "protocol"),
    ],
)
def test_a_process_that_ends_without_a_result_is_an_error_and_the_session_goes_on(
    tmp_path: Path, prompt: str, code: str
) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        await session.send_message(AgentRequest(prompt="one"))
        error = await fails(session, f'call Write {{"file": "x"}}\n{prompt}')
        assert (error.code, error.acted, error.cost_usd) == (code, True, None)
        assert error.usage.output_tokens > 0  # what was seen of it is not lost
        assert session.total_cost is None
        await goes_on(session)
        assert len(pids(tmp_path)) == 2

    play(tmp_path, body)


def test_noise_is_no_reason_to_fail(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        watch = Remembers()
        result = await session.send_message(AgentRequest(prompt="noise\nfine"), watch)
        assert result.result == "You said: fine"
        assert watch.of(Notice)[0] == Notice("warning: \ufffd\ufffd")
        assert any(event.data.get("type") == "rate_limit_event" for event in watch.of(Raw))

    play(tmp_path, body)


def test_a_result_may_drip_in(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        assert (await session.send_message(AgentRequest(prompt="drip\nslowly"))).result == "You said: slowly"

    play(tmp_path, body)


def test_an_interrupt_ends_the_turn_and_keeps_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill_actors.backends.agents.claude.session._INTERRUPT_S", 20.0)  # it answers, on any machine

    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        await session.interrupt()  # where no turn runs nothing happens
        watch = Remembers()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def interrupt() -> None:
                await watch.heard.wait()
                await session.interrupt()

            error = await fails(session, "write half a", watch)
        assert (error.code, error.partial, error.session_id) == ("interrupted", "half a", session.session_id)
        await goes_on(session)
        assert len(pids(tmp_path)) == 1

    play(tmp_path, body)


def test_a_question_that_waits_is_withdrawn_by_an_interrupt(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        watch = Remembers(hold=True)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def interrupt() -> None:
                await watch.heard.wait()
                while not watch.questions:  # noqa: ASYNC110  # what was heard may be an event before it
                    await trio.sleep(0.01)
                await session.interrupt()

            error = await fails(session, 'ask Bash {"command": "ls"}', watch)
        assert error.code == "interrupted"
        await goes_on(session)

    play(tmp_path, body)


def test_a_process_that_hears_no_interrupt_is_ended_after_two_seconds(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        watch, began_s = Remembers(), 0.0
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def interrupt() -> None:
                nonlocal began_s
                await watch.heard.wait()
                began_s = trio.current_time()
                await session.interrupt()

            error = await fails(session, "deaf", watch)
        took_s = trio.current_time() - began_s
        assert 2.0 <= took_s < 10
        assert (error.code, error.partial) == ("interrupted", "partly ")
        assert not lives(pids(tmp_path)[0])
        await goes_on(session)

    play(tmp_path, body)


@pytest.mark.parametrize(("prompt", "processes"), [("write half", 1), ("deaf", 2)])
def test_a_cancelled_turn_is_over_within_two_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str, processes: int
) -> None:
    if processes == 1:
        monkeypatch.setattr("skill_actors.backends.agents.claude.duplex._CANCEL_S", 20.0)  # it answers, on any machine

    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        watch, began_s = Remembers(), 0.0
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                await session.send_message(AgentRequest(prompt=prompt), watch)

            await watch.heard.wait()
            began_s = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began_s < 20
        await goes_on(session)
        assert len(pids(tmp_path)) == processes
        assert not any(lives(pid) for pid in pids(tmp_path)[:-1])

    play(tmp_path, body)


def test_nothing_that_an_agent_started_outlives_its_process(tmp_path: Path) -> None:
    note = tmp_path / "children"

    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        await session.send_message(AgentRequest(prompt=f"spawn {note}"))
        family = json.loads(note.read_text())
        assert [lives(pid) for pid in family] == [True] * 4
        await session.stop_session()
        assert [lives(pid) for pid in family] == [False] * 4
        await session.stop_session()
        assert (await fails(session, "x")).code == "closed"

    play(tmp_path, body)


def test_a_stop_ends_a_turn_as_closed(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        watch = Remembers()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def stop() -> None:
                await watch.heard.wait()
                await session.stop_session()

            assert (await fails(session, "write half", watch)).code == "closed"
        assert not lives(pids(tmp_path)[0])

    play(tmp_path, body)


def test_a_process_that_died_while_idle_is_replaced_without_a_word(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        await session.send_message(AgentRequest(prompt="late 5"))
        await goes_on(session)  # whether it had died already or did so under the message
        os.kill(pids(tmp_path)[1], signal.SIGKILL)
        await goes_on(session)
        assert len(pids(tmp_path)) == 3

    play(tmp_path, body)


def test_a_process_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        error = await fails(session, f"eat {200 << 20}")
        assert error.code == "terminated"
        assert "memory" in error.message
        await goes_on(session)

    play(tmp_path, body, memory_bytes=100 << 20)


def test_an_idle_process_is_closed_and_the_next_turn_resumes(tmp_path: Path) -> None:
    async def body(session: AgentSession, backend: ClaudeBackend) -> None:
        await session.send_message(AgentRequest(prompt="one"))
        while backend.running:  # noqa: ASYNC110  # nobody tells of it
            await trio.sleep(0.02)
        assert not lives(pids(tmp_path)[0])
        await goes_on(session)
        assert "--resume" in [entry["argv"] for entry in log(tmp_path) if "argv" in entry][1]

    play(tmp_path, body, idle_close_s=0.2)


def test_an_idle_process_makes_room_and_the_others_wait_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_stand_in(tmp_path, max_processes=2) as backend:
            sessions = [await session_of(backend, tmp_path, work=f"work{number}") for number in range(5)]
            done: list[int] = []

            async def turn(number: int) -> None:
                await sessions[number].send_message(AgentRequest(prompt="hello"))
                done.append(number)

            for number in (0, 1):
                await turn(number)
            assert backend.running == 2
            await turn(2)  # in place of 0, which was idle longest
            assert [lives(pid) for pid in pids(tmp_path)] == [False, True, True]
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(turn, number)
            assert sorted(done[3:]) == [0, 1, 2, 3, 4]
            assert backend.running <= 2

    run(main)


def test_a_turn_that_waits_for_a_place_can_be_interrupted_and_has_cost_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_stand_in(tmp_path, max_processes=1) as backend:
            busy = await session_of(backend, tmp_path)
            waits = await session_of(backend, tmp_path, work="other")
            watch = Remembers()
            errors: list[AgentError] = []

            async def turn(session: AgentSession, watch: Remembers) -> None:
                errors.append(await fails(session, "write half", watch))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(turn, busy, watch)
                await watch.heard.wait()
                nursery.start_soon(turn, waits, Remembers())
                await trio.testing.wait_all_tasks_blocked()
                await waits.interrupt()
                await busy.interrupt()
            assert [(error.code, error.cost_usd) for error in errors] == [("interrupted", 0.0), ("interrupted", None)]
            assert len(pids(tmp_path)) == 1

    run(main)


def test_a_program_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    async def body(session: AgentSession, _: ClaudeBackend) -> None:
        error = await fails(session, "x")
        assert (error.code, error.acted) == ("binary_not_found", False)

    play(tmp_path, body, program="no-such-program")


def test_a_program_that_never_gets_ready_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill_actors.backends.agents.claude.duplex._READY_S", 0.3)
    (tmp_path / "sleeps").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "sleeps").chmod(0o755)

    async def body(session: AgentSession, backend: ClaudeBackend) -> None:
        assert (await fails(session, "x")).code == "timeout"
        assert backend.running == 0

    started: list[int] = []
    start = Running.__init__

    def remember(self: Running, process: object, talk: object, slot: object) -> None:
        start(self, process, talk, slot)  # type: ignore[arg-type]
        started.append(self.process.pid)

    monkeypatch.setattr(Running, "__init__", remember)
    play(tmp_path, body, program=str(tmp_path / "sleeps"))
    assert started
    assert not any(map(lives, started))
