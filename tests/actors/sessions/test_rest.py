"""A turn that waits for people: its time stands still, its slot is lent, and it has exactly one at its end."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio
import trio.testing

from skill_actors.sessions.rest import Rest
from skill_actors.sessions.slots import TurnSlots
from support import run_virtual


def test_the_time_stands_still_while_everything_waits() -> None:
    async def main() -> None:
        slots = TurnSlots(1)
        async with slots.taken(1):
            with trio.move_on_after(10) as scope:
                rest = Rest(scope, slots, 1)
                with rest.working():
                    await trio.sleep(4)
                    async with rest.waiting():
                        assert rest.resting
                        assert slots.running == 0
                        await trio.sleep(1000)
                    assert not rest.resting
                    assert slots.running == 1
                    assert scope.deadline == trio.current_time() + 6
                    await trio.sleep(100)
            assert scope.cancelled_caught
            assert slots.running == 1
        assert slots.running == 0

    run_virtual(main)


def test_what_runs_beside_keeps_the_clock_going_until_it_waits_as_well() -> None:
    async def main() -> None:
        slots = TurnSlots(1)
        async with slots.taken(1):
            with trio.move_on_after(10) as scope:
                rest = Rest(scope, slots, 1)

                async def asked() -> None:
                    with rest.working():
                        async with rest.waiting():
                            await trio.sleep(50)

                async with trio.open_nursery() as nursery:
                    with rest.working():
                        nursery.start_soon(asked)
                        await trio.sleep(3)
                        assert not rest.resting
                    assert rest.resting  # only the one that waits is left
                assert scope.deadline == trio.current_time() + 7
            assert slots.running == 1

    run_virtual(main)


def test_it_goes_on_only_with_a_slot() -> None:
    async def main() -> None:
        slots = TurnSlots(1)
        order: list[str] = []

        async def other() -> None:
            async with slots.taken(2):
                order.append("other begins")
                await trio.sleep(5)
                order.append("other ends")

        async with slots.taken(1), trio.open_nursery() as nursery:
            rest = Rest(trio.CancelScope(), slots, 1)
            with rest.working():
                nursery.start_soon(other)
                async with rest.waiting():
                    await trio.sleep(1)
                    order.append("approved")
                order.append("goes on")
        assert order == ["other begins", "approved", "other ends", "goes on"]
        assert slots.running == 0

    run_virtual(main)


@pytest.mark.parametrize("waiters", [1, 2, 5])
@pytest.mark.parametrize("when", [0.5, 1.5])
def test_a_cancelled_turn_gives_back_exactly_one_slot(waiters: int, when: float) -> None:
    async def main() -> None:
        slots = TurnSlots(1)

        async def other() -> None:
            async with slots.taken(2):
                await trio.sleep(100)

        async with trio.open_nursery() as nursery:

            async def turn() -> None:
                async with slots.taken(1):
                    with trio.CancelScope(deadline=math.inf) as scope:
                        rest = Rest(scope, slots, 1)

                        async def asked(after: float) -> None:
                            with rest.working():
                                async with rest.waiting():
                                    await trio.sleep(after)

                        async with trio.open_nursery() as calls:
                            nursery.start_soon(_after, when, scope.cancel)
                            for number in range(waiters):
                                calls.start_soon(asked, 1 + number / 10)
                    assert scope.cancelled_caught

            nursery.start_soon(turn)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(other)
        assert slots.running == 0
        assert slots.waiting == 0

    run_virtual(main)


def test_of_one_that_goes_on_working_and_one_that_comes_back_the_turn_holds_one_slot() -> None:
    """The first is cancelled in its wait and works on, which takes a slot, while the other waits for one."""

    async def main() -> None:
        slots = TurnSlots(2)

        async def other() -> None:
            async with slots.taken(2):
                await trio.sleep(5)

        async with trio.open_nursery() as nursery:
            async with slots.taken(1):
                rest = Rest(trio.CancelScope(), slots, 1)

                async def asked(wait_s: float, patience_s: float) -> None:
                    with rest.working():
                        with trio.move_on_after(patience_s):
                            async with rest.waiting():
                                await trio.sleep(wait_s)
                        await trio.sleep(10)

                async with trio.open_nursery() as calls:
                    calls.start_soon(asked, 1, 100)
                    calls.start_soon(asked, 100, 2)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(other)
                    nursery.start_soon(other)
                    await trio.sleep(6)
                    assert slots.running == 1
            assert slots.running == 0

    run_virtual(main)


async def _after(seconds: float, do: Callable[[], object]) -> None:
    await trio.sleep(seconds)
    do()
