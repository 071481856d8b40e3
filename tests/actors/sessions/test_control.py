"""Turns under caps and approvals: what they may use, how they wait for people, and how they go on after a stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from policy_kit import ruled
from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.models.base import Usage
from skill_actors.sessions.approvals import ApprovalDesk, Approver
from skill_actors.sessions.compaction import CompactionSettings
from skill_actors.sessions.events import Position
from skill_actors.sessions.ledger import Cap, Limits
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.testing import HttpError, Reply, ScriptedModel, ServerToolUse, Text, ToolUse
from support import run

ASKS = SessionDefaults(policy=ruled(ask=["bash_tool"]))
ALLOW = {"decision": "allow"}


def bash(id: str, command: str) -> ToolUse:
    return ToolUse(id=id, name="bash_tool", input={"command": command, "description": "d"})


def cap(name: str, **limits: Any) -> Cap:
    return Cap(name=name, limits=Limits(**limits), source="config")


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again, 20 s at most."""
    for _ in range(2_000):
        if await check():
            return
        await trio.sleep(0.01)
    raise AssertionError("it did not come to be")


async def pending(kit: Kit, count: int = 1) -> list[dict[str, Any]]:
    """The approvals that wait, the oldest first, as soon as there are so many."""
    desk = kit.manager.approvals
    assert desk is not None

    async def enough() -> bool:
        return len((await desk.list(None))["items"]) >= count

    await until(enough)
    return list(reversed((await desk.list(None))["items"]))


async def waiting(kit: Kit, session: str) -> None:
    """Until the session's turn does nothing but wait."""

    async def waits() -> bool:
        return bool((await kit.manager.get(session, ME))["status"] == "waiting")

    await until(waits)


async def decide(kit: Kit, id: str, decision: Mapping[str, Any] = ALLOW) -> None:
    desk = kit.manager.approvals
    assert desk is not None
    await desk.decide(id, Approver(uid=0), decision)


# -- what a turn may use ---------------------------------------------------------------------------------------------


def test_a_call_that_a_cap_has_no_room_for_is_never_made_and_the_turn_says_which(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([Text("never")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, caps=[cap("session", usd=0.0001)]) as kit:
            turn = await kit.ask(await kit.session(), "go")
            assert turn["result"]["stop_reason"] == "budget_exceeded"
            assert "session" in turn["result"]["error"]["message"]
            assert "skillctl budget set" in turn["result"]["error"]["message"]
            assert turn["result"]["cost_usd"] == 0.0, "what was never sent has cost nothing, and that is known"
            assert model.requests == []

    run(main)


def test_the_budget_of_a_session_binds_its_turns_together_and_can_be_raised(tmp_path: Path) -> None:
    used = Usage(input_tokens=10, output_tokens=5)
    model = ScriptedModel([Reply([Text("one")], usage=used), Reply([Text("two")], usage=used)])

    async def main() -> None:
        async with open_kit(tmp_path, model, caps=[]) as kit:
            session = await kit.session(budget={"tokens": 60_000})
            assert (await kit.ask(session, "a"))["status"] == "finished"
            await kit.manager.update(session, ME, {"budget": {"tokens": 100}})
            refused = await kit.ask(session, "b")
            assert refused["result"]["error"]["code"] == "budget_exceeded"
            await kit.manager.update(session, ME, {"budget": {"tokens": 90_000}})
            assert (await kit.ask(session, "c"))["result"]["text"] == "two"

    run(main)


def test_the_budget_of_a_message_binds_its_turn_alone_and_widens_no_cap(tmp_path: Path) -> None:
    used = Usage(input_tokens=10, output_tokens=5)
    model = ScriptedModel([Reply([Text("one")], usage=used), Reply([Text("two")], usage=used)])

    async def main() -> None:
        async with open_kit(tmp_path, model, caps=[cap("turn", tokens=60_000)]) as kit:
            session = await kit.session()

            async def ask(tokens: float) -> dict[str, Any]:
                options = {"budget": {"tokens": tokens}}
                sent = await kit.manager.submit(session, ME, "a", options=options)
                return await kit.manager.get_turn(sent.turn, ME, wait_s=10)

            error = (await ask(100))["result"]["error"]
            assert error["code"] == "budget_exceeded"
            assert '{"options": {"budget": {"tokens": N}}}' in error["message"]
            assert (await kit.ask(session, "b"))["result"]["text"] == "one", "the next is not bound by it"
            wrong: list[Any] = [{"tokens": -1}, {"usd": "1"}, {"coins": 1}, []]
            for budget in wrong:
                with pytest.raises(Refused, match=r"options\.budget"):
                    await kit.manager.submit(session, ME, "a", options={"budget": budget})
        async with open_kit(tmp_path / "tight", ScriptedModel(), caps=[cap("turn", tokens=100)]) as kit:
            session = await kit.session()
            sent = await kit.manager.submit(session, ME, "a", options={"budget": {"tokens": 10**9}})
            turn = await kit.manager.get_turn(sent.turn, ME, wait_s=10)
            assert "skillctl budget set turn" in turn["result"]["error"]["message"]

    run(main)


def test_a_budget_is_refused_where_nothing_would_hold_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel()) as kit:
            session = await kit.session()
            for refused in (kit.session(budget={"usd": 1}), kit.manager.update(session, ME, {"budget": {"usd": 1}})):
                with pytest.raises(Refused, match="budget: nothing is counted here"):
                    await refused
            await kit.manager.update(session, ME, {"budget": None})

    run(main)


def test_a_budget_that_is_lowered_while_a_turn_runs_binds_it(tmp_path: Path) -> None:
    until_told = bash("t1", "while [ ! -e go ]; do sleep 0.02; done")

    async def main() -> None:
        model = ScriptedModel([Reply([until_told]), Reply([Text("never")])])
        async with open_kit(tmp_path, model, caps=[]) as kit:
            session = await kit.session(budget={"usd": 100})
            accepted = await kit.manager.submit(session, ME, "go")

            async def runs() -> bool:
                return "tool.started" in await kit.types(session)

            await until(runs)
            await kit.manager.update(session, ME, {"budget": {"usd": 0.0001}})
            (tmp_path / "workspaces" / session / "go").touch()
            turn = await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            assert turn["result"]["error"]["code"] == "budget_exceeded"
            assert len(model.requests) == 1

    run(main)


def test_a_container_is_paid_for_code_that_only_the_answer_shows(tmp_path: Path) -> None:
    """The API has not counted it; what the ledger has is no less than what the turn says it has cost."""
    ran = ServerToolUse(id="srvtoolu_1", name="bash_code_execution", input={"command": "true"})
    used = Usage(input_tokens=10, output_tokens=5)

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([ran, Text("done")], usage=used)]), caps=[]) as kit:
            turn = await kit.ask(await kit.session(), "go")
            cost_usd = turn["result"]["cost_usd"]
            assert cost_usd > 0.05 / 60 * 5
            assert await nanousd(kit) >= cost_usd * 1e9

    run(main)


