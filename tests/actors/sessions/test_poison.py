"""A turn that ends the daemon whenever it is taken up is given up after a few starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from session_kit import ME, Kit, open_kit
from skill_actors.sessions.poison import ATTEMPTS
from skill_actors.store import JournalClosed
from skill_actors.testing import Reply, ScriptedModel, Text
from support import run


class Died(BaseException):
    """The process is gone."""


class Mortal:
    """A journal of a process that dies when it reads a session's history, and can then write nothing any more."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.lethal = False
        self.dead = False
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def append(self, change: Any) -> None:
        if self.dead:
            raise JournalClosed("the process is dead")
        await self._journal.append(change)

    async def read_events(self, session: str, **where: Any) -> Any:
        if self.lethal and where.get("limit", 1000) >= 500:
            self.reads += 1
            self.dead = True
            raise JournalClosed("the process is dead")
        return await self._journal.read_events(session, **where)


def dying(tmp_path: Path, mortals: list[Mortal], lethal: bool) -> Any:
    def wrap(journal: Any) -> Mortal:
        mortals.append(Mortal(journal))
        mortals[-1].lethal = lethal
        return mortals[-1]

    return open_kit(tmp_path, ScriptedModel(respond=lambda _: Reply([Text("fine")])), wrap=wrap)


async def leave_a_running_turn(tmp_path: Path) -> tuple[str, str]:
    """A session whose daemon died while its second turn ran."""
    mortals: list[Mortal] = []
    go = trio.Event()
    model = ScriptedModel([Reply([Text("one")]), Reply([Text("two")], holds={0: go})])

    def wrap(journal: Any) -> Mortal:
        mortals.append(Mortal(journal))
        return mortals[-1]

    async with open_kit(tmp_path, model, wrap=wrap) as kit:
        session = await kit.session()
        await kit.ask(session, "one")
        turn = (await kit.manager.submit(session, ME, "two")).turn
        while model.running == 0:  # noqa: ASYNC110
            await trio.sleep(0.01)
        mortals[0].dead = True
    return session, turn


async def status(kit: Kit, turn: str) -> str:
    found = await kit.manager.get_turn(turn, ME)
    return str(found["status"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_turn_whose_end_cannot_be_written_without_dying_is_failed_unread(tmp_path: Path) -> None:
    async def main() -> None:
        mortals: list[Mortal] = []
        session, turn = await leave_a_running_turn(tmp_path)
        for _ in range(ATTEMPTS):
            async with dying(tmp_path, mortals, lethal=True) as kit:
                assert await status(kit, turn) == "running"
        async with dying(tmp_path, mortals, lethal=True) as kit:
            found = await kit.manager.get_turn(turn, ME)
            assert (found["status"], found["result"]["error"]["code"]) == ("failed", "poisoned")
        assert [mortal.reads for mortal in mortals] == [1] * ATTEMPTS + [0]
        async with dying(tmp_path, mortals, lethal=False) as kit:
            assert await status(kit, turn) == "failed"
            assert (await kit.types(session))[-2:] == ["session.restarted", "turn.failed"]
            assert (await kit.ask(session, "three"))["result"]["text"] == "fine"
            stored = await kit.journal.get_session(session)
            assert stored is not None
            assert "attempts" not in stored.totals

    run(main)


def test_a_turn_that_waits_through_many_orderly_starts_is_not_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        go = trio.Event()  # never: one turn keeps the only slot until the stop, which interrupts it
        held = ScriptedModel(respond=lambda _: Reply([Text("held")], holds={0: go}))
        async with open_kit(tmp_path, held, slots=1) as kit:
            turns = [(await kit.manager.submit(await kit.session(), ME, "x")).turn for _ in range(ATTEMPTS + 3)]
            await kit.manager.drain(0)
        for _ in range(ATTEMPTS + 1):
            async with open_kit(tmp_path, held, slots=1) as kit:
                while kit.manager.status()["turns_running"] == 0:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                assert await status(kit, turns[-1]) == "queued"
                await kit.manager.drain(0)
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("at last")])])) as kit:
            found = await kit.manager.get_turn(turns[-1], ME, wait_s=10)
            assert found["result"]["text"] == "at last"

    run(main)
