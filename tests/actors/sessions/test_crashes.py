"""Conversations whose actor crashes: made again after a rest, and after too many crashes refused for a while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.runtime import Admission, Backoff, Poison
from skill_actors.sessions.crashes import Closer, Crashes
from skill_actors.store import Append, SqliteJournal
from skill_actors.store.base import StorageFull
from skill_actors.testing import Reply, ScriptedModel, Text
from support import run

DAMAGED = {"limits": {"iterations": "many"}}  # as an older program, or a hand, may have left it: no turn can be made


class Watched(Poison):
    """Knows when the last death was, and thinks that it is later than it is, if it is told to."""

    died_at = 0.0
    ahead_s = 0.0

    def admit(self, id: str, now: float) -> Admission:
        return super().admit(id, now + self.ahead_s)

    def died(self, id: str, now: float) -> Admission:
        self.died_at = now
        return super().died(id, now)


def judge_by(kit: Kit, *, max_deaths: int = 5, rest_s: float = 0.01) -> Watched:
    """Other numbers than a daemon's."""
    env = kit.manager._intake._env
    backoff = Backoff(initial_s=rest_s, factor=1, max_s=rest_s)
    poison = Watched(max_deaths=max_deaths, backoff=backoff)
    kit.manager._intake.crashes = Crashes(env, poison)
    return poison


async def damaged_session(kit: Kit) -> str:
    session = await kit.session()
    live = await kit.manager._table.load(session, None)
    await live.log.change_settings(DAMAGED)
    return session


def told(kit: Kit, *names: str) -> list[tuple[str, dict[str, Any]]]:
    seen: list[tuple[str, dict[str, Any]]] = []
    kit.bus.attach("test", names, lambda name, facts, _meta: seen.append((name, dict(facts))))
    return seen


def test_turns_that_wait_end_as_failed_when_their_sessions_actor_crashed_too_often(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("fine")])])) as kit:
            poison = judge_by(kit)
            seen = told(kit, "session.crashed", "session.poisoned")
            bad, good = await damaged_session(kit), await kit.session()
            turns = [(await kit.manager.submit(bad, ME, text)).turn for text in "abc"]
            for id in turns:
                turn = await kit.manager.get_turn(id, ME, wait_s=10)
                assert (turn["status"], turn["result"]["stop_reason"]) == ("failed", "poisoned")
                assert "crashed 5 times in 60 s" in turn["result"]["error"]["message"]
                assert (turn["result"]["cost_usd"], turn["result"]["duration_ms"]) == (0.0, None)
            assert [facts.get("crashes") for name, facts in seen if name == "session.crashed"] == [1, 2, 3, 4, 5]
            assert [name for name, _ in seen].count("session.poisoned") == 1
            shown = await kit.manager.get(bad, ME)
            assert (shown["crashes"], shown["status"], shown["turns"]) == (5, "idle", 0)
            assert shown["poisoned_until"] > shown["updated"]
            passed_s = trio.current_time() - poison.died_at
            with pytest.raises(Refused, match="use another session") as refused:
                await kit.manager.submit(bad, ME, "d")
            assert (refused.value.code, refused.value.retryable) == ("internal", True)
            wait_s = refused.value.retry_after_s or 0
            assert 60 - (trio.current_time() - poison.died_at) <= wait_s <= 60 - passed_s
            assert f"takes no messages for {wait_s:.0f} s more" in refused.value.message
            assert not await kit.journal.unfinished_turns()
            assert (await kit.ask(good, "x"))["result"]["text"] == "fine"
            assert (await kit.manager.get(good, ME))["crashes"] == 0

    run(main)


