"""TrioFuture: pykka's contract, awaitable."""

from __future__ import annotations

import queue
import threading

import pykka
import pytest
import trio

from skill_actors.runtime import BlockingInTrioThread, TrioFuture
from support import run, run_virtual


def test_awaiting_gives_the_value_set_before_or_after() -> None:
    async def main() -> None:
        early: TrioFuture[int] = TrioFuture()
        early.set(1)
        assert await early == 1
        assert await early == 1
        late: TrioFuture[int] = TrioFuture()
        async with trio.open_nursery() as nursery:

            async def setter() -> None:
                await trio.sleep(1)
                late.set(2)

            nursery.start_soon(setter)
            assert await late == 2

    run_virtual(main)


def test_an_exception_is_raised_in_the_waiter() -> None:
    async def main() -> None:
        future: TrioFuture[int] = TrioFuture()
        try:
            raise KeyError("gone")
        except KeyError:
            future.set_exception()
        with pytest.raises(KeyError, match="gone"):
            await future
        with pytest.raises(KeyError, match="gone"):
            future.get()

    run_virtual(main)


def test_a_second_answer_is_refused_as_pykka_does() -> None:
    future: TrioFuture[int] = TrioFuture()
    future.set(1)
    with pytest.raises(queue.Full):
        future.set(2)
    with pytest.raises(queue.Full):
        future.set_exception((KeyError, KeyError(), None))
    with pytest.raises(queue.Full):
        future.set_get_hook(lambda timeout: 3)
    future.fail(KeyError("ignored"))
    assert future.get() == 1


def test_a_cancelled_waiter_abandons_the_future() -> None:
    async def main() -> None:
        future: TrioFuture[int] = TrioFuture()
        told: list[bool] = []
        future.on_abandon = lambda: told.append(future.abandoned)
        with trio.move_on_after(1):
            await future
        assert future.abandoned
        assert told == [True]
        future.set(1)  # nobody minds a late answer

    run_virtual(main)


def test_a_second_waiter_at_the_same_time_is_an_error() -> None:
    async def main() -> None:
        future: TrioFuture[int] = TrioFuture()

        async def waiter() -> None:
            assert await future == 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiter)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="another task"):
                await future
            future.set(1)

    run_virtual(main)


def test_a_blocking_get_on_the_trio_thread_is_refused_and_withdraws_the_question() -> None:
    async def main() -> None:
        future: TrioFuture[int] = TrioFuture()
        with pytest.raises(BlockingInTrioThread, match="await the future"):
            future.get()
        assert future.abandoned

    run_virtual(main)


def test_a_thread_gets_the_answer_or_a_timeout() -> None:
    async def main() -> None:
        future: TrioFuture[str] = TrioFuture()
        timed_out = trio.Event()

        def read() -> str:
            with pytest.raises(pykka.Timeout):
                future.get(timeout=0.01)
            trio.from_thread.run_sync(timed_out.set)
            return future.get(timeout=20)

        async with trio.open_nursery() as nursery:

            async def setter() -> None:
                await timed_out.wait()
                await trio.sleep(0.05)
                future.set("answer")

            nursery.start_soon(setter)
            assert await trio.to_thread.run_sync(read) == "answer"

    run(main)


def test_a_thread_sets_what_a_task_awaits() -> None:
    async def main() -> None:
        for number in range(200):
            future: TrioFuture[int] = TrioFuture()
            thread = threading.Thread(target=future.set, args=(number,))
            thread.start()
            assert await future == number
            thread.join()

    run(main)


def test_pykkas_combinators_are_awaitable() -> None:
    async def main() -> None:
        one: TrioFuture[int] = TrioFuture()
        two: TrioFuture[int] = TrioFuture()
        async with trio.open_nursery() as nursery:

            async def setter() -> None:
                await trio.sleep(0.01)
                one.set(1)
                two.set(2)

            nursery.start_soon(setter)
            assert await one.map(lambda value: value + 1) == 2
            assert await one.join(two) == [1, 2]
        assert await one.join(two).reduce(lambda total, value: total + value) == 3

    run(main)
