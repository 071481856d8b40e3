"""Who gets the next slot: no user waits for another user's whole queue."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.sessions.slots import FairOrder, TurnSlots
from support import run_virtual


def drain(order: FairOrder[str], running: list[int]) -> list[str]:
    """Give one slot from turn to turn until nobody waits; tickets begin with the digit of their owner."""
    served = []
    for owner in running:
        order.end(owner)
    while (ticket := order.next()) is not None:
        served.append(ticket)
        order.end(int(ticket[0]))
    return served


def test_owners_take_turns_and_each_ones_conversations_keep_their_order() -> None:
    order: FairOrder[str] = FairOrder()
    order.begin(1)
    for ticket in ("1a", "1b", "1c", "1d", "2a", "2b", "3a"):
        order.join(int(ticket[0]), ticket)
    assert drain(order, [1]) == ["1a", "2a", "3a", "1b", "2b", "1c", "1d"]


def test_the_owner_with_the_fewest_running_turns_is_next() -> None:
    order: FairOrder[str] = FairOrder()
    for _ in range(3):
        order.begin(1)
    order.join(1, "1a")
    order.join(2, "2a")
    order.join(2, "2b")
    order.join(2, "2c")
    order.end(1)
    assert [order.next() for _ in range(2)] == ["2a", "2b"]  # 2 against 0, then 2 against 1
    assert order.next() == "1a"  # 2 against 2: it has been in line for longer


def test_who_comes_back_at_once_does_not_overtake_who_waits() -> None:
    order: FairOrder[str] = FairOrder()
    order.join(1, "1a")
    order.join(2, "2a")
    order.join(3, "3a")
    served = []
    for _ in range(9):  # 2 and 3 join anew whenever they were served, 1 has a long queue
        ticket = order.next()
        assert ticket is not None
        order.end(int(ticket[0]))
        order.join(int(ticket[0]), ticket)
        served.append(ticket)
    assert served == ["1a", "2a", "3a"] * 3


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), max_size=12))
def test_while_all_wait_nobody_is_served_twice_more_than_another(queues: list[tuple[int, int]]) -> None:
    order: FairOrder[str] = FairOrder()
    left: dict[int, int] = {}
    for owner, count in queues:
        left[owner] = left.get(owner, 0) + count
        for _ in range(count):
            order.join(owner, f"{owner}")
    served = dict.fromkeys(left, 0)
    while all(left.values()) and left:
        ticket = order.next()
        assert ticket is not None
        order.end(int(ticket))
        served[int(ticket)] += 1
        left[int(ticket)] -= 1
        assert max(served.values()) - min(served.values()) <= 1


def test_one_users_flood_delays_another_user_by_one_turn() -> None:
    async def main() -> None:
        slots, log = TurnSlots(2), []

        async def turn(owner: int) -> None:
            async with slots.taken(owner):
                await trio.sleep(10)
                log.append((owner, trio.current_time() - began))

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(turn, 1)
            await trio.sleep(1)
            assert (slots.running, slots.waiting) == (2, 18)
            nursery.start_soon(turn, 2)
        assert (2, 20.0) in log
        assert (slots.running, slots.waiting) == (0, 0)

    run_virtual(main)


def test_a_cancelled_wait_loses_no_slot_however_late_it_comes() -> None:
    async def main() -> None:
        slots = TurnSlots(1)
        for late in (False, True):
            holding, waiting = trio.Event(), trio.CancelScope()

            async def hold(holding: trio.Event = holding) -> None:
                async with slots.taken(1):
                    await holding.wait()

            async def wait(scope: trio.CancelScope = waiting) -> None:
                with scope:
                    async with slots.taken(2):
                        await trio.sleep_forever()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(hold)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                if late:
                    holding.set()
                    await trio.testing.wait_all_tasks_blocked()  # it has the slot by now
                waiting.cancel()
                holding.set()
            assert (slots.running, slots.waiting) == (0, 0)

    run_virtual(main)


def test_no_slot_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="0 slots"):
        TurnSlots(0)
