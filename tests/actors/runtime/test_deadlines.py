"""Timeouts of calls, and the one task that keeps them."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from skill_actors.runtime import Ask, ChildSpec, Timeout, TrioActor, TrioActorRef, TrioFuture, open_system
from skill_actors.runtime.deadlines import MAX_ROWS, Deadlines
from skill_actors.runtime.future import Expired
from support import run, run_virtual


@dataclass(frozen=True, slots=True)
class Nap(Ask[str]):
    seconds: float


class Sleeper(TrioActor):
    mailbox_capacity = 2

    def __init__(self) -> None:
        super().__init__()
        self.handled: list[float] = []

    async def on_receive(self, message: Nap) -> str:
        self.handled.append(message.seconds)
        await trio.sleep(message.seconds)
        return "awake"


class Aloof(TrioActor):
    """Never started, so that nothing answers."""


async def expiring(deadlines: Deadlines, timeout_s: float, log: list[tuple[float, float]]) -> None:
    future = TrioFuture[None]()
    row = deadlines.add(future, timeout_s)
    assert row is not None
    with pytest.raises(Expired):
        await future
    assert future.abandoned
    log.append((timeout_s, trio.current_time()))


def test_each_future_expires_at_its_own_moment_also_when_an_earlier_one_comes_later() -> None:
    async def main() -> None:
        deadlines, log = Deadlines(), list[tuple[float, float]]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deadlines.run)
            async with trio.open_nursery() as waiting:
                for timeout_s in (9.0, 5.0, 7.0):
                    waiting.start_soon(expiring, deadlines, timeout_s, log)
                await trio.sleep(1)
                waiting.start_soon(expiring, deadlines, 2.5, log)
                waiting.start_soon(expiring, deadlines, 5.0, log)
            deadlines.stop()
        assert log == [(2.5, 3.5), (5.0, 5.0), (5.0, 6.0), (7.0, 7.0), (9.0, 9.0)]
        assert len(deadlines) == 0

    run_virtual(main)


def test_what_is_added_before_the_task_runs_expires_too() -> None:
    async def main() -> None:
        deadlines, log = Deadlines(), list[tuple[float, float]]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expiring, deadlines, 1.0, log)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(deadlines.run)
            await trio.sleep(2)
            deadlines.stop()
        assert log == [(1.0, 1.0)]

    run_virtual(main)


def test_an_answer_that_has_come_is_not_taken_back() -> None:
    async def main() -> None:
        future, got = TrioFuture[int](), list[int]()

        async def wait() -> None:
            got.append(await future)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            future.set(3)
            future.expire()
        assert got == [3]
        assert not future.abandoned

    run_virtual(main)


def test_the_task_outlives_a_cancelled_neighbourhood_until_it_is_stopped() -> None:
    async def main() -> None:
        deadlines, log = Deadlines(), list[tuple[float, float]]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deadlines.run)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await expiring(deadlines, 1.0, log)
            deadlines.stop()
        assert log == [(1.0, 1.0)]

    run_virtual(main)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_timeout_that_is_not_positive_is_left_to_the_caller(timeout_s: float) -> None:
    deadlines = Deadlines()
    assert deadlines.add(TrioFuture[None](), timeout_s) is None
    assert len(deadlines) == 0


def test_ever_new_timeouts_keep_nothing_once_answered_and_pending_ones_are_bounded() -> None:
    async def main() -> None:
        deadlines = Deadlines()
        for number in range(10 * MAX_ROWS):
            future = TrioFuture[None]()
            row = deadlines.add(future, 1.0 + number)
            assert row is not None
            del row[future]
        assert len(deadlines._rows) <= MAX_ROWS
        added = [deadlines.add(TrioFuture[None](), 1000.0 + number) for number in range(2 * MAX_ROWS)]
        assert sum(row is not None for row in added) == MAX_ROWS
        assert len(deadlines) == MAX_ROWS

    run_virtual(main)


async def times_out(ref: TrioActorRef[Any], seconds: float, timeout: float) -> None:
    begin = trio.current_time()
    with pytest.raises(Timeout, match=f"Sleeper did not answer Nap in {timeout} s"):
        await ref.call(Nap(seconds), timeout=timeout)
    assert trio.current_time() - begin == pytest.approx(timeout)


def test_calls_time_out_at_their_moment_whatever_way_it_is_kept() -> None:
    async def main() -> None:
        async with open_system([ChildSpec(id="s", factory=Sleeper, name="s")]) as system:
            ref = system.directory.ref("s")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(times_out, ref, 1000, 3.0)
                await trio.testing.wait_all_tasks_blocked()
                for number in range(2):
                    nursery.start_soon(times_out, ref, number, 2.5)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(times_out, ref, 9, 2.0)  # no room: it waits in a scope of its own
            assert system.tally.snapshot()["ask_timeouts"] == {"Sleeper": 4}
            assert len(system._deadlines) == 0

    run_virtual(main)


def test_more_different_timeouts_than_there_are_rows_are_all_exact() -> None:
    class Roomy(Sleeper):
        mailbox_capacity = 1000

    Roomy.__name__ = "Sleeper"

    async def main() -> None:
        async with open_system([ChildSpec(id="s", factory=Roomy, name="s")]) as system:
            ref = system.directory.ref("s")
            ref.tell(Nap(1000))
            async with trio.open_nursery() as nursery:
                for number in range(2 * MAX_ROWS):
                    nursery.start_soon(times_out, ref, 0, 1.0 + number / 100)

    run_virtual(main)


def test_a_call_without_time_is_withdrawn_and_a_negative_one_refused() -> None:
    async def main() -> None:
        async with open_system([ChildSpec(id="s", factory=Sleeper, name="s")]) as system:
            ref = system.directory.ref("s")
            actor = ref._actor_weakref()
            assert isinstance(actor, Sleeper)
            ref.tell(Nap(1))
            with pytest.raises(Timeout):
                await ref.call(Nap(2), timeout=0)
            for timeout in (-1.0, float("nan")):
                with pytest.raises(ValueError, match="a timeout is 0 or more seconds"):
                    await ref.call(Nap(3), timeout=timeout)
            assert await ref.call(Nap(4), timeout=float("inf")) == "awake"
            assert actor.handled == [1, 4]

    run_virtual(main)


def test_a_call_to_an_actor_that_was_never_started_times_out() -> None:
    async def main() -> None:
        begin = trio.current_time()
        with pytest.raises(Timeout, match="Aloof did not answer Nap in 2"):
            await Aloof().actor_ref.call(Nap(1), timeout=2)
        assert trio.current_time() - begin == pytest.approx(2)

    run_virtual(main)


def test_nothing_of_an_answered_or_expired_call_is_kept() -> None:
    async def main() -> None:
        async with open_system([ChildSpec(id="s", factory=Sleeper, name="s")]) as system:
            ref = system.directory.ref("s")
            await ref.call(Nap(0))
            seen = await refused(ref)
            assert len(system._deadlines) == 0
            gc.collect()
            assert seen() is None

    async def refused(ref: TrioActorRef[Any]) -> weakref.ref[BaseException]:
        try:
            await ref.call(Nap(10), timeout=1)
        except Timeout as error:
            return weakref.ref(error)
        pytest.fail("no timeout")

    run_virtual(main)


def test_a_cancelled_caller_is_counted_as_abandoned_and_not_as_timed_out() -> None:
    async def main() -> None:
        async with open_system([ChildSpec(id="s", factory=Sleeper, name="s")]) as system:
            ref = system.directory.ref("s")
            for timeout in (5.0, None):
                with trio.move_on_after(1):
                    await ref.call(Nap(2), timeout=timeout)
                await trio.sleep(2)
            counts = system.tally.snapshot()
            assert (counts["ask_abandoned"], counts["ask_timeouts"]) == ({"Sleeper": 2}, {})
            assert len(system._deadlines) == 0

    run_virtual(main)


def test_calls_made_while_the_tree_ends_time_out_too() -> None:
    class Parting(TrioActor):
        async def teardown(self, _reason: Any) -> None:
            ref = self.directory.ref("s")
            with pytest.raises(Timeout):
                await ref.call(Nap(1000), timeout=2.0)
            times.append(trio.current_time())

    times: list[float] = []

    async def main() -> None:
        specs = [ChildSpec(id="s", factory=Sleeper, name="s"), ChildSpec(id="p", factory=Parting)]
        with trio.CancelScope() as scope:
            async with open_system(specs):
                scope.cancel()
        assert times == [2.0]

    run_virtual(main)


def test_a_timeout_is_kept_on_the_real_clock() -> None:
    async def main() -> None:
        async with open_system([ChildSpec(id="s", factory=Sleeper, name="s")]) as system:
            begin = trio.current_time()
            with pytest.raises(Timeout):
                await system.directory.ref("s").call(Nap(20), timeout=0.02)
            assert 0.02 <= trio.current_time() - begin < 5

    run(main)
