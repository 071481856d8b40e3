"""A turn while it waits for people: its clock stands still, and others may have its slot."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from skill_actors.sessions.slots import TurnSlots

__all__ = ["Rest"]


class Rest:
    """The time of one turn, and its slot. A turn rests while everything of it that still runs waits for somebody.

    Args:
        scope: ends the turn when its time is over.
        slots, owner: whose slot the turn holds.

    """

    def __init__(self, scope: trio.CancelScope, slots: TurnSlots, owner: int) -> None:
        self._scope = scope
        self._slots = slots
        self._owner = owner
        self._working = 0
        self._waiting = 0
        self._left_s = math.inf  # of the turn's time, while it rests
        self._waking = trio.Lock()
        self._changed = trio.Event()
        self.resting = False
        self.broken_off = False  # cancelled while it rested

    @contextmanager
    def working(self) -> Iterator[None]:
        """For as long as the block lasts, one more thing runs."""
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            self._settle()

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """For as long as the block lasts, one of the things that run waits. It ends with a slot, once there is one."""
        self._waiting += 1
        self._settle()
        try:
            yield
        finally:
            try:
                async with self._waking:
                    await self._go_on()
            except trio.Cancelled:  # the turn ends, and what ends gives a slot back
                if self.resting:
                    self.broken_off = True
                    self._slots.hold(self._owner)
                    self._awake()
                raise
            finally:
                self._waiting -= 1

    def _settle(self) -> None:
        """Rest, if nothing does anything else any more."""
        if self.resting or not self._waiting or self._waiting < self._working:
            return
        self.resting = True
        self._left_s = self._scope.deadline - trio.current_time()
        self._scope.deadline = math.inf
        self._slots.give_back(self._owner)
        self._tell()

    async def _go_on(self) -> None:
        if not self.resting:
            return
        await self._slots.take_back(self._owner)
        if self.resting:
            self._awake()
        else:  # somebody who was cancelled meanwhile holds one already
            self._slots.give_back(self._owner)

    def _awake(self) -> None:
        self.resting = False
        self._scope.deadline = trio.current_time() + self._left_s
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def wait_until(self, resting: bool) -> None:
        """Wait until it rests, or until it does not."""
        while self.resting is not resting:
            await self._changed.wait()
