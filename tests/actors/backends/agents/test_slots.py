"""How programs wait for each other."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from skill_actors.backends.agents.slots import Slot, Slots
from support import run_virtual


def test_slots_are_given_in_order_and_a_waiter_that_gives_up_takes_none() -> None:
    async def main() -> None:
        slots = Slots(1)
        order: list[int] = []
        scope = trio.CancelScope()

        async def work(number: int, around: trio.CancelScope | None = None) -> None:
            with around or trio.CancelScope():
                async with slots.slot():
                    order.append(number)
                    await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(work, number, scope if number == 1 else None)
                await wait_all_tasks_blocked()
            assert slots.waiting == 3
            scope.cancel()
        assert order == [0, 2, 3]
        assert slots.waiting == 0

    run_virtual(main)


def test_the_one_that_has_been_idle_longest_makes_room_and_only_one_for_each_that_waits() -> None:
    async def main() -> None:
        slots = Slots(3)
        held: list[Slot] = []

        async def hold() -> None:
            async with slots.slot() as slot:
                held.append(slot)
                await slot.over(math.inf)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(hold)
            await wait_all_tasks_blocked()
            first, second, third = held
            second.idle()
            first.idle()
            assert not second.wanted
            async with slots.slot():
                assert (second.wanted, first.wanted, third.wanted) == (True, False, False)
                assert not second.busy()
                assert first.busy()
            nursery.cancel_scope.cancel()

    run_virtual(main)


def test_who_waits_is_served_when_a_busy_one_becomes_idle() -> None:
    async def main() -> None:
        slots = Slots(1)
        done = trio.Event()

        async def wait() -> None:
            async with slots.slot():
                done.set()

        async with trio.open_nursery() as nursery:
            async with slots.slot() as slot:
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                assert not slot.wanted
                slot.idle()
                await slot.over(math.inf)
            await done.wait()

    run_virtual(main)


def test_what_is_idle_for_long_is_ended_by_and_by() -> None:
    async def main() -> None:
        slots = Slots(3)
        ended: dict[Slot, float] = {}

        async def keep(slot: Slot) -> None:
            await slot.over(60.0)
            ended[slot] = trio.current_time()
            slot.free()

        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            first, second, again = [await slots.take() for _ in range(3)]
            for slot in (first, second, again):
                nursery.start_soon(keep, slot)
            first.idle()
            again.idle()
            await trio.sleep(40)
            second.idle()
            assert again.busy()
            await trio.sleep(100)
            assert ended == {first: pytest.approx(began + 60), second: pytest.approx(began + 100)}
            assert (first.busy(), slots.held) == (False, 1)
            again.idle()
            await trio.sleep(61)
            assert slots.held == 0

    run_virtual(main)


def test_one_that_is_ended_by_its_owner_makes_room_so_that_no_other_is_asked_to() -> None:
    async def main() -> None:
        slots = Slots(2)
        first, second = await slots.take(), await slots.take()
        second.idle()
        first.end()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slots.take)
            await wait_all_tasks_blocked()
            assert (slots.waiting, second.wanted) == (1, False)
            first.free()
            await wait_all_tasks_blocked()
            assert (slots.waiting, slots.held) == (0, 2)
            first.end()  # once more, when nothing of it is left: it makes no room for the next
            first.free()
            nursery.start_soon(slots.take)
            await wait_all_tasks_blocked()
            assert second.wanted
            second.free()
            assert slots.held == 2

    run_virtual(main)


def test_there_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Slots(0)
