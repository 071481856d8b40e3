"""The lock of what mostly waits."""

from __future__ import annotations

import trio
import trio.testing

from skill_actors.sessions.resting_lock import RestingLock
from support import run_virtual


def test_one_at_a_time_has_it_in_the_order_of_asking_and_then_it_rests() -> None:
    lock = RestingLock()
    order: list[int] = []
    inside: list[int] = []

    async def use(number: int) -> None:
        async with lock:
            inside.append(number)
            await trio.sleep(1)
            assert inside == [number]
            inside.clear()
            order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(use, number)
                await trio.testing.wait_all_tasks_blocked()
        assert order == [0, 1, 2, 3, 4]
        assert lock._lock is None

    run_virtual(main)


def test_who_stops_waiting_or_fails_leaves_it_to_the_next() -> None:
    async def main() -> None:
        lock = RestingLock()
        async with trio.open_nursery() as nursery, lock:
            nursery.start_soon(lock.__aenter__)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        try:
            async with lock:
                raise KeyError("x")
        except KeyError:
            pass
        with trio.fail_after(1):
            async with lock:
                assert lock._lock is not None
        assert lock._lock is None

    run_virtual(main)
