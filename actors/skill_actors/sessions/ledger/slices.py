"""Time that passes, set aside a slice ahead: what a cap leaves is never passed, also when the process dies in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import ceil
from typing import Final

import trio

from skill_actors.sessions.ledger.exceeded import BudgetExceeded
from skill_actors.sessions.ledger.hold import Hold
from skill_actors.store.base import StoreError

__all__ = ["passing_time"]

_FIRST_SLICE_MS: Final = 10_000
_LARGEST_SLICE_MS: Final = 60_000  # what a crash charges too much, at most


@asynccontextmanager
async def passing_time(
    reserve: Callable[[int], Awaitable[Hold]],
    settle: Callable[[Hold, int], Awaitable[object]],
    on_end: Callable[[BudgetExceeded], None],
) -> AsyncIterator[None]:
    """Count the time while this is open.

    What the block raises comes out as it is, and not in a group.

    Args:
        reserve: so many milliseconds; raises BudgetExceeded.
        settle: so many of them have passed.
        on_end: called once, when there are no more to be had.

    Raises:
        StoreError: time cannot be recorded any more; the block was cancelled.

    """
    raised: list[BaseException] = []
    faults: list[StoreError] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_count, reserve, settle, on_end, faults, nursery.cancel_scope)
        try:
            yield
        except BaseException as error:
            raised.append(error)
        nursery.cancel_scope.cancel()
    if faults:
        raise faults[0]
    if raised:
        raise raised[0]


async def _count(
    reserve: Callable[[int], Awaitable[Hold]],
    settle: Callable[[Hold, int], Awaitable[object]],
    on_end: Callable[[BudgetExceeded], None],
    faults: list[StoreError],
    block: trio.CancelScope,
) -> None:
    hold: Hold | None = None
    began_s = ends_s = trio.current_time()
    slice_ms = _FIRST_SLICE_MS
    try:
        while True:
            following = await _reserved(reserve, slice_ms)
            if hold is not None:
                done, hold = hold, None
                await settle(done, done.amounts.millis)
            if isinstance(following, BudgetExceeded):
                on_end(following)
                return
            hold, began_s = following, ends_s
            ends_s += following.amounts.millis / 1000
            slice_ms = min(slice_ms * 2, _LARGEST_SLICE_MS)
            await trio.sleep_until(ends_s)
    except StoreError as error:
        faults.append(error)
        block.cancel()
    finally:
        if hold is not None:
            passed_ms = ceil((trio.current_time() - began_s) * 1000)
            await _settle_last(settle, hold, min(max(passed_ms, 0), hold.amounts.millis), faults)


async def _reserved(reserve: Callable[[int], Awaitable[Hold]], slice_ms: int) -> Hold | BudgetExceeded:
    """A slice, or the rest that a cap leaves, or the refusal if it leaves none."""
    while True:
        try:
            return await reserve(slice_ms)
        except BudgetExceeded as error:
            if not 0 < error.left < slice_ms:
                return error
            slice_ms = error.left


async def _settle_last(
    settle: Callable[[Hold, int], Awaitable[object]], hold: Hold, passed_ms: int, faults: list[StoreError]
) -> None:
    with trio.CancelScope(shield=True):
        try:
            await settle(hold, passed_ms)
        except StoreError as error:
            faults.append(error)
