"""Notices that wait for one sender. Adding never waits: where there is no room, the oldest goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from skilld.hooks.notice import Notice

__all__ = ["NoticeQueue"]


class NoticeQueue:
    """At most `size` notices, oldest first. It outlives its sender, which may be made again.

    Args:
        on_drop: called for each notice that is let go.

    """

    def __init__(self, size: int, on_drop: Callable[[], object]) -> None:
        self._waiting: deque[Notice] = deque()
        self._size = size
        self._on_drop = on_drop
        self._something = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, notice: Notice) -> None:
        """Put one at the end. Never waits, never fails."""
        if len(self._waiting) >= self._size:
            self._waiting.popleft()
            self._on_drop()
        self._waiting.append(notice)
        self._something.set()

    def give_back(self, notice: Notice) -> None:
        """Put one in front again that was taken; it is dropped if there is no room any more."""
        if len(self._waiting) >= self._size:
            self._on_drop()
        else:
            self._waiting.appendleft(notice)

    async def wait(self) -> None:
        """Return as soon as there is one."""
        while not self._waiting:
            self._something = trio.Event()
            await self._something.wait()

    def take(self) -> Notice:
        """The oldest, which is the caller's now. Raises IndexError if there is none."""
        return self._waiting.popleft()
