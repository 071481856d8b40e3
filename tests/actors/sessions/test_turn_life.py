"""Turns that are steered, held, taken up or ended where two of these meet."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from hosted_play import Play, play
from policy_kit import ruled
from session_kit import ME, Kit, open_kit
from skill_actors.models.base import Usage
from skill_actors.models.request import request_body
from skill_actors.sessions.approvals import ApprovalDesk, Approver
from skill_actors.sessions.intake import Mode
from skill_actors.sessions.ledger import Cap, Limits
from skill_actors.sessions.poison import ATTEMPTS
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.sessions.turn import Turn
from skill_actors.testing import Reply, ScriptedModel, Text, check_request
from steering_kit import Slow, bash, begun, ended, refused, said, see, steer
from support import run

MODES: Sequence[Mode] = ("follow_up", "interrupt")
ASKS = SessionDefaults(policy=ruled(ask=["bash_tool"]))


def answering() -> ScriptedModel:
    return ScriptedModel(respond=lambda _: Reply([Text("ok")]))


async def begin_and_ask(folder: Path) -> tuple[str, str]:
    """A turn that waits for an approval as the daemon stops: its session and its id."""
    asks = ScriptedModel([Reply([bash("true")], usage=Usage(input_tokens=100, output_tokens=10))])
    async with open_kit(folder, asks, desk=ApprovalDesk, defaults=ASKS) as kit:
        session, turn = await begun(kit, until="approval.requested")
        return session, turn


async def allow(kit: Kit) -> None:
    desk = kit.manager.approvals
    assert desk is not None
    (asked,) = (await desk.list(None))["items"]
    await desk.decide(asked["id"], Approver(uid=0), {"decision": "allow"})


# -- turns that wait for people, over restarts -----------------------------------------------------------------------


def test_a_turn_that_waits_for_an_approval_in_a_paused_session_outlives_any_number_of_restarts(tmp_path: Path) -> None:
    """It is taken up at each start, and is held before it begins to run: that is nothing that ends a daemon."""

    async def main() -> None:
        session, turn = await begin_and_ask(tmp_path)
        async with open_kit(tmp_path, answering(), desk=ApprovalDesk, defaults=ASKS) as kit:
            await kit.manager.pause(session, ME)
        for _ in range(ATTEMPTS + 2):
            async with open_kit(tmp_path, answering(), desk=ApprovalDesk, defaults=ASKS) as kit:
                assert (await kit.manager.get_turn(turn, ME))["status"] == "running"
                assert (await kit.manager.get(session, ME))["status"] == "paused"
        async with open_kit(tmp_path, answering(), desk=ApprovalDesk, defaults=ASKS) as kit:
            await kit.manager.resume(session, ME)
            await allow(kit)
            assert (await ended(kit, turn))["result"]["text"] == "ok"

    run(main)


def test_a_turn_that_is_cancelled_before_it_goes_on_after_a_restart_keeps_its_bill(tmp_path: Path) -> None:
    async def main() -> None:
        session, turn = await begin_and_ask(tmp_path)
        async with open_kit(tmp_path, answering(), desk=ApprovalDesk, defaults=ASKS) as kit:
            await kit.manager.pause(session, ME)
        async with open_kit(tmp_path, answering(), desk=ApprovalDesk, defaults=ASKS) as kit:
            assert (await kit.manager.cancel_turn(turn, ME))["cancelled"] == [turn]
            result = (await ended(kit, turn))["result"]
            assert (result["usage"]["input_tokens"], result["usage"]["output_tokens"]) == (100, 10)
            assert result["cost_usd"] > 0
            shown = await kit.manager.get(session, ME)
            assert (shown["turns"], shown["usage"]["input_tokens"]) == (1, 100)
            desk = kit.manager.approvals
            assert desk is not None
            assert (await desk.list(None))["items"] == []

    run(main)


def test_a_message_that_never_began_is_no_turn_of_the_sums(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answering()) as kit:
            session = await kit.session()
            await kit.manager.pause(session, ME)
            turn = (await kit.manager.submit(session, ME, "a")).turn
            await kit.manager.cancel_turn(turn, ME)
            assert (await ended(kit, turn))["result"]["cost_usd"] == 0
            assert (await kit.manager.get(session, ME))["turns"] == 0

    run(main)


def test_a_waiting_turn_that_was_cancelled_as_the_daemon_stopped_stays_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([bash("true")])])
        async with open_kit(tmp_path, model, desk=ApprovalDesk, defaults=ASKS) as kit:
            session, turn = await begun(kit, until="approval.requested")
            await trio.testing.wait_all_tasks_blocked()
            await kit.manager.drain(0)
            assert (await kit.manager.cancel(session, ME))["cancelled"] == [turn]
            await kit.system.shutdown()
        async with open_kit(tmp_path, answering(), desk=ApprovalDesk, defaults=ASKS) as kit:
            assert (await ended(kit, turn))["status"] == "cancelled"

    run(main)


def test_a_call_that_is_allowed_in_a_paused_session_begins_once_that_goes_on(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash("true")])], respond=lambda _: Reply([Text("ok")]))

    async def main() -> None:
        async with open_kit(tmp_path, model, desk=ApprovalDesk, defaults=ASKS) as kit:
            session, turn = await begun(kit, until="approval.requested")
            await kit.manager.pause(session, ME)
            await allow(kit)
            await kit.ask(await kit.session(), "in another session there is time for all of a turn")
            assert "tool.started" not in await kit.types(session)
            await kit.manager.resume(session, ME)
            assert (await ended(kit, turn))["result"]["text"] == "ok"
            assert "tool.started" in await kit.types(session)

    run(main)


# -- steering -----------------------------------------------------------------------------------------------------


def test_a_turn_that_may_not_call_the_model_again_cannot_be_steered(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("the only answer")], holds={1: hold}), Reply([Text("the next one")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session, turn = await begun(kit, limits={"iterations": 1})
            late = await steer(kit, session, "and more")
            assert late.status == "queued"
            hold.set()
            assert (await ended(kit, turn))["result"]["text"] == "the only answer"
            assert (await ended(kit, late.turn))["result"]["text"] == "the next one"

    run(main)


@pytest.mark.parametrize("restart", [False, True])
def test_the_key_of_a_steered_message_is_taken_for_messages_of_every_mode(tmp_path: Path, restart: bool) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("an answer so far")], holds={1: hold}), Reply([Text("y")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session, turn = await begun(kit)
            await steer(kit, session, "more", "k")
            hold.set()
            await ended(kit, turn)
            if not restart:
                await taken(kit, session)
        async with open_kit(tmp_path, ScriptedModel()) as kit:
            await taken(kit, session)

    async def taken(kit: Kit, session: str) -> None:
        for mode in MODES:
            with refused("idempotency_conflict", "'k'"):
                await kit.manager.submit(session, ME, "more", (), "k", mode=mode)
        assert (await kit.types(session)).count("turn.queued") == 1

    run(main)


def test_files_for_a_turn_that_works_at_the_api_come_with_a_turn_of_their_own(tmp_path: Path) -> None:
    """A container is given files at the start of a turn: to name them to the model would be all that steering does."""
    hold = trio.Event()

    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        at.model.enqueue(Reply([Text("an answer so far")], holds={1: hold}), Reply([Text("y")]))
        turn = (await at.kit.manager.submit(session, ME, "begin")).turn
        await see(at.kit, session, "model.delta")
        late = await at.kit.manager.submit(session, ME, "look", [("a.csv", b"1,2")], mode="steer")
        assert (late.status, late.turn != turn) == ("queued", True)
        hold.set()
        assert (await ended(at.kit, late.turn))["status"] == "finished"
        assert "container_upload" in [block["type"] for block in at.last["messages"][-1]["content"]]

    play(tmp_path, story)


# -- the end of a turn that waits ------------------------------------------------------------------------------------


def test_whoever_waits_for_a_turn_that_is_being_cancelled_is_told_its_end(tmp_path: Path) -> None:
    slow = Slow("turn.cancelled")

    async def main() -> None:
        async with open_kit(tmp_path, answering(), wrap=slow) as kit, trio.open_nursery() as nursery:
            session = await kit.session()
            await kit.manager.pause(session, ME)
            turn = (await kit.manager.submit(session, ME, "a")).turn
            nursery.start_soon(kit.manager.cancel_turn, turn, ME)
            await slow.reached.wait()
            found: list[dict[str, Any]] = []

            async def wait() -> None:
                found.append(await ended(kit, turn))

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await kit.manager.unload_idle(0)
            assert kit.manager.status()["sessions_live"] == 1, "let go of while its log is being written"
            assert found == []
            slow.go.set()
            with trio.fail_after(10):
                while not found:
                    await trio.lowlevel.checkpoint()
            assert found[0]["status"] == "cancelled"

    run(main)


def test_a_message_that_could_not_be_cancelled_is_run_though_its_slot_came_meanwhile(tmp_path: Path) -> None:
    hold = trio.Event()
    slow = Slow("turn.cancelled", full=True)
    model = ScriptedModel([Reply([Text("an answer so far")], holds={1: hold}), Reply([Text("y")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, wrap=slow, slots=1) as kit, trio.open_nursery() as nursery:
            _, running = await begun(kit)
            waits = (await kit.manager.submit(await kit.session(), ME, "b")).turn
            await trio.testing.wait_all_tasks_blocked()

            async def cancel() -> None:
                with refused("storage_full"):
                    await kit.manager.cancel_turn(waits, ME)

            nursery.start_soon(cancel)
            await slow.reached.wait()
            hold.set()
            await ended(kit, running)
            await trio.testing.wait_all_tasks_blocked()  # the slot went to a session in which nothing waits
            slow.go.set()
            with trio.fail_after(10):
                assert (await ended(kit, waits))["status"] == "finished"

    run(main)


def test_cancelling_a_message_that_is_just_being_cancelled_ends_no_other_turn(tmp_path: Path) -> None:
    hold = trio.Event()
    slow = Slow("turn.cancelled")
    model = ScriptedModel([Reply([Text("an answer so far")], holds={1: hold})])

    async def main() -> None:
        async with open_kit(tmp_path, model, wrap=slow) as kit, trio.open_nursery() as nursery:
            session, running = await begun(kit, text="a")
            waits = (await kit.manager.submit(session, ME, "b")).turn
            nursery.start_soon(kit.manager.cancel_turn, waits, ME)
            await slow.reached.wait()
            assert (await kit.manager.cancel_turn(waits, ME))["cancelled"] == []
            slow.go.set()
            hold.set()
            assert (await ended(kit, running))["status"] == "finished"

    run(main)


def test_a_turn_that_has_ended_is_let_go_of_without_the_garbage_collector(tmp_path: Path) -> None:
    """What is let go of late leaves holes in the memory of the conversations that stay: kilobytes for each."""
    model = ScriptedModel([Reply([bash("true")]), Reply([Text("ok")])])
    timed = Cap(name="turn", limits=Limits(seconds=100), source="config")

    async def main() -> None:
        async with open_kit(tmp_path, model, desk=ApprovalDesk, defaults=ASKS, caps=[timed]) as kit:
            session = await kit.session()
            gc.collect()
            gc.disable()
            try:
                turn = (await kit.manager.submit(session, ME, "begin")).turn
                await see(kit, session, "approval.requested")
                assert turns_in_memory() == 1
                await allow(kit)
                assert (await ended(kit, turn))["status"] == "finished"
                await trio.testing.wait_all_tasks_blocked()
                assert turns_in_memory() == 0
            finally:
                gc.enable()

    def turns_in_memory() -> int:
        return sum(type(found) is Turn for found in gc.get_objects())

    run(main)


# -- no tools where there were some ----------------------------------------------------------------------------------


def test_a_message_without_tools_is_one_that_the_api_takes_also_after_calls_of_tools(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash("true")]), Reply([Text("ran")])], respond=lambda _: Reply([Text("ok")]))

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.ask(session, "a")
            turn = (await kit.manager.submit(session, ME, "b", options={"tools": []})).turn
            assert (await ended(kit, turn))["status"] == "finished"
            body = request_body(model.requests[-1])
            assert check_request(body) is None
            assert body["tool_choice"] == {"type": "none"}
            assert len(body["tools"]) == 1
            assert "bash_tool" not in str(body["tools"])
            await kit.ask(session, "c")
            assert "tool_choice" not in request_body(model.requests[-1])
            assert said(model.requests[-1]) == ["a", "b", "c"]

    run(main)
