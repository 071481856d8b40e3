"""Something that is recorded beside a block of code, for as long as that lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from skill_actors.store.base import StoreError

__all__ = ["recorded_beside"]


@asynccontextmanager
async def recorded_beside(record: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Have `record` run while this is open; it is cancelled at the end, and waited for.

    What the block raises comes out as it is, and not in a group, as a nursery would have it.

    Raises:
        StoreError: of `record`; the block was cancelled, since what it uses cannot be recorded any more.

    """
    raised: list[BaseException] = []
    faults: list[StoreError] = []

    async def recording(block: trio.CancelScope) -> None:
        try:
            await record()
        except StoreError as error:
            faults.append(error)
            block.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(recording, nursery.cancel_scope)
            try:
                yield
            except BaseException as error:
                raised.append(error)
            nursery.cancel_scope.cancel()
        if faults:
            raise faults[0]
        if raised:
            raise raised[0]
    finally:  # an error knows this frame: in a cycle with it would stay all that its traceback has passed through
        raised.clear()
        faults.clear()
