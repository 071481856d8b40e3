"""How many turns run at once in all, and who is next when there are more.

First come first served would let one user who sends a thousand messages keep everybody else waiting for all of them. So
a free slot goes to the user with the fewest running turns; among equals to the one who has been in line the longest
since being served last; among one user's conversations to the one that came first. The order is decided by
`FairOrder`, which waits for nothing; `TurnSlots` waits.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import trio

__all__ = ["FairOrder", "TurnSlots"]

T = TypeVar("T")


class FairOrder(Generic[T]):
    """Who waits and who runs, by owner. Pure."""

    def __init__(self) -> None:
        self._waiting: dict[int, deque[T]] = {}
        self._in_line_since: dict[int, int] = {}  # of each owner who waits; larger is later
        self._running: Counter[int] = Counter()
        self._ticks = 0

    @property
    def running(self) -> int:
        return self._running.total()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def join(self, owner: int, ticket: T) -> None:
        """Wait. An owner who did not wait already is the last in line, as if served just now."""
        if owner not in self._waiting:
            self._waiting[owner] = deque()
            self._in_line_since[owner] = self._tick()
        self._waiting[owner].append(ticket)

    def leave(self, owner: int, ticket: T) -> None:
        """Wait no longer. Raises ValueError if the ticket does not wait."""
        self._waiting[owner].remove(ticket)
        self._tidy(owner)

    def begin(self, owner: int) -> None:
        """A turn runs that did not have to wait."""
        self._running[owner] += 1

    def end(self, owner: int) -> None:
        """A turn of this owner runs no more."""
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]

    def next(self) -> T | None:
        """Take the next out of the line and count it as running; None if nobody waits."""
        if not self._waiting:
            return None
        owner = min(self._waiting, key=lambda each: (self._running[each], self._in_line_since[each]))
        ticket = self._waiting[owner].popleft()
        self._in_line_since[owner] = self._tick()
        self._tidy(owner)
        self.begin(owner)
        return ticket

    def _tidy(self, owner: int) -> None:
        if not self._waiting[owner]:
            del self._waiting[owner], self._in_line_since[owner]

    def _tick(self) -> int:
        self._ticks += 1
        return self._ticks


class _Ticket:
    """A place in the line."""

    __slots__ = ("granted",)

    def __init__(self) -> None:
        self.granted = trio.Event()


class TurnSlots:
    """So many turns run at once. Belongs to the trio thread.

    Args:
        total: at least 1.

    """

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError(f"{total} slots let nothing run")
        self.total = total
        self._order: FairOrder[_Ticket] = FairOrder()

    @property
    def running(self) -> int:
        """Slots in use."""
        return self._order.running

    @property
    def waiting(self) -> int:
        """Turns that wait for one."""
        return self._order.waiting

    @asynccontextmanager
    async def taken(self, owner: int) -> AsyncIterator[None]:
        """Hold a slot for as long as the block lasts, waiting for it in fair order."""
        await self._take(owner)
        try:
            yield
        finally:
            self._order.end(owner)
            self._hand_on()

    def give_back(self, owner: int) -> None:
        """Let others have the slot that the caller holds, until it takes one back."""
        self._order.end(owner)
        self._hand_on()

    async def take_back(self, owner: int) -> None:
        """Hold a slot again, waiting for it in fair order."""
        await self._take(owner)

    def hold(self, owner: int) -> None:
        """Hold a slot at once, also if there is none: for whoever gave one back and is about to end."""
        self._order.begin(owner)

    async def _take(self, owner: int) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.running < self.total:  # nobody waits then
            self._order.begin(owner)
            return
        ticket = _Ticket()
        self._order.join(owner, ticket)
        try:
            await ticket.granted.wait()
        except trio.Cancelled:
            if ticket.granted.is_set():
                self._order.end(owner)
                self._hand_on()
            else:
                self._order.leave(owner, ticket)
            raise

    def _hand_on(self) -> None:
        while self.running < self.total and (ticket := self._order.next()) is not None:
            ticket.granted.set()
