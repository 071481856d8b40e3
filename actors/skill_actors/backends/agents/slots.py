"""How many programs of one backend run at once: the others wait in order, and an idle one makes room.

A program holds a slot for as long as it lives. Between turns its owner calls it idle; when somebody waits, the one that
has been idle longest is asked to make room, and so is one that has been idle for too long: whoever keeps the program
waits for that with `Slot.over`, ends it, and frees the slot.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

__all__ = ["Slot", "Slots"]


class Slot:
    """The right to run one program, until `free`."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._idle_since = math.inf
        self._stirred = trio.Event()
        self._wanted = False

    @property
    def wanted(self) -> bool:
        """Whether it has to be given back; it then stays so."""
        return self._wanted

    def idle(self) -> None:
        """The program does nothing for anybody: it may be ended from now on."""
        if not self._wanted and self in self._slots._held:
            self._idle_since = trio.current_time()
            self._stir()
            self._slots._add_idle(self)

    def busy(self) -> bool:
        """Whether the program may be used again; if not, it is to be ended, and another slot asked for."""
        self._idle_since = math.inf
        self._slots._idle.pop(self, None)
        return not self._wanted

    def end(self) -> None:
        """The program is to be ended, whether it is idle or not. May be called twice, and when it is no more."""
        self._wanted = True
        self._slots._idle.pop(self, None)
        if self in self._slots._held:
            self._slots._ending.add(self)
        self._stir()

    async def over(self, idle_close_s: float) -> None:
        """Wait until the program is to be ended: its slot is wanted, or it has been idle for so long."""
        while not self._wanted:
            until = self._idle_since + idle_close_s
            with trio.move_on_at(until):
                await self._stirred.wait()
            if trio.current_time() >= self._idle_since + idle_close_s:
                self.end()  # at once: from here on it is of use to nobody

    def free(self) -> None:
        """The program is no more: who waits is next. May be called twice."""
        self._slots._free(self)

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = trio.Event()


class Slots:
    """At most `limit` slots are held at the same time. For one trio thread."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self._limit = limit
        self._held: set[Slot] = set()
        self._waiting: deque[tuple[trio.Event, Slot]] = deque()
        self._idle: dict[Slot, None] = {}  # longest first
        self._ending: set[Slot] = set()  # that make room already

    @property
    def held(self) -> int:
        """How many slots are held."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    async def take(self) -> Slot:
        """Wait for a slot, in order; it is held until it is freed."""
        await trio.lowlevel.checkpoint_if_cancelled()
        slot = Slot(self)
        if len(self._held) < self._limit:  # then nobody waits
            self._held.add(slot)
            return slot
        turn = trio.Event()
        self._waiting.append((turn, slot))
        self._ask()
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                slot.free()
            else:
                self._waiting.remove((turn, slot))
            raise
        return slot

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Hold a slot while the block runs; waits for its turn first."""
        slot = await self.take()
        try:
            yield slot
        finally:
            slot.free()

    def _free(self, slot: Slot) -> None:
        if slot not in self._held:
            return
        self._held.remove(slot)
        self._idle.pop(slot, None)
        self._ending.discard(slot)
        if self._waiting:
            turn, next_ = self._waiting.popleft()
            self._held.add(next_)
            turn.set()

    def _add_idle(self, slot: Slot) -> None:
        self._idle[slot] = None
        self._ask()

    def _ask(self) -> None:
        """Ask as many idle ones as there are waiters whom nobody makes room for yet."""
        while self._idle and len(self._waiting) > len(self._ending):
            next(iter(self._idle)).end()
