"""Agents behind a circuit breaker: when turns are refused, when one may try, and what is no load of the API."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from codex_kit import Remembers
from skill_actors.backends.agents.base import (
    AgentError,
    AgentRequest,
    AgentSession,
    AgentSpec,
    PermissionAnswer,
    PermissionQuestion,
)
from skill_actors.backends.agents.guarded import GuardedAgents
from skill_actors.models.breaker import BreakerPolicy, CircuitState
from skill_actors.testing.agents import Die, Fail, Hang, Say, ScriptedAgents, Step, UseTool, measure_agents
from support import run_virtual

POLICY = BreakerPolicy(failures=2, open_s=10.0, max_open_s=40.0)
LOAD: Sequence[Step] = [Die("overloaded", "529")]
HELLO = AgentRequest(prompt="hello")


class Bench:
    """A guarded backend, and what became of its circuit."""

    def __init__(self, *turns: Sequence[Step]) -> None:
        self.scripted = ScriptedAgents(turns)
        self.states: list[str] = []
        self.agents = GuardedAgents(self.scripted, POLICY, on_change=self.note)

    def note(self, state: CircuitState) -> None:
        self.states.append(state.value)

    async def session(self) -> AgentSession:
        return await self.agents.start_session(AgentSpec(agent="a", folder=Path("/")))

    async def fails(self, code: str) -> AgentError:
        """Send, and see it fail with this code."""
        with pytest.raises(AgentError) as caught:
            await (await self.session()).send_message(HELLO)
        assert caught.value.code == code
        return caught.value


def test_after_failures_in_a_row_turns_are_refused_until_one_may_try() -> None:
    async def main() -> None:
        bench = Bench(LOAD, LOAD)
        await bench.fails("overloaded")
        await bench.fails("overloaded")
        refused = await bench.fails("circuit_open")
        assert refused.retry_after_s == pytest.approx(10.0)
        assert (refused.cost_usd, refused.acted) == (0.0, False)
        assert len(bench.scripted.requests) == 2  # nothing was begun
        assert bench.agents.circuit() == {"state": "open", "failures": 2, "retry_in_s": 10.0}
        await trio.sleep(10)
        result = await (await bench.session()).send_message(HELLO)
        assert result.result == "You said: hello"
        assert bench.agents.circuit() == {"state": "closed", "failures": 0, "retry_in_s": 0.0}
        assert bench.states == ["open", "half_open", "closed"]

    run_virtual(main)


def test_a_try_that_fails_leaves_it_alone_for_twice_as_long() -> None:
    async def main() -> None:
        bench = Bench(LOAD, LOAD, LOAD)
        for _ in range(2):
            await bench.fails("overloaded")
        await trio.sleep(10)
        await bench.fails("overloaded")
        assert bench.agents.circuit()["retry_in_s"] == 20.0

    run_virtual(main)


def test_one_tries_at_a_time_and_lets_all_go_on_as_soon_as_its_model_answers() -> None:
    async def main() -> None:
        hang = Hang()
        bench = Bench(LOAD, LOAD, [hang, Say("I begin"), Hang(), Say("never")])
        for _ in range(2):
            await bench.fails("overloaded")
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon((await bench.session()).send_message, HELLO)
            await hang.reached.wait()
            await bench.fails("circuit_open")
            hang.until.set()
            await wait_all_tasks_blocked()
            await (await bench.session()).send_message(HELLO)
            nursery.cancel_scope.cancel()

    run_virtual(main)


def test_a_try_that_is_cancelled_says_nothing_and_the_next_may_try() -> None:
    async def main() -> None:
        hang = Hang()
        bench = Bench(LOAD, LOAD, [hang])
        for _ in range(2):
            await bench.fails("overloaded")
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon((await bench.session()).send_message, HELLO)
            await hang.reached.wait()
            nursery.cancel_scope.cancel()
        await (await bench.session()).send_message(HELLO)
        assert bench.agents.circuit()["state"] == "closed"

    run_virtual(main)


@pytest.mark.parametrize("step", [UseTool("Bash", {"command": "make"}), UseTool("Bash", {"command": "make"}, ask=True)])
def test_a_try_whose_model_has_answered_with_a_call_holds_nobody_up(step: Step) -> None:
    """It may run for hours, or wait for somebody to approve it."""

    class Slow(Remembers):
        async def permit(self, question: PermissionQuestion) -> PermissionAnswer:
            await trio.sleep_forever()
            return await super().permit(question)

    async def main() -> None:
        bench = Bench(LOAD, LOAD, [step, Hang()])
        for _ in range(2):
            await bench.fails("overloaded")
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon((await bench.session()).send_message, HELLO, Slow())
            await wait_all_tasks_blocked()
            assert bench.agents.circuit()["state"] == "closed"
            await (await bench.session()).send_message(HELLO)
            nursery.cancel_scope.cancel()

    run_virtual(main)


def test_a_try_that_hears_nothing_makes_way_for_another(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(LOAD, LOAD, [Hang()], [Hang()])
        for _ in range(2):
            await bench.fails("overloaded")
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon((await bench.session()).send_message, HELLO)
                await wait_all_tasks_blocked()
                await trio.sleep(59)
                await bench.fails("circuit_open")
                await trio.sleep(1)
            await (await bench.session()).send_message(HELLO)
            assert bench.agents.circuit()["state"] == "closed"
            nursery.cancel_scope.cancel()

    run_virtual(main)


NO_LOAD: Sequence[Sequence[Step]] = [
    [Die("auth")],
    [Die("terminated")],
    [Die("command_failed")],
    [Die("timeout")],  # a host that is busy, or a server of tools that does not come up
    [Fail("refused")],
]


@pytest.mark.parametrize("steps", NO_LOAD)
def test_what_is_no_load_of_the_api_opens_nothing(steps: Sequence[Step]) -> None:
    async def main() -> None:
        bench = Bench(steps, steps, steps)
        for _ in range(3):
            session = await bench.session()
            with suppress(AgentError):
                await session.send_message(HELLO)
        assert len(bench.scripted.requests) == 3
        assert bench.states == []

    run_virtual(main)


def test_nobody_asks_before_the_time_that_the_api_has_told() -> None:
    async def main() -> None:
        bench = Bench([Die("overloaded", "usage limit", retry_after_s=300.0)])
        await bench.fails("overloaded")  # once is enough: it has said so
        assert bench.agents.circuit() == {"state": "open", "failures": 1, "retry_in_s": 300.0}
        await trio.sleep(299)
        assert (await bench.fails("circuit_open")).retry_after_s == pytest.approx(1.0)
        await trio.sleep(1)
        await (await bench.session()).send_message(HELLO)
        assert bench.states == ["open", "closed"]

    run_virtual(main)


def test_a_time_that_is_far_away_is_not_believed_for_more_than_an_hour() -> None:
    async def main() -> None:
        bench = Bench([Die("overloaded", "usage limit", retry_after_s=1e9)])
        await bench.fails("overloaded")
        assert bench.agents.circuit()["retry_in_s"] == 3600.0

    run_virtual(main)


def test_it_keeps_every_promise_of_an_agent_backend(tmp_path: Path) -> None:
    async def main() -> None:
        findings = await measure_agents(GuardedAgents(ScriptedAgents()), tmp_path)
        assert [finding for finding in findings if finding.outcome == "failed"] == []
        assert any(finding.outcome == "passed" for finding in findings)

    trio.run(main)