def test_calls_of_tools_beyond_a_cap_never_run_and_those_within_it_do(tmp_path: Path) -> None:
    calls = [bash(f"t{number}", f"touch made{number}") for number in range(3)]

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply(calls)]), caps=[cap("turn", tool_calls=2)]) as kit:
            session = await kit.session()
            turn = await kit.ask(session, "go")
            assert turn["result"]["stop_reason"] == "budget_exceeded"
            made = sorted(path.name for path in (tmp_path / "workspaces" / session).glob("made*"))
            assert made == ["made0", "made1"]
            started = [event for event in await kit.events(session) if event.type == "tool.started"]
            assert len(started) == 2

    run(main)


@pytest.mark.parametrize(("status", "costs"), [(500, False), (529, False), (502, True), (504, True)])
def test_a_call_that_a_gateway_gave_up_may_have_been_answered_and_is_charged(
    tmp_path: Path, status: int, costs: bool
) -> None:
    async def main() -> None:
        model = ScriptedModel([HttpError(status), Reply([Text("at last")], usage=Usage(output_tokens=1))])
        async with open_kit(tmp_path, model, caps=[]) as kit:
            assert (await kit.ask(await kit.session(), "a"))["status"] == "finished"
            assert (await nanousd(kit) > 8192 * 10_000) is costs

    run(main)


def test_a_refusal_of_the_api_costs_nothing_and_a_broken_answer_all_that_it_may(tmp_path: Path) -> None:
    spent: list[int] = []

    async def main() -> None:
        model = ScriptedModel([HttpError(400, "invalid_request_error", "no"), Reply([Text("x" * 40)])])
        async with open_kit(tmp_path, model, caps=[]) as kit:
            session = await kit.session()
            assert (await kit.ask(session, "a"))["status"] == "failed"
            spent.append(await nanousd(kit))
            hold = trio.Event()
            model.enqueue(Reply([Text("abcdefgh" * 8)], holds={2: hold}))
            assert (await kit.ask(session, "b"))["status"] == "finished"
            spent.append(await nanousd(kit))
            accepted = await kit.manager.submit(session, ME, "c")
            await see_delta(kit, accepted.turn, session)
            await kit.manager.cancel(session, ME)
            await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            spent.append(await nanousd(kit))

    run(main)
    assert spent[0] == 0
    assert 0 < spent[1] < 10_000_000
    assert spent[2] - spent[1] > 8192 * 10_000  # all that the answer could have had, at 10 dollars a million


