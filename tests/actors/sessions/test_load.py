"""Conversations under load: bounded queues, fair slots, and a model's endpoint that is ill."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio

from session_kit import ME, open_kit
from skill_actors.errors import Refused
from skill_actors.models.breaker import Breaker, BreakerPolicy
from skill_actors.models.guarded import GuardedModel
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.sessions.table import Viewer
from skill_actors.testing import HttpError, Reply, ScriptedModel, Text
from support import run


def refused(code: str, says: str = "") -> Any:
    return pytest.raises(Refused, match=f"(?s).*{re.escape(says)}", check=lambda error: error.code == code)


def test_messages_of_all_sessions_together_are_bounded_before_anything_is_stored(tmp_path: Path) -> None:
    go = trio.Event()
    model = ScriptedModel(respond=lambda _: Reply([Text("x")], holds={0: go}))

    async def main() -> None:
        async with open_kit(tmp_path, model, slots=1, defaults=SessionDefaults(queued_total=8)) as kit:
            first = await kit.session()
            await kit.manager.submit(first, ME, "runs")
            while kit.manager.status()["turns_running"] == 0:  # noqa: ASYNC110
                await trio.sleep(0.01)
            sessions = [await kit.session() for _ in range(12)]
            refusals: list[Refused] = []

            async def send(session: str) -> None:
                try:
                    await kit.manager.submit(session, ME, "waits")
                except Refused as error:
                    refusals.append(error)

            async with trio.open_nursery() as nursery:  # all at once: none slips through between check and commit
                for session in sessions:
                    nursery.start_soon(send, session)
            assert kit.manager.status()["turns_queued"] == 4  # one user alone gets half of the room
            assert {(error.code, error.retry_after_s) for error in refusals} == {("overloaded", 5)}
            assert len(refusals) == 8
            stored = [await kit.types(session) for session in sessions]
            assert sorted(stored) == [[]] * 8 + [["turn.queued"]] * 4
            go.set()
            while kit.manager.status()["turns_queued"]:  # noqa: ASYNC110
                await trio.sleep(0.01)
            await kit.ask(first, "there is room again")

    run(main)


def test_a_user_who_fills_the_room_leaves_some_for_others_until_it_is_really_full(tmp_path: Path) -> None:
    go = trio.Event()
    model = ScriptedModel(respond=lambda _: Reply([Text("x")], holds={0: go}))

    async def main() -> None:
        async with open_kit(tmp_path, model, slots=1, defaults=SessionDefaults(queued_total=12)) as kit:
            held = (await kit.manager.submit(await kit.session(), ME, "runs")).turn
            while kit.manager.status()["turns_running"] == 0:  # noqa: ASYNC110
                await trio.sleep(0.01)

            async def fill(user: Viewer) -> tuple[int, str]:
                """How many messages of a user were taken, each for a session of its own, and why no more were."""
                for taken in range(20):
                    session = str((await kit.manager.create(user.uid, {}))["id"])
                    try:
                        await kit.manager.submit(session, user, "waits")
                    except Refused as no:
                        return taken, f"{no.code} {no.retry_after_s:g} {no.message}"
                raise AssertionError("never refused")

            taken, why = await fill(ME)
            assert (taken, why.startswith("overloaded 5 6 messages of yours wait, and the 6 places left")) == (6, True)
            assert (await fill(Viewer(uid=2001)))[0] == 3
            assert (await fill(Viewer(uid=2002)))[0] == 2
            taken, why = await fill(Viewer(uid=2003))
            assert (taken, why.startswith("overloaded 5 12 messages wait in all sessions together")) == (1, True)
            assert (await fill(ME))[0] == 0
            go.set()
            await kit.manager.get_turn(held, ME, wait_s=10)
            while kit.manager.status()["turns_queued"]:  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert (await kit.ask(await kit.session(), "there is room again"))["status"] == "finished"

    run(main)


def test_one_users_queue_does_not_keep_another_user_waiting(tmp_path: Path) -> None:
    order: list[str] = []
    go = trio.Event()

    def respond(body: Any) -> Reply:
        order.append(str(body["messages"][-1]["content"][0]["text"]))
        return Reply([Text("x")], holds={0: go})

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel(respond=respond), slots=1) as kit:
            turns = []
            for number in range(6):
                session = await kit.session()
                turns.append((await kit.manager.submit(session, ME, f"mine {number}")).turn)
            other = Viewer(uid=2000)
            theirs = str((await kit.manager.create(other.uid, {}))["id"])
            turn = (await kit.manager.submit(theirs, other, "theirs")).turn
            go.set()
            await kit.manager.get_turn(turn, other, wait_s=10)
            for turn in turns:
                await kit.manager.get_turn(turn, ME, wait_s=10)
            assert order == ["mine 0", "mine 1", "theirs", "mine 2", "mine 3", "mine 4", "mine 5"]

    run(main)


def guard(model: ScriptedModel, policy: BreakerPolicy) -> GuardedModel:
    return GuardedModel(model, Breaker(policy), endpoint="http://x")


def test_a_turn_waits_for_an_endpoint_that_will_be_tried_soon(tmp_path: Path) -> None:
    model = ScriptedModel([HttpError(500)], respond=lambda _: Reply([Text("well again")]))

    async def main() -> None:
        async with open_kit(tmp_path, guard(model, BreakerPolicy(failures=1, open_s=0.3))) as kit:
            turn = await kit.ask(await kit.session(), "go")
            assert turn["result"]["text"] == "well again"

    run(main)


def test_a_turn_fails_with_the_time_where_the_wait_would_be_too_long(tmp_path: Path) -> None:
    model = ScriptedModel([HttpError(500)])

    async def main() -> None:
        async with open_kit(tmp_path, guard(model, BreakerPolicy(failures=1, open_s=50))) as kit:
            for _ in range(2):
                turn = await kit.ask(await kit.session(), "go")
                assert turn["status"] == "failed"
                assert turn["result"]["stop_reason"] == "backend_unavailable"
                assert re.search(r"http://x failed 1 times .* in \d+ s", turn["result"]["error"]["message"])
            assert len(model.requests) == 1

    run(main)


def test_a_wait_for_an_endpoint_can_be_cancelled(tmp_path: Path) -> None:
    model = ScriptedModel([HttpError(500)])

    async def main() -> None:
        async with open_kit(tmp_path, guard(model, BreakerPolicy(failures=1, open_s=20))) as kit:
            session = await kit.session()
            turn = (await kit.manager.submit(session, ME, "go")).turn
            while not model.requests:  # noqa: ASYNC110
                await trio.sleep(0.01)
            await trio.sleep(0.1)
            await kit.manager.cancel(session, ME)
            assert (await kit.manager.get_turn(turn, ME, wait_s=20))["status"] == "cancelled"

    run(main)
