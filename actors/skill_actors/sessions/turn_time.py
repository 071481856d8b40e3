"""The seconds of a turn, counted by the ledger while it does not wait for people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from skill_actors.sessions.ledger import Account, BudgetExceeded, Ledger
from skill_actors.sessions.rest import Rest
from skill_actors.store.base import StoreError

__all__ = ["counted_time"]


@asynccontextmanager
async def counted_time(
    ledger: Ledger, account: Callable[[], Account], rest: Rest, on_end: Callable[[BudgetExceeded], None]
) -> AsyncIterator[None]:
    """Count the time while this is open, but for rests. What the block raises comes out as it is, and not in a group.

    Args:
        account: who pays, asked for each slice of it.
        on_end: called when a cap leaves no more.

    Raises:
        StoreError: time cannot be recorded any more; the block was cancelled.

    """
    raised: list[BaseException] = []
    faults: list[StoreError] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_count, ledger, account, rest, on_end, faults, nursery.cancel_scope)
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
    ledger: Ledger,
    account: Callable[[], Account],
    rest: Rest,
    on_end: Callable[[BudgetExceeded], None],
    faults: list[StoreError],
    block: trio.CancelScope,
) -> None:
    try:
        while True:
            await rest.wait_until(False)
            async with ledger.clock(account, on_end):
                await rest.wait_until(True)
    except StoreError as error:
        faults.append(error)
        block.cancel()