async def nanousd(kit: Kit) -> int:
    rows = await kit.journal.ledger.usage("day", since=None, until=None, owner_uid=None)
    return sum(row.used.nanousd for row in rows)


async def see_delta(kit: Kit, turn: str, session: str) -> None:
    async with kit.manager.follow(session, ME, after=Position()) as events:
        async for event in events:
            if event.type == "model.delta" and event.turn == turn:
                return


def test_crossing_a_threshold_is_an_event_of_the_conversation(tmp_path: Path) -> None:
    used = Usage(input_tokens=110_000, output_tokens=10)

    async def main() -> None:
        model = ScriptedModel([Reply([Text("one")], usage=used)])
        async with open_kit(tmp_path, model, caps=[cap("session", tokens=200_000)]) as kit:
            session = await kit.session()
            await kit.ask(session, "a")
            warnings = [event.data for event in await kit.events(session) if event.type == "budget.warning"]
            assert [(each["cap"], each["unit"], each["share"]) for each in warnings] == [("session", "tokens", 0.5)]

    run(main)


def test_the_time_of_a_turn_is_bounded_by_a_cap_and_waiting_for_people_is_no_time(tmp_path: Path) -> None:
    def desk(journal: Any, bus: Any) -> ApprovalDesk:
        return ApprovalDesk(journal, bus)

    async def main() -> None:
        model = ScriptedModel([Reply([bash("t1", "sleep 30")]), Reply([bash("t2", "true")]), Reply([Text("done")])])
        async with open_kit(tmp_path, model, caps=[cap("turn", seconds=1.5)]) as kit:
            turn = await kit.ask(await kit.session(), "go")
            assert turn["result"]["error"]["code"] == "budget_exceeded"
            assert "seconds" in turn["result"]["error"]["message"]
        async with open_kit(tmp_path, model, caps=[cap("turn", seconds=5)], desk=desk, defaults=ASKS) as kit:
            accepted = await kit.manager.submit(await kit.session(), ME, "go")
            (asked,) = await pending(kit)
            await trio.sleep(5.5)
            await decide(kit, asked["id"])
            assert (await kit.manager.get_turn(accepted.turn, ME, wait_s=20))["status"] == "finished"

    run(main)


# -- approvals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [False, True])
def test_a_turn_that_waits_for_an_approval_goes_on_after_a_stop(tmp_path: Path, entry: bool) -> None:
    skill = tmp_path / "hello"
    (skill / "scripts").mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: hello\ndescription: Says hello.\n---\nRun it.\n")
    (skill / "scripts" / "hello.sh").write_text("#!/bin/sh\necho said hello\n")
    (skill / "scripts" / "hello.sh").chmod(0o755)
    ids: list[str] = []

    async def before() -> None:
        model = ScriptedModel([Reply([bash("t1", "echo once > made; echo ran")])])
        async with open_kit(tmp_path / "s", model, desk=ApprovalDesk, defaults=ASKS, skills=[skill], caps=[]) as kit:
            session = await kit.session()
            accepted = await kit.manager.submit(session, ME, "/hello" if entry else "go")
            (asked,) = await pending(kit)
            await waiting(kit, session)
            ids.extend([session, accepted.turn, asked["id"]])
            assert await kit.manager.drain(5)  # it waits for a person, and nobody waits for that
            await kit.system.shutdown()
            stored = await kit.journal.get_turn(accepted.turn)
            assert stored is not None
            assert stored.status == "running"

    async def after() -> None:
        session, turn, approval = ids
        model = ScriptedModel([Reply([Text("all done")])])
        async with open_kit(tmp_path / "s", model, desk=ApprovalDesk, defaults=ASKS, skills=[skill], caps=[]) as kit:
            (asked,) = await pending(kit)
            assert asked["id"] == approval
            await waiting(kit, session)
            await decide(kit, approval)
            ended = await kit.manager.get_turn(turn, ME, wait_s=20)
            assert ended["status"] == "finished"
            assert ended["result"]["text"] == ("said hello" if entry else "all done")
            types = await kit.types(session)
            assert types.count("turn.started") == types.count("tool.started") == types.count("turn.finished") == 1
            assert types.count("approval.requested") == 1
            assert len(model.requests) == (0 if entry else 1)

    run(before)
    run(after)
    run(_nothing_is_left, tmp_path / "s")


