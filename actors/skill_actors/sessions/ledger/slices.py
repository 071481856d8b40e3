"""Time that passes. Where a cap bounds it, it is set aside a slice ahead: what the cap leaves is never passed, also
when the process dies in it. Where none does it is only written down, when a slice is over or the block is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Final

import trio

from skill_actors.sessions.ledger.beside import recorded_beside
from skill_actors.sessions.ledger.exceeded import BudgetExceeded
from skill_actors.sessions.ledger.hold import Hold

__all__ = ["passing_time"]

_FIRST_SLICE_MS: Final = 10_000
_LARGEST_SLICE_MS: Final = 60_000  # what a crash charges too much, at most; or too little, where no cap bounds time

Reserve = Callable[[int], Awaitable[Hold | None]]
Settle = Callable[[Hold | None, int], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """Time to come. `hold`: what sets it aside; None where no cap bounds it."""

    hold: Hold | None
    millis: int


def passing_time(
    reserve: Reserve, settle: Settle, on_end: Callable[[BudgetExceeded], None]
) -> AbstractAsyncContextManager[None]:
    """Count the time while this is open.

    What the block raises comes out as it is, and not in a group.

    Args:
        reserve: so many milliseconds; None if no cap bounds them. Raises BudgetExceeded.
        settle: so many have passed of what was reserved, or where nothing had to be.
        on_end: called once, when there are no more to be had.

    Raises:
        StoreError: time cannot be recorded any more; the block was cancelled.

    """
    return recorded_beside(partial(_count, reserve, settle, on_end))


async def _count(reserve: Reserve, settle: Settle, on_end: Callable[[BudgetExceeded], None]) -> None:
    slice_: _Slice | None = None
    began_s = ends_s = trio.current_time()
    next_ms = _FIRST_SLICE_MS
    try:
        while True:
            if slice_ is not None and slice_.hold is None:  # a cap that was set meanwhile has to see it
                done, slice_ = slice_, None
                await settle(None, done.millis)
            following = await _reserved(reserve, next_ms)
            if slice_ is not None:
                done, slice_ = slice_, None
                await settle(done.hold, done.millis)
            if isinstance(following, BudgetExceeded):
                on_end(following)
                return
            slice_, began_s = following, ends_s
            ends_s += following.millis / 1000
            next_ms = min(next_ms * 2, _LARGEST_SLICE_MS)
            await trio.sleep_until(ends_s)
    finally:
        if slice_ is not None:
            passed_ms = ceil((trio.current_time() - began_s) * 1000)
            with trio.CancelScope(shield=True):
                await settle(slice_.hold, min(max(passed_ms, 0), slice_.millis))


async def _reserved(reserve: Reserve, millis: int) -> _Slice | BudgetExceeded:
    """A slice, or the rest that a cap leaves, or the refusal if it leaves none."""
    while True:
        try:
            return _Slice(hold=await reserve(millis), millis=millis)
        except BudgetExceeded as error:
            if not 0 < error.left < millis:
                return error
            millis = error.left
