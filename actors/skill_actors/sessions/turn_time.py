"""The seconds of a turn, counted by the ledger while it does not wait for people."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from skill_actors.sessions.ledger import Account, BudgetExceeded, Ledger
from skill_actors.sessions.ledger.beside import recorded_beside
from skill_actors.sessions.rest import Rest

__all__ = ["counted_time"]


def counted_time(
    ledger: Ledger, account: Callable[[], Account], rest: Rest, on_end: Callable[[BudgetExceeded], None]
) -> AbstractAsyncContextManager[None]:
    """Count the time while this is open, but for rests. What the block raises comes out as it is, and not in a group.

    Args:
        account: who pays, asked for each slice of it.
        on_end: called when a cap leaves no more.

    Raises:
        StoreError: time cannot be recorded any more; the block was cancelled.

    """
    return recorded_beside(partial(_count, ledger, account, rest, on_end))


async def _count(
    ledger: Ledger, account: Callable[[], Account], rest: Rest, on_end: Callable[[BudgetExceeded], None]
) -> None:
    while True:
        await rest.wait_until(False)
        async with ledger.clock(account, on_end):
            await rest.wait_until(True)
