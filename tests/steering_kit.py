"""What tests of steering and pausing share."""

from __future__ import annotations

from typing import Any, Self

import pytest
import trio

from session_kit import ME, Kit
from skill_actors.errors import Refused
from skill_actors.sessions.events import Event, Position
from skill_actors.sessions.intake import Accepted
from skill_actors.store import Append, JournalClosed, SqliteJournal, StorageFull
from skill_actors.testing import ToolUse


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "d"})


def refused(code: str, says: str | None = None) -> Any:
    return pytest.raises(Refused, match=says, check=lambda error: error.code == code)


async def see(kit: Kit, session: str, type: str, after: int = 0) -> Event:
    with trio.fail_after(20):
        async with kit.manager.follow(session, ME, after=Position(after)) as events:
            async for event in events:
                if event.type == type:
                    return event
    raise AssertionError(f"the session ended without {type}")


def said(request: Any) -> list[str]:
    """What the user says in a request, without what the program says."""
    blocks = [block for message in request.messages if message["role"] == "user" for block in message["content"]]
    return [str(block["text"]) for block in blocks if block["type"] == "text" and not block["text"].startswith("[")]


async def begun(kit: Kit, *, text: str = "begin", until: str = "model.delta", **settings: Any) -> tuple[str, str]:
    """A new session and its turn, as soon as that has come to an event."""
    session = await kit.session(**settings)
    turn = (await kit.manager.submit(session, ME, text)).turn
    await see(kit, session, until)
    return session, turn


async def ended(kit: Kit, turn: str) -> dict[str, Any]:
    return await kit.manager.get_turn(turn, ME, wait_s=20)


async def steer(kit: Kit, session: str, text: str, key: str | None = None) -> Accepted:
    return await kit.manager.submit(session, ME, text, (), key, mode="steer")


class InFront:
    """A journal in front of the real one, which does all that it does not do itself. For `wrap` of `open_kit`."""

    _journal: SqliteJournal

    def __call__(self, journal: SqliteJournal) -> Self:
        self._journal = journal
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


class Full(InFront):
    """A journal that has no room for events of a type."""

    def __init__(self, type: str) -> None:
        self.type = type

    async def append(self, change: Append) -> None:
        if self.type in [event.type for event in change.events]:
            raise StorageFull("no room")
        await self._journal.append(change)


class Slow(InFront):
    """A journal that holds events of a type until it is let go, and with `full` has no room for them then."""

    def __init__(self, type: str, *, full: bool = False) -> None:
        self.type = type
        self.full = full
        self.reached, self.go = trio.Event(), trio.Event()

    async def append(self, change: Append) -> None:
        if self.type in [event.type for event in change.events]:
            self.reached.set()
            with trio.move_on_after(20):
                await self.go.wait()
            if self.full:
                raise StorageFull("no room")
        await self._journal.append(change)


class Mortal(InFront):
    """A journal that dies before or after it has stored the first event of a type, as a killed process does."""

    def __init__(self, type: str, *, stored: bool) -> None:
        self.type = type
        self.stored = stored
        self.dead = trio.Event()

    async def append(self, change: Append) -> None:
        if self.dead.is_set():
            raise JournalClosed("the process is dead")
        dies = self.type in [event.type for event in change.events]
        if dies:
            self.dead.set()
        if not dies or self.stored:
            await self._journal.append(change)
        if dies:
            raise JournalClosed("the process is dead")
