"""What agents spend: set aside before, settled after, never more than a cap, and asked to end where it would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from agent_kit import AGENT, open_agents
from ledger_kit import cap
from session_kit import ME, Kit
from skill_actors.backends.agents.base import AgentCapabilities
from skill_actors.models.base import Usage
from skill_actors.sessions.surroundings import AgentAllowance
from skill_actors.testing.agents import Die, Hang, Say, ScriptedAgents, Spend, Step, UseTool

ANSWER = 0.5  # US dollars: at most so much for one answer
PRICED = {"agent_allowance": lambda _name: AgentAllowance(answer_usd=ANSWER)}
TOKENS = AgentCapabilities(interrupt=True, budget="tokens")
NONE = AgentCapabilities(interrupt=True)


async def spent(kit: Kit) -> tuple[Any, Any, Any]:
    """Dollars, tokens and dollars that are still set aside, over all."""
    ledger = kit.manager._env.ledger
    assert ledger is not None
    rows = await ledger.usage("session")
    used = sum(row.used.nanousd for row in rows), sum(row.used.tokens for row in rows)
    return used[0] / 1e9, used[1], sum(row.held.nanousd for row in rows) / 1e9


def error_of(turn: dict[str, Any]) -> str:
    return str(turn["result"]["error"]["code"])


def test_without_a_cap_nothing_is_set_aside_and_the_cost_is_charged(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents, caps=[]) as kit:
            await kit.ask(await kit.session(**AGENT), "hello")
            assert await spent(kit) == (pytest.approx(0.01), 10, 0)
        assert agents.requests[0].max_cost_usd is None

    trio.run(main)


def test_the_agent_is_told_what_is_set_aside_less_one_answer(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents, caps=[cap("session", usd=3)], around=PRICED) as kit:
            session = await kit.session(**AGENT)
            await kit.ask(session, "hello")
            assert agents.requests[0].max_cost_usd == pytest.approx(2.5)
            await kit.ask(session, "hello")
            assert agents.requests[1].max_cost_usd == pytest.approx(2.49)
            assert await spent(kit) == (pytest.approx(0.02), 20, 0)

    trio.run(main)


def test_no_turn_sets_aside_more_than_the_operator_says(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents()
        around = {"agent_allowance": lambda _name: AgentAllowance(answer_usd=ANSWER, turn_usd=2)}
        async with open_agents(tmp_path, agents, caps=[cap("total", usd=100)], around=around) as kit:
            await kit.ask(await kit.session(**AGENT), "hello")
        assert agents.requests[0].max_cost_usd == pytest.approx(1.5)

    trio.run(main)


def test_a_turn_for_which_not_even_an_answer_is_left_is_not_begun(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents, caps=[cap("session", usd=0.5)], around=PRICED) as kit:
            turn = await kit.ask(await kit.session(**AGENT), "hello")
            assert await spent(kit) == (0, 0, 0)
        assert error_of(turn) == "budget_exceeded"
        assert "session" in turn["result"]["error"]["message"]
        assert agents.requests == []

    trio.run(main)


def test_an_allowance_that_holds_no_answer_is_told_with_its_key(tmp_path: Path) -> None:
    async def main() -> None:
        around = {"agent_allowance": lambda _name: AgentAllowance(answer_usd=5, turn_usd=2)}
        async with open_agents(tmp_path, ScriptedAgents(), caps=[cap("total", usd=100)], around=around) as kit:
            turn = await kit.ask(await kit.session(**AGENT), "hello")
        assert "raise turn_budget_usd" in turn["result"]["error"]["message"]

    trio.run(main)


def test_a_model_without_a_price_is_refused_under_a_cap_on_money(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents, caps=[cap("session", usd=50)]) as kit:
            unknown = await kit.ask(await kit.session(**AGENT, model="somebodys-model"), "hello")
            chosen = await kit.ask(await kit.session(**AGENT), "hello")
            known = await kit.ask(await kit.session(**AGENT, model="claude-sonnet-5-5"), "hello")
        assert (error_of(unknown), error_of(chosen)) == ("budget_exceeded", "budget_exceeded")
        assert "somebodys-model has no price" in unknown["result"]["error"]["message"]
        assert known["status"] == "finished"

    trio.run(main)


@pytest.mark.parametrize("limits", [{"usd": 50}, {"tokens": 50_000_000}])
def test_an_agent_that_tells_nothing_before_its_end_is_refused_under_a_cap(
    tmp_path: Path, limits: dict[str, Any]
) -> None:
    async def main() -> None:
        agents = ScriptedAgents(capabilities=NONE)
        async with open_agents(tmp_path, agents, caps=[cap("session", **limits)], around=PRICED) as kit:
            turn = await kit.ask(await kit.session(**AGENT), "hello")
        assert error_of(turn) == "budget_exceeded"
        assert "cannot tell what a turn takes" in turn["result"]["error"]["message"]
        assert agents.requests == []

    trio.run(main)


def test_an_agent_that_tells_tokens_is_ended_when_their_price_passes_what_it_was_given(tmp_path: Path) -> None:
    async def main() -> None:
        steps: list[Step] = [
            Spend(Usage(input_tokens=10), 0.3),
            Say("begun"),
            Spend(Usage(input_tokens=20), 2.1),
            Hang(),
        ]
        agents = ScriptedAgents([steps], capabilities=TOKENS)
        async with open_agents(tmp_path, agents, caps=[cap("session", usd=3)], around=PRICED) as kit:
            turn = await kit.ask(await kit.session(**AGENT), "hello")
            dollars, _tokens, held = await spent(kit)
        assert error_of(turn) == "budget_exceeded"
        assert turn["result"]["text"] == "begun"
        assert agents.requests[0].max_cost_usd is None  # it keeps to none by itself
        assert (dollars, held) == (pytest.approx(2.6), 0)  # an answer may have begun that nobody has told of
        assert agents.running == 0

    trio.run(main)


def test_a_cap_on_tokens_ends_an_agent_too(tmp_path: Path) -> None:
    async def main() -> None:
        steps: list[Step] = [Spend(Usage(output_tokens=900_000), 0.1), Hang()]
        agents = ScriptedAgents([steps])
        async with open_agents(tmp_path, agents, caps=[cap("session", tokens=1_000_000)]) as kit:
            turn = await kit.ask(await kit.session(**AGENT), "hello")
            _dollars, tokens, _held = await spent(kit)
        assert error_of(turn) == "budget_exceeded"
        assert tokens <= 1_000_000

    trio.run(main)


def test_each_call_of_a_tool_is_charged_and_the_turn_ends_at_their_cap(tmp_path: Path) -> None:
    async def main() -> None:
        calls = [UseTool("Bash", {"command": str(n)}, id=str(n), ask=n == 2) for n in range(4)]
        agents = ScriptedAgents([[*calls, Hang()]])
        async with open_agents(tmp_path, agents, caps=[cap("turn", tool_calls=2)]) as kit:
            session = await kit.session(**AGENT)
            turn = await kit.ask(session, "hello")
            started = [event.data["id"] for event in await kit.events(session) if event.type == "tool.started"]
        assert error_of(turn) == "budget_exceeded"
        assert "tool calls" in turn["result"]["error"]["message"]
        assert started == ["0", "1"]  # the third asked first, and was refused

    trio.run(main)


def test_agents_at_once_never_pass_a_cap_together(tmp_path: Path) -> None:
    async def main() -> None:
        spends: list[list[Step]] = [[Spend(Usage(input_tokens=n), 0.2 * n + 0.1), Say("ok")] for n in range(8)]
        agents = ScriptedAgents(spends)
        around = {"agent_allowance": lambda _name: AgentAllowance(answer_usd=ANSWER, turn_usd=2)}
        async with open_agents(tmp_path, agents, caps=[cap("user", usd=5)], around=around) as kit:
            sessions = [await kit.session(**AGENT) for _ in range(8)]
            turns: list[dict[str, Any]] = []

            async def one(session: str) -> None:
                turns.append(await kit.ask(session, "hello"))

            async with trio.open_nursery() as nursery:
                for session in sessions:
                    nursery.start_soon(one, session)
            dollars, _tokens, held = await spent(kit)
        assert dollars <= 5
        assert held == 0
        assert {turn["status"] for turn in turns} == {"finished", "failed"}

    trio.run(main)


def test_a_turn_that_the_daemons_stop_ends_is_charged_what_was_told_and_one_answer(tmp_path: Path) -> None:
    async def main() -> None:
        hang = Hang()
        agents = ScriptedAgents([[Spend(Usage(input_tokens=10), 0.25), hang]])
        caps = [cap("session", usd=3)]
        async with open_agents(tmp_path, agents, caps=caps, around=PRICED) as kit:
            session = await kit.session(**AGENT)
            await kit.manager.submit(session, ME, "hello")
            await hang.reached.wait()
            # Durable while it runs: a kill would leave it, to be charged in full (see the ledger's own tests).
            ledger = kit.manager._env.ledger
            assert ledger is not None
            (hold,) = await ledger.open_holds()
            assert hold.entry.amounts.nanousd == 3_000_000_000
        async with open_agents(tmp_path, agents, caps=caps, around=PRICED) as kit:
            dollars, _tokens, held = await spent(kit)
        assert (dollars, held) == (pytest.approx(0.75), 0)

    trio.run(main)


def test_a_program_that_dies_is_charged_what_it_told_and_one_answer(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents([[Spend(Usage(input_tokens=10), 0.25), Die()], [Die("binary_not_found", "gone")]])
        async with open_agents(tmp_path, agents, caps=[cap("session", usd=3)], around=PRICED) as kit:
            session = await kit.session(**AGENT)
            await kit.ask(session, "hello")
            assert await spent(kit) == (pytest.approx(0.75), pytest.approx(10, abs=300_000), 0)
            before = await spent(kit)
            await kit.ask(session, "hello")  # never began: nothing is charged
            assert await spent(kit) == before

    trio.run(main)


def test_who_does_not_know_what_it_cost_is_charged_all_that_was_set_aside(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents([[Spend(Usage(input_tokens=10), None), Say("ok")]])
        async with open_agents(tmp_path, agents, caps=[cap("session", usd=3)], around=PRICED) as kit:
            turn = await kit.ask(await kit.session(**AGENT), "hello")
            assert await spent(kit) == (pytest.approx(3), 10, 0)
        assert turn["result"]["cost_usd"] is None

    trio.run(main)


def test_a_child_is_charged_to_its_parent_and_bound_by_it(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents()
        async with open_agents(tmp_path, agents, caps=[], around=PRICED) as kit:
            parent = await kit.session(**AGENT, budget={"usd": 0.515})
            child = await kit.session(**AGENT, parent=parent)
            first, second = await kit.ask(child, "hello"), await kit.ask(child, "hello")
            fork = str((await kit.manager.fork(child, ME))["id"])
            third = await kit.ask(fork, "hello")
            raised = await kit.manager.update(parent, ME, {"budget": {"usd": 5}})
            fourth = await kit.ask(fork, "hello")
        assert first["status"] == "finished"
        assert (error_of(second), error_of(third)) == ("budget_exceeded", "budget_exceeded")
        assert raised["budget"] == {"usd": 5}
        assert fourth["status"] == "finished"

    trio.run(main)
