"""One owner's items in memory, as the documents say they are: by id, by what waits for what, by what may be taken.

The store is the truth, and every write names the versions that it was decided on. What is kept here is never ahead of
it, so that a choice among thousands of items costs no read; whoever finds that it is behind makes it anew.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

import trio

from skill_actors.workshop.board.item import Item

__all__ = ["BoardIndex"]

_Rank = tuple[int, str, str]


class BoardIndex:
    """The items of one owner.

    Attributes:
        busy: ids of items that a write is under way for, or relies on.
        stale: whether the store may know better.
        deadlines: by id: when the lease of an item ends, on trio's clock.

    """

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.stale = False
        self.deadlines: dict[str, float] = {}
        self.size_chars = 0
        self._items: dict[str, Item] = {}
        self._versions: dict[str, int] = {}
        self._dependents: dict[str, set[str]] = {}
        self._ready: dict[str, list[_Rank]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()  # by type and status
        self._freed = trio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items.values())

    def get(self, id: str) -> Item | None:
        """The item, if there is one."""
        return self._items.get(id)

    def is_ready(self, id: str) -> bool:
        """Whether there is such an item, and it waits to be taken."""
        item = self._items.get(id)
        return item is not None and item.status == "ready"

    def version(self, id: str) -> int:
        """Of its document; 0 if there is none."""
        return self._versions.get(id, 0)

    def dependents(self, id: str) -> Iterable[str]:
        """Ids of those that depend on it directly."""
        return tuple(self._dependents.get(id, ()))

    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many there are, by type and status."""
        return {key: count for key, count in self._counts.items() if count}

    def best_ready(self, types: Collection[str], names: Collection[str]) -> Item | None:
        """The first of these types that may be taken by somebody of these names, and that nobody is just taking."""
        found = [item for type in types if (item := self._first(type, names)) is not None]
        return min(found, key=lambda item: item.rank, default=None)

    def _first(self, type: str, names: Collection[str]) -> Item | None:
        for _, _, id in self._ready.get(type, ()):
            item = self._items[id]
            if id not in self.busy and (item.agent is None or item.agent in names):
                return item
        return None

    def put(self, item: Item, version: int, *, now: float) -> None:
        """Take over what was stored. `now`: trio's time, from which a new lease runs."""
        before = self._items.get(item.id)
        self._forget(before)
        self._items[item.id] = item
        self._versions[item.id] = version
        self.size_chars += item.size_chars
        self._counts[item.type, item.status] += 1
        for other in item.depends_on:
            self._dependents.setdefault(other, set()).add(item.id)
        if item.status == "ready":
            insort(self._ready.setdefault(item.type, []), item.rank)
        self._lease(before, item, now)

    def remove(self, id: str) -> None:
        """It is gone."""
        self._forget(self._items.pop(id, None))
        self._versions.pop(id, None)
        self.deadlines.pop(id, None)

    def _lease(self, before: Item | None, item: Item, now: float) -> None:
        if item.lease is None:
            self.deadlines.pop(item.id, None)
        elif before is None or before.lease is None or before.lease.token != item.lease.token:
            self.deadlines[item.id] = now + item.lease.lease_s

    def _forget(self, item: Item | None) -> None:
        if item is None:
            return
        self.size_chars -= item.size_chars
        self._counts[item.type, item.status] -= 1
        for other in item.depends_on:
            waiting = self._dependents[other]
            waiting.discard(item.id)
            if not waiting:
                del self._dependents[other]
        if item.status == "ready":
            ranks = self._ready[item.type]
            del ranks[bisect_left(ranks, item.rank)]

    def hold(self, ids: Iterable[str]) -> None:
        """Mark items as being written, or relied on."""
        self.busy.update(ids)

    def free(self, ids: Iterable[str]) -> None:
        """The write is over."""
        self.busy.difference_update(ids)
        freed, self._freed = self._freed, trio.Event()
        freed.set()

    async def wait_freed(self) -> None:
        """Until some write is over."""
        await self._freed.wait()