def test_a_poisoned_session_is_forgiven_when_its_last_crash_is_a_period_old(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("fine")])])) as kit:
            poison = judge_by(kit, max_deaths=2)
            bad = await damaged_session(kit)
            assert (await kit.ask(bad, "a"))["result"]["stop_reason"] == "poisoned"
            live = await kit.manager._table.load(bad, None)
            await live.log.change_settings({"limits": None})  # somebody mended it
            with pytest.raises(Refused) as refused:
                await kit.manager.submit(bad, ME, "b")
            poison.ahead_s = refused.value.retry_after_s or 0
            assert (await kit.ask(bad, "c"))["result"]["text"] == "fine"
            shown = await kit.manager.get(bad, ME)
            assert (shown["crashes"], shown["poisoned_until"]) == (0, None)

    run(main)


def test_the_next_message_is_answered_after_a_rest(tmp_path: Path) -> None:
    """A script without an answer raises what no turn expects: that turn fails, and its actor crashes."""

    async def main() -> None:
        model = ScriptedModel()
        async with open_kit(tmp_path, model) as kit:
            poison = judge_by(kit, rest_s=0.3)
            session, begun_at = await kit.session(), list[float]()
            kit.bus.attach("test", ["turn.started"], lambda *_: begun_at.append(trio.current_time()))
            assert (await kit.ask(session, "a"))["result"]["error"]["code"] == "internal"
            model.enqueue(Reply([Text("fine")]), Reply([Text("at once")]))
            assert (await kit.ask(session, "b"))["result"]["text"] == "fine"
            assert begun_at[1] - poison.died_at >= 0.299
            assert (await kit.manager.get(session, ME))["crashes"] == 1
            found = kit.manager._intake.crashes._poison.admit(session, trio.current_time())
            assert (found.delay_s, found.deaths) == (0, 1)  # the turn survived
            assert (await kit.ask(session, "c"))["result"]["text"] == "at once"

    run(main)


def test_a_turn_that_rests_can_be_cancelled_and_its_session_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel()) as kit:
            judge_by(kit, rest_s=1000)
            session = await kit.session()
            await kit.ask(session, "a")
            one, _two = [(await kit.manager.submit(session, ME, text)).turn for text in "bc"]
            await kit.manager.cancel_turn(one, ME)
            assert (await kit.manager.get_turn(one, ME))["status"] == "cancelled"
            with trio.fail_after(20):
                await kit.manager.delete(session, ME)

    run(main)


def test_a_turn_that_fails_is_no_crash(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("x")], stop_reason="refusal")] * 7)) as kit:
            session = await kit.session()
            for _ in range(7):
                await kit.ask(session, "a")
            assert (await kit.manager.get(session, ME))["crashes"] == 0

    run(main)


class Full:
    """The journal, on a disk that is full for the first few endings."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self, journal: SqliteJournal) -> Full:
        self._journal = journal
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def append(self, change: Append) -> None:
        if self.times and any(event.type == "turn.failed" for event in change.events):
            self.times -= 1
            raise StorageFull("no room")
        await self._journal.append(change)


def test_a_poisoned_turn_waits_for_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill_actors.sessions.crashes._STORE_RETRY_S", 0.01)

    async def main() -> None:
        full = Full(3)
        async with open_kit(tmp_path, ScriptedModel(), wrap=full) as kit:
            judge_by(kit, max_deaths=1)
            assert (await kit.ask(await damaged_session(kit), "a"))["result"]["stop_reason"] == "poisoned"
            assert full.times == 0

    run(main)


def test_a_closer_that_crashes_is_not_made_again_and_leaves_the_turns_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    async def broken(self: Closer, _turn: str) -> None:
        made.append(self)
        raise RuntimeError("broken")

    monkeypatch.setattr(Closer, "_close", broken)

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel()) as kit:
            judge_by(kit, max_deaths=1)
            session = await damaged_session(kit)
            turn = (await kit.manager.submit(session, ME, "a")).turn
            live = await kit.manager._table.load(session, None)
            with trio.fail_after(20):
                while not made or live.ref is not None:  # noqa: ASYNC110  # nobody tells of it
                    await trio.sleep(0.005)
            await trio.sleep(0.05)
            assert len(made) == 1
            assert [one.id for one in await kit.journal.unfinished_turns()] == [turn]

    run(main)
