"""Deadlines of pending calls: one task for all, since a cancel scope for each costs half of what the call costs.

Calls with the same timeout end in the order they began, so each timeout has a row (an insertion-ordered dict) whose
first entry is due first: adding and removing are O(1). The task sleeps until the earliest deadline. It is not woken
when a call is answered, so it may wake for nothing, at most once in each timeout.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from skill_actors.runtime.future import TrioFuture

__all__ = ["Deadlines"]

Row = dict["TrioFuture[Any]", float]

MAX_ROWS: Final = 64  # waking costs a look at each row


class Deadlines:
    """One per system; `run` is its task. All of it belongs to the trio thread."""

    def __init__(self) -> None:
        self._rows: dict[float, Row] = {}
        self._wakes_at = math.inf
        self._life = trio.CancelScope(shield=True)  # a tree that ends in order still makes calls
        self._nap: trio.CancelScope | None = None

    def __len__(self) -> int:
        """Calls that are pending."""
        return sum(len(row) for row in self._rows.values())

    def add(self, future: TrioFuture[Any], timeout_s: float) -> Row | None:
        """Expire `future` after `timeout_s` seconds. The caller removes it from the row when it has its answer.

        Returns:
            the row; None, and nothing done, if the timeout is not positive, or one of too many different ones.

        """
        row = self._rows.get(timeout_s)
        if row is None:
            row = self._new_row(timeout_s)
            if row is None:
                return None
        deadline = row[future] = trio.current_time() + timeout_s
        if deadline < self._wakes_at:
            self._wakes_at = deadline
            if self._nap is not None:
                self._nap.deadline = deadline
        return row

    def _new_row(self, timeout_s: float) -> Row | None:
        if not timeout_s > 0:
            return None
        if len(self._rows) >= MAX_ROWS:
            self._rows = {timeout: row for timeout, row in self._rows.items() if row}
            if len(self._rows) >= MAX_ROWS:
                return None
        row = self._rows[timeout_s] = {}
        return row

    async def run(self) -> None:
        """Expire futures when they are due, until `stop`; cancellation from outside is held off until then."""
        with self._life:
            while True:
                with trio.CancelScope(deadline=self._wakes_at) as self._nap:
                    await trio.sleep_forever()
                self._expire(trio.current_time())

    def stop(self) -> None:
        """End `run`. Every actor of the system has ended, so no call is pending."""
        self._life.cancel()

    def _expire(self, now: float) -> None:
        self._wakes_at = math.inf
        for row in self._rows.values():
            while row:
                future, deadline = next(iter(row.items()))
                if deadline > now:
                    self._wakes_at = min(self._wakes_at, deadline)
                    break
                del row[future]
                future.expire()
