"""Conversations that are held still: they take messages, run none, and stay so over restarts."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from session_kit import ME, open_kit
from skill_actors.sessions.events import TURN_ENDINGS
from skill_actors.sessions.table import Viewer
from skill_actors.sessions.wanted import Wanted
from skill_actors.testing import Reply, ScriptedModel, Text
from steering_kit import Full, Mortal, bash, begun, ended, refused, said, see, steer
from support import run


def answering() -> ScriptedModel:
    return ScriptedModel(respond=lambda _body: Reply([Text("ok")]))


def test_messages_wait_while_it_is_paused_and_run_in_their_order_once_it_goes_on(tmp_path: Path) -> None:
    model = answering()

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            assert (await kit.manager.pause(session, ME))["status"] == "paused"
            turns = [(await kit.manager.submit(session, ME, text)).turn for text in "abc"]
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert kit.manager.status()["turns_running"] == 0
            assert (await kit.manager.get(session, ME))["status"] == "paused"
            resumed = await kit.manager.resume(session, ME)
            assert resumed["status"] in ("queued", "running")
            for turn in turns:
                assert (await ended(kit, turn))["status"] == "finished"
            assert said(model.requests[-1]) == ["a", "b", "c"]
            types = await kit.types(session)
            assert types.count("session.paused") == types.count("session.resumed") == 1

    run(main)


def test_a_turn_that_runs_holds_before_its_next_step_with_its_slot_lent(tmp_path: Path) -> None:
    model = ScriptedModel(
        [Reply([bash("while [ ! -e go ]; do sleep 0.05; done")])], respond=lambda _: Reply([Text("ok")])
    )

    async def main() -> None:
        async with open_kit(tmp_path, model, slots=1) as kit:
            session, other = await kit.session(limits={"turn_timeout_s": 5}), await kit.session()
            turn = (await kit.manager.submit(session, ME, "begin")).turn
            await see(kit, session, "tool.started")
            await kit.manager.pause(session, ME)
            (tmp_path / "workspaces" / session / "go").touch()
            await see(kit, session, "tool.finished")
            assert (await kit.ask(other, "me too"))["status"] == "finished"  # there is one slot
            assert (await kit.manager.get(session, ME))["status"] == "paused"
            await trio.sleep(5.5)  # more than the turn may take: its clock stands
            assert (await steer(kit, session, "meanwhile")).status == "steered"
            await kit.manager.resume(session, ME)
            assert (await ended(kit, turn))["status"] == "finished"
            assert said(model.requests[2]) == ["begin", "meanwhile"]
            assert [block["type"] for block in model.requests[2].messages[-1]["content"]] == ["tool_result", "text"]
            assert len(model.requests) == 3

    run(main)


def test_pausing_twice_is_pausing_once_and_others_cannot(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answering()) as kit:
            session = await kit.session()
            for _ in range(2):
                assert (await kit.manager.pause(session, ME))["status"] == "paused"
            for _ in range(2):
                assert (await kit.manager.resume(session, ME))["status"] == "idle"
            assert await kit.types(session) == ["session.paused", "session.resumed"]
            for hold in (kit.manager.pause, kit.manager.resume):
                with refused("not_found"):
                    await hold(session, Viewer(uid=7))

    run(main)


def test_it_stays_paused_over_a_restart_an_unload_and_a_change_of_its_title(tmp_path: Path) -> None:
    model = answering()

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.manager.pause(session, ME)
            await kit.manager.update(session, ME, {"title": "held"})
            assert await kit.manager.unload_idle(0) == 1
            assert (await kit.manager.get(session, ME))["status"] == "paused"
            turn = (await kit.manager.submit(session, ME, "a")).turn
        async with open_kit(tmp_path, model) as kit:
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert (await kit.manager.get(session, ME))["status"] == "paused"
            assert model.requests == []
            await kit.manager.resume(session, ME)
            assert (await ended(kit, turn))["status"] == "finished"

    run(main)


def test_a_paused_session_with_messages_keeps_them_and_no_actor(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answering()) as kit:
            session = await kit.session()
            await kit.ask(session, "before")
            assert kit.manager.status()["actors"] == 1
            await kit.manager.pause(session, ME)
            turn = (await kit.manager.submit(session, ME, "a")).turn
            await kit.manager.unload_idle(0)
            assert (kit.manager.status()["actors"], kit.manager.status()["turns_queued"]) == (0, 1)
            await kit.manager.resume(session, ME)
            assert (await ended(kit, turn))["status"] == "finished"

    run(main)


def test_paused_sessions_can_be_listed_whether_they_are_in_memory_or_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answering()) as kit:
            asleep, awake, idle = [await kit.session() for _ in range(3)]
            await kit.manager.pause(asleep, ME)
            await kit.manager.unload_idle(0)
            await kit.manager.pause(awake, ME)

            async def listed(status: str) -> set[str]:
                wanted = Wanted(status=status)  # type: ignore[arg-type]
                return {item["id"] for item in (await kit.manager.list(ME, wanted=wanted))["items"]}

            assert await listed("paused") == {asleep, awake}
            assert await listed("idle") == {idle}
            assert await listed("running") == set()

    run(main)


def test_what_is_paused_can_be_cancelled_reset_and_deleted(tmp_path: Path) -> None:
    never = trio.Event()
    model = ScriptedModel([Reply([Text("an answer so far")], holds={1: never})], respond=lambda _: Reply([Text("ok")]))

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session, running = await begun(kit, text="a")
            await kit.manager.pause(session, ME)
            waiting = (await kit.manager.submit(session, ME, "b")).turn
            assert (await kit.manager.cancel(session, ME, queued=True))["cancelled"] == [running, waiting]
            for turn in (running, waiting):
                assert (await ended(kit, turn))["status"] == "cancelled"
            await kit.manager.submit(session, ME, "c")
            assert (await kit.manager.reset(session, ME))["status"] == "paused"
            await kit.manager.resume(session, ME)
            await kit.ask(session, "d")
            assert said(model.requests[-1]) == ["d"]
            await kit.manager.pause(session, ME)
            await kit.manager.submit(session, ME, "e")
            await kit.manager.delete(session, ME)
            with refused("not_found"):
                await kit.manager.get(session, ME)

    run(main)


def test_a_held_turn_can_be_cancelled_and_a_stop_does_not_wait_for_it(tmp_path: Path) -> None:
    script = [Reply([bash("while [ ! -e go ]; do sleep 0.05; done")])] * 2
    model = ScriptedModel(script, respond=lambda _: Reply([Text("ok")]))

    async def main() -> None:
        async with open_kit(tmp_path, model, slots=1) as kit:
            sessions = [await kit.session() for _ in range(2)]
            turns = []
            for session in sessions:
                turns.append((await kit.manager.submit(session, ME, "begin")).turn)
                await see(kit, session, "tool.started")
                await kit.manager.pause(session, ME)
                (tmp_path / "workspaces" / session / "go").touch()
                await see(kit, session, "tool.finished")
            await kit.manager.cancel(sessions[0], ME)
            assert (await ended(kit, turns[0]))["status"] == "cancelled"
            with trio.fail_after(20):
                assert await kit.manager.drain(60)
            assert (await kit.manager.get_turn(turns[1], ME))["status"] == "running"
        async with open_kit(tmp_path, model) as kit:
            assert (await kit.manager.get(sessions[1], ME))["status"] == "paused"
            await kit.manager.resume(sessions[1], ME)
            await kit.ask(sessions[1], "on")
            types = await kit.types(sessions[1])
            assert sum(type in TURN_ENDINGS for type in types) == types.count("turn.started") == 2

    run(main)


@pytest.mark.parametrize("type", ["session.paused", "session.resumed"])
@pytest.mark.parametrize("stored", [False, True])
def test_a_kill_at_the_commit_leaves_it_as_it_is_stored(tmp_path: Path, type: str, stored: bool) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answering(), wrap=Mortal(type, stored=stored)) as kit:
            session = await kit.session()
            with refused("draining"):
                await kit.manager.pause(session, ME)
                await kit.manager.resume(session, ME)
        async with open_kit(tmp_path, answering()) as kit:
            paused = stored is (type == "session.paused")
            assert (await kit.manager.get(session, ME))["status"] == ("paused" if paused else "idle")

    run(main)


def test_a_full_disk_refuses_the_pause_and_everything_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answering(), wrap=Full("session.paused")) as kit:
            session = await kit.session()
            with refused("storage_full"):
                await kit.manager.pause(session, ME)
            assert (await kit.ask(session, "a"))["status"] == "finished"

    run(main)