async def _nothing_is_left(folder: Path) -> None:
    async with open_kit(folder, ScriptedModel([]), desk=ApprovalDesk) as kit:
        assert await kit.journal.unfinished_turns() == ()
        assert kit.manager.status()["turns_running"] == 0


def test_a_resumed_turn_may_wait_over_many_stops(tmp_path: Path) -> None:
    turns: list[str] = []

    async def begin() -> None:
        async with open_kit(
            tmp_path, ScriptedModel([Reply([bash("t1", "true")])]), desk=ApprovalDesk, defaults=ASKS
        ) as kit:
            turns.append((await kit.manager.submit(await kit.session(), ME, "go")).turn)
            await pending(kit)

    async def again(last: bool) -> None:
        model = ScriptedModel([Reply([Text("done")])])
        async with open_kit(tmp_path, model, desk=ApprovalDesk, defaults=ASKS) as kit:
            (asked,) = await pending(kit)
            await waiting(kit, asked["session"])
            if last:
                await decide(kit, asked["id"])
                assert (await kit.manager.get_turn(turns[0], ME, wait_s=20))["status"] == "finished"

    run(begin)
    for number in range(6):
        run(again, number == 5)


def test_a_waiting_turn_lends_its_slot_and_can_be_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([bash("t1", "true")]), Reply([Text("meanwhile")])])
        async with open_kit(tmp_path, model, slots=1, desk=ApprovalDesk, defaults=ASKS) as kit:
            waiting = await kit.session()
            accepted = await kit.manager.submit(waiting, ME, "go")
            await pending(kit)
            other = await kit.ask(await kit.session(), "hello")
            assert other["result"]["text"] == "meanwhile"
            await kit.manager.cancel(waiting, ME)
            ended = await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            assert ended["status"] == "cancelled"
            types = await kit.types(waiting)
            assert types[-2:] == ["approval.resolved", "turn.cancelled"]
            assert (await kit.ask(await kit.session(), "/nothing"))["status"] == "failed"  # the script is at its end

    run(main)


# -- room ------------------------------------------------------------------------------------------------------------


def test_a_full_window_is_emptied_by_a_summary_and_the_answer_goes_on(tmp_path: Path) -> None:
    own = SessionDefaults(compaction=CompactionSettings(mode="own"))

    async def main() -> None:
        model = ScriptedModel([Reply([Text(f"long answer {number} " + "word " * 3000)]) for number in range(4)])
        async with open_kit(tmp_path, model, defaults=own) as kit:
            session = await kit.session()
            for number in range(4):
                await kit.ask(session, f"question {number} " + "word " * 3000)
            model.enqueue(
                Reply([Text("the first half")], stop_reason="model_context_window_exceeded"),
                Reply([Text("a short summary")]),
                Reply([Text(" and the second")]),
            )
            turn = await kit.ask(session, "and now?")
            assert turn["result"]["text"] == "the first half and the second"
            assert "session.compacted" in await kit.types(session)
            last = model.requests[-1].messages
            assert "a short summary" in str(last[0])
            assert last[-1]["role"] == "user"

    run(main)


def test_a_prompt_that_is_too_long_is_made_shorter_and_sent_once_more(tmp_path: Path) -> None:
    own = SessionDefaults(compaction=CompactionSettings(mode="own"))
    too_long = HttpError(400, "invalid_request_error", "prompt is too long: 1000001 tokens > 1000000 maximum")

    async def main() -> None:
        model = ScriptedModel([Reply([Text(f"answer {number} " + "word " * 3000)]) for number in range(4)])
        async with open_kit(tmp_path, model, defaults=own) as kit:
            session = await kit.session()
            for number in range(4):
                await kit.ask(session, f"question {number} " + "word " * 3000)
            model.enqueue(too_long, Reply([Text("a short summary")]), Reply([Text("answered")]))
            assert (await kit.ask(session, "and now?"))["result"]["text"] == "answered"
            model.enqueue(too_long, Reply([Text("")]))
            failed = await kit.ask(session, "again")
            assert failed["result"]["error"]["code"] == "model_context_exceeded"

    run(main)


def test_the_gauge_of_a_session_says_how_full_the_window_is(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([Text("one")], usage=Usage(input_tokens=90_000, output_tokens=10_000))])
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.ask(session, "a")
            context = (await kit.manager.get(session, ME))["context"]
            assert context == {"tokens": 100_000, "window": 1_000_000, "share": 0.1}

    run(main)
