"""A journal that can be held in the middle of a commit, and the gate that holds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from skill_actors.store import Append, SqliteJournal

__all__ = ["Gate", "Hook", "HookedJournal", "nothing"]

Hook = Callable[[], Awaitable[object]]


async def nothing() -> None:
    """What a hook does that is not set."""


class HookedJournal:
    """The journal, with something that happens while the first event of a type is being committed.

    Use it as `wrap`. `before` runs when the commit was asked for, `after` when it is durable and not yet known.
    """

    def __init__(self, type: str, *, before: Hook = nothing, after: Hook = nothing) -> None:
        self._type = type
        self._hooks = (before, after)

    def __call__(self, journal: SqliteJournal) -> HookedJournal:
        self._journal = journal
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def append(self, change: Append) -> None:
        before: Hook = nothing
        after: Hook = nothing
        if self._type in [event.type for event in change.events]:
            (before, after), self._hooks = self._hooks, (nothing, nothing)
        await before()
        await self._journal.append(change)
        await after()


class Gate:
    """Who comes to it waits until it is opened, or for 20 s if a failed test leaves it shut; `reached` tells of it."""

    def __init__(self) -> None:
        self.reached = trio.Event()
        self.opened = trio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        with trio.move_on_after(20):
            await self.opened.wait()
