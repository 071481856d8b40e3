"""Conversations whose agents stand in for each other: who is asked, who is not, and what each is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from agent_kit import open_agents
from ledger_kit import cap
from session_kit import ME, Kit, open_kit
from skill_actors.backends.agents.base import Retrying
from skill_actors.errors import Refused
from skill_actors.models.base import Usage
from skill_actors.sessions.surroundings import AgentAllowance
from skill_actors.testing import ScriptedModel
from skill_actors.testing.agents import Die, Fail, Hang, Say, ScriptedAgents, Spend, Step, Tell, UseTool

CHAIN: Mapping[str, Any] = {"backends": [{"backend": "scripted", "fallback": [{"backend": "second"}]}]}


def second(*turns: Sequence[Step]) -> ScriptedAgents:
    return ScriptedAgents(turns, name="second")


async def the(kit: Kit, session: str, type: str) -> list[dict[str, Any]]:
    """The data of all events of a type."""
    return [dict(event.data) for event in await kit.events(session) if event.type == type]


async def performed(kit: Kit, session: str) -> list[str]:
    """Which backends were asked, in order."""
    return [each["backend"] for each in await the(kit, session, "agent.chosen")]


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([Die("overloaded", "529")], "agent_overloaded"),
        ([Tell(Retrying(1, 0.5, "529")), Die("overloaded", "529")], "agent_overloaded"),
        ([Die("auth", "no key")], "agent_auth"),
        ([Die("binary_not_found", "no such program")], "backend_unavailable"),
        ([Die("io", "the API cannot be reached")], "agent_io"),
        ([Fail("auth", "Not logged in")], "agent_auth"),
    ],
)
def test_another_agent_performs_a_turn_that_the_first_cannot_begin(
    tmp_path: Path, steps: Sequence[Step], code: str
) -> None:
    async def main() -> None:
        first, other, told = ScriptedAgents([steps]), second(), []
        async with open_agents(tmp_path, first, [other]) as kit:
            kit.bus.attach("test", ["agent.fallback"], lambda _name, _facts, meta: told.append(dict(meta)))
            session = await kit.session(**CHAIN)
            turn = await kit.ask(session, "hello")
            chosen = await the(kit, session, "agent.chosen")
        assert (turn["status"], turn["result"]["text"]) == ("finished", "You said: hello")
        assert [each["backend"] for each in chosen] == ["scripted", "second"]
        assert (chosen[0]["passed"], chosen[1]["passed"][0]["code"]) == ([], code)
        assert [(each["backend"], each["instead"], each["code"]) for each in told] == [("scripted", "second", code)]

    trio.run(main)


def test_a_backend_that_is_away_is_passed_over_and_used_again_when_it_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        first, other = ScriptedAgents(), second()
        async with open_agents(tmp_path, first, [other]) as kit:
            session = await kit.session(**CHAIN)
            await kit.ask(session, "one")
            first.unavailable = "it is not installed any more"
            await kit.manager.unload_idle(0)  # its program is gone
            await kit.ask(session, "two")
            first.unavailable = ""
            await kit.ask(session, "three")
            await kit.ask(session, "four")
            assert await performed(kit, session) == ["scripted", "scripted", "second", "scripted", "scripted"]
        assert other.requests[0].prompt.count("You said: one") == 1  # it is told what was before
        third, fourth = first.requests[1:]
        assert "You said: two" not in third.prompt.split("<record>")[0]
        assert third.prompt.count("two") >= 1  # what it has missed, and nothing else
        assert "one" not in third.prompt.replace("conversation", "").split("two")[0].split("<record>")[1]
        assert fourth.prompt == "four"

    trio.run(main)


@pytest.mark.parametrize(
    "steps",
    [
        [UseTool("Bash", {"command": "make"}), Die("overloaded", "529")],
        [Say("I begin"), Die("overloaded", "529")],
        [UseTool("Bash", {"command": "make"}, ask=True), Die("overloaded", "529")],
        [Spend(Usage(output_tokens=1)), Die("overloaded", "529")],  # its model has answered, and what it did is unknown
        [Spend(Usage(output_tokens=1)), Fail("overloaded", "529")],
        [Die("terminated", "killed")],
        [Die("command_failed", "status 1")],
        [Fail("refused", "no")],
    ],
)
def test_a_turn_that_may_have_been_begun_is_never_given_to_another(tmp_path: Path, steps: Sequence[Step]) -> None:
    async def main() -> None:
        other = second()
        async with open_agents(tmp_path, ScriptedAgents([steps]), [other]) as kit:
            session = await kit.session(**CHAIN)
            turn = await kit.ask(session, "hello")
        assert turn["status"] == "failed"
        assert other.requests == []

    trio.run(main)


def test_where_nobody_can_begin_the_turn_all_reasons_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        other = second([Die("auth", "no login")])
        async with open_agents(tmp_path, ScriptedAgents([[Die("overloaded", "529 here")]]), [other]) as kit:
            session = await kit.session(**CHAIN)
            turn = await kit.ask(session, "hello")
            again = await kit.ask(session, "and now?")
        error = turn["result"]["error"]
        assert turn["result"]["iterations"] == 0  # so that whoever asks knows that it was no attempt
        assert error["code"] == "agent_overloaded"
        assert "scripted: 529 here" in error["message"]
        assert "second: no login" in error["message"]
        assert again["status"] == "finished"

    trio.run(main)


def test_what_the_failed_turn_said_is_told_to_who_did_not_answer_it(tmp_path: Path) -> None:
    async def main() -> None:
        first, other = ScriptedAgents(), second([Die("auth", "no")])
        async with open_agents(tmp_path, first, [other]) as kit:
            session = await kit.session(**CHAIN)
            await kit.ask(session, "one")
            first.enqueue([Die("overloaded", "529")])
            await kit.ask(session, "the lost question")
            await kit.ask(session, "three")
        assert "the lost question" in first.requests[-1].prompt

    trio.run(main)


def test_a_cap_that_has_no_room_for_one_backend_may_have_room_for_another(tmp_path: Path) -> None:
    async def main() -> None:
        allowances = {"scripted": AgentAllowance(answer_usd=5.0), "second": AgentAllowance(answer_usd=0.1)}
        around, other = {"agent_allowance": allowances.__getitem__}, second([Spend(cost_usd=0.25), Say("cheap")])
        first = ScriptedAgents()
        async with open_agents(tmp_path, first, [other], around=around, caps=[cap("total", usd=1)]) as kit:
            session = await kit.session(**CHAIN)
            turn = await kit.ask(session, "hello")
            chosen = await the(kit, session, "agent.chosen")
        assert turn["result"]["text"] == "cheap"
        assert turn["result"]["cost_usd"] == pytest.approx(0.25)
        assert chosen[1]["passed"][0]["code"] == "budget_exceeded"
        assert first.requests == []

    trio.run(main)


def test_models_of_the_first_are_not_those_of_another(tmp_path: Path) -> None:
    async def main() -> None:
        first, other, third = ScriptedAgents([[Die("auth")]] * 2), second([Die("auth")]), ScriptedAgents(name="third")
        fallback = [{"backend": "second"}, {"backend": "third", "model": "large", "options": {"mood": "calm"}}]
        async with open_agents(tmp_path, first, [other, third]) as kit:
            session = await kit.session(backends=[{"backend": "scripted", "fallback": fallback}], model="huge")
            await kit.ask(session, "hello")
            shown = (await kit.manager.get(session, ME))["backends"]
        assert [agents.specs[0].model for agents in (first, other, third)] == ["huge", None, "large"]
        assert [agents.specs[0].options for agents in (other, third)] == [{}, {"mood": "calm"}]
        assert shown == [{"backend": "scripted", "fallback": fallback}]

    trio.run(main)


def test_two_programs_of_one_backend_do_not_go_on_with_one_session_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents()
        chain = {"backends": [{"backend": "scripted", "fallback": [{"backend": "scripted", "model": "small"}]}]}
        async with open_agents(tmp_path, agents) as kit:
            session = await kit.session(**chain)
            await kit.ask(session, "one")
            agents.enqueue([Die("overloaded")])
            await kit.ask(session, "two")
            known = {spec.session_id for spec in agents.specs[1:]}
            assert [spec.model for spec in agents.specs] == [None, "small"]
            assert known == {agents._sessions[0].session_id}
            assert agents._sessions[0].stopped
            assert agents.requests[-1].prompt.endswith("two")

    trio.run(main)


def test_a_chain_goes_on_after_a_restart_and_a_cut_turn_is_not_given_to_another(tmp_path: Path) -> None:
    async def main() -> None:
        hang = Hang()
        first, other = ScriptedAgents([[Die("auth")]]), second([hang])
        async with open_agents(tmp_path, first, [other]) as kit:
            session = await kit.session(**CHAIN)
            await kit.manager.submit(session, ME, "work")
            await hang.reached.wait()
        # The kit ended while the turn ran.
        first, other = ScriptedAgents(known=["x"]), second()
        async with open_agents(tmp_path, first, [other]) as kit:
            turns = await kit.journal.list_turns(session)
            again = await kit.ask(session, "go on")
        assert [turn.status for turn in turns] == ["interrupted"]
        assert again["status"] == "finished"
        assert (len(first.requests), other.requests) == (1, [])
        assert "work" in first.requests[0].prompt

    trio.run(main)


@pytest.mark.parametrize(
    ("backends", "code", "says"),
    [
        ([{"backend": "scripted", "fallback": [{"backend": "local"}]}], "bad_request", "'local' is no whole agent"),
        ([{"backend": "local", "fallback": [{"backend": "scripted"}]}], "bad_request", "'local' is no whole agent"),
        ([{"backend": "scripted", "fallback": [{"backend": "none"}]}], "backend_unavailable", "no backend 'none'"),
        ([{"backend": "scripted", "fallback": "second"}], "bad_request", "expected a list of at most 4"),
        ([{"backend": "scripted", "fallback": [{"backend": "second"}] * 5}], "bad_request", "at most 4"),
        ([{"backend": "scripted", "fallback": [{"name": "x"}]}], "bad_request", "unknown field 'name'"),
        ([{"backend": "scripted", "fallback": [{"backend": "second", "model": 3}]}], "bad_request", "model"),
        (
            [{"backend": "scripted", "fallback": [{"backend": "second", "options": {"color": 1}}]}],
            "bad_request",
            "color",
        ),
    ],
)
def test_a_chain_that_cannot_be_is_refused_when_it_is_made(
    tmp_path: Path, backends: list[Any], code: str, says: str
) -> None:
    async def main() -> None:
        async with open_agents(tmp_path, ScriptedAgents(), [second()]) as kit:
            with pytest.raises(Refused, match=says) as caught:
                await kit.session(backends=backends)
            assert caught.value.code == code

    trio.run(main)


def test_a_conversation_is_made_while_its_first_agent_is_away(tmp_path: Path) -> None:
    """Else whoever makes one for each piece of work has no use of a chain just when it is needed."""

    class Away(dict[str, ScriptedAgents]):
        def __getitem__(self, name: str) -> ScriptedAgents:
            if name in away:
                raise Refused("backend_unavailable", f"the backend {name!r} is not available")
            return super().__getitem__(name)

    away = {"scripted"}

    async def main() -> None:
        agents = Away({"scripted": ScriptedAgents(), "second": second()})
        async with open_kit(tmp_path, ScriptedModel(), around={"agents": agents}) as kit:
            session = await kit.session(**CHAIN)
            turn = await kit.ask(session, "hello")
            assert turn["status"] == "finished"
            away.add("second")
            with pytest.raises(Refused) as caught:
                await kit.session(**CHAIN)
            assert caught.value.code == "backend_unavailable"
            lost = await kit.ask(session, "and now?")
            assert lost["result"]["error"]["code"] == "backend_unavailable"

    trio.run(main)
