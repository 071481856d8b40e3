"""The clock of the machine is set back or forward while conversations go on: order and deadlines do not mind."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from session_kit import ME, Kit, open_kit
from skill_actors.sessions import events
from skill_actors.sessions.events import Position
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Clock(datetime):
    """What the events are dated by."""

    ahead: ClassVar[timedelta] = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(events, "datetime", Clock)
    monkeypatch.setattr(Clock, "ahead", timedelta())
    return Clock


def answers(*texts: str) -> ScriptedModel:
    return ScriptedModel([Reply([Text(text)]) for text in texts])


async def times(kit: Kit, session: str) -> list[str]:
    return [event.time for event in await kit.events(session)]


@pytest.mark.parametrize("days", [-400, 400])
def test_events_keep_their_order_and_are_followed_whatever_the_clock_says(
    tmp_path: Path, clock: type[Clock], days: int
) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answers("1", "2", "3")) as kit:
            session, other = await kit.session(), await kit.session()
            await kit.ask(session, "a")
            first = await kit.events(session)
            clock.ahead = timedelta(days=days)
            await kit.ask(session, "b")
            async with kit.manager.follow(session, ME, after=Position(first[-1].seq), live=False) as follower:
                rest = [event async for event in follower]
            everything = await kit.events(session)
            assert everything == [*first, *rest]
            assert [event.seq for event in everything] == sorted({event.seq for event in everything})
            assert [event.data["text"] for event in everything if event.type == "turn.queued"] == ["a", "b"]
            dates = await times(kit, session)
            assert all(map(RFC_3339.fullmatch, dates))
            assert (dates[-1] < dates[0]) == (days < 0)  # told as the clock showed it, never bent
            await kit.ask(other, "c")
            listed = await kit.manager.list(ME, limit=1)
            page = await kit.manager.list(ME, limit=1, cursor=listed["next"])
            assert {item["id"] for item in [*listed["items"], *page["items"]]} == {session, other}

    run(main)


@pytest.mark.parametrize("days", [-400, 400])
def test_a_deadline_is_kept_and_a_duration_is_true_when_the_clock_is_set_meanwhile(
    tmp_path: Path, clock: type[Clock], monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    real = time.time

    async def main() -> None:
        model = ScriptedModel([Reply([ToolUse("bash_tool", {"command": "touch f; sleep 60", "description": "d"})])])
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session(limits={"turn_timeout_s": 5})
            accepted = await kit.manager.submit(session, ME, "go")
            while not (tmp_path / "workspaces" / session / "f").exists():  # noqa: ASYNC110
                await trio.sleep(0.01)
            clock.ahead = timedelta(days=days)
            monkeypatch.setattr(time, "time", lambda: real() + days * 86_400)
            with trio.fail_after(25):
                turn = await kit.manager.get_turn(accepted.turn, ME, wait_s=25)
            assert turn["result"]["stop_reason"] == "turn_timeout"
            assert 4_900 <= turn["result"]["duration_ms"] < 18_500

    run(main)


@pytest.mark.parametrize("days", [-400, 400])
def test_a_restart_is_told_once_though_the_clock_was_set_between(tmp_path: Path, clock: type[Clock], days: int) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answers("1")) as kit:
            session = await kit.session()
            await kit.ask(session, "a")
        clock.ahead = timedelta(days=days)
        async with open_kit(tmp_path, answers("2", "3", "4")) as kit:
            assert await kit.manager.get(session, ME)
            await kit.ask(session, "b")
            assert (await kit.types(session)).count("session.restarted") == 1
            for number, back in enumerate((0, -days)):  # it is let go and comes back: that is no restart
                clock.ahead = timedelta(days=back)
                assert await kit.manager.unload_idle(0) == 1
                await kit.ask(session, f"c{number}")
            assert (await kit.types(session)).count("session.restarted") == 1

    run(main)


def test_a_restart_is_told_though_the_session_was_changed_or_let_go_before_its_next_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answers("1")) as kit:
            session = await kit.session()
            await kit.ask(session, "a")
        async with open_kit(tmp_path, answers("2")) as kit:
            await kit.manager.update(session, ME, {"title": "t"})
            assert await kit.manager.unload_idle(0) == 1
            await kit.ask(session, "b")
            assert (await kit.types(session)).count("session.restarted") == 1

    run(main)


def test_a_fork_that_was_made_since_the_start_was_not_restarted(tmp_path: Path, clock: type[Clock]) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, answers("1", "2")) as kit:
            session = await kit.session()
            await kit.ask(session, "a")
            clock.ahead = timedelta(days=-400)
            made = (await kit.manager.fork(session, ME))["id"]
            await kit.ask(made, "b")
            assert "session.restarted" not in await kit.types(made)

    run(main)
