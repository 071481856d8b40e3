"""One actor: messages, answers, crashes, interruption."""

from __future__ import annotations

import gc
import time
import weakref
from collections import Counter
from typing import Any

import pytest
import trio
import trio.lowlevel

from actor_kit import Add, Fail, Nap, Query, Worker, spawner, worker
from runtime_kit import settle
from skill_actors.runtime import (
    ActorDeadError,
    BlockingInTrioThread,
    ChildSpec,
    ExitKind,
    HandlerInterrupted,
    MailboxFull,
    Overflow,
    Reject,
    Timeout,
    TrioActor,
    TrioActorRef,
    open_system,
)
from support import run, run_virtual


def test_a_call_is_answered_by_sync_and_async_handlers() -> None:
    async def main() -> None:
        async with worker() as (_, ref):
            assert await ref.call(Add(2)) == 2
            assert await ref.call(Add(3)) == 5
            assert await ref.call(Nap(1, "a")) == "a"

    run_virtual(main)


def test_messages_of_one_sender_are_handled_in_order() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):
            for number in range(100):
                await ref.send(str(number))
            await ref.call(Add(0))
            assert actor.log == [str(number) for number in range(100)]

    run_virtual(main)


def test_tell_to_a_full_mailbox_raises_and_send_waits() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):
            ref.tell(Nap(10, "busy"))
            await settle()
            for number in range(4):
                ref.tell(str(number))
            with pytest.raises(MailboxFull):
                ref.tell("too many")
            await ref.send("waited")
            assert trio.current_time() >= 10
            await ref.call(Add(0))
            assert actor.log == ["done busy", "0", "1", "2", "3", "waited"]

    run_virtual(main)


def test_an_exception_reaches_the_asker_and_crashes_the_actor() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):
            with pytest.raises(KeyError, match="boom"):
                await ref.call(Fail(KeyError("boom")))
            reason = await ref.wait_stopped()
            assert reason.kind is ExitKind.CRASH
            assert reason.abnormal
            assert isinstance(reason.error, KeyError)
            assert actor.log == ["on_failure 'boom' True", "teardown crash"]
            assert not ref.is_alive()
            with pytest.raises(ActorDeadError):
                await ref.call(Add(1))
            with pytest.raises(ActorDeadError):
                ref.tell("late")

    run_virtual(main)


def test_a_crash_answers_every_queued_ask() -> None:
    async def main() -> None:
        async with worker() as (_, ref):
            futures = [ref.ask(Fail(ValueError("x")), block=False)]
            futures += [ref.ask(Add(1), block=False) for _ in range(3)]
            with pytest.raises(ValueError, match="x"):
                await futures[0]
            for future in futures[1:]:
                with pytest.raises(ActorDeadError):
                    await future

    run_virtual(main)


def test_a_reject_answers_and_the_actor_lives() -> None:
    async def main() -> None:
        async with worker() as (_, ref):
            with pytest.raises(Reject, match="not today"):
                await ref.call(Fail(Reject("not today")))
            ref.tell(Fail(Reject("nobody asked")))
            assert await ref.call(Add(1)) == 1

    run_virtual(main)


def test_a_group_raised_by_a_handlers_own_nursery_crashes_the_actor() -> None:
    class Parallel(TrioActor):
        async def on_receive(self, message: Any) -> Any:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 100)
                nursery.start_soon(self.fail)

        async def fail(self) -> None:
            await trio.sleep(1)
            raise ValueError("tool")

    async def main() -> None:
        async with spawner() as dynamic:
            ref = await dynamic.spawn(Parallel, id="p")
            ref.tell("go")
            reason = await ref.wait_stopped()
            assert isinstance(reason.error, ExceptionGroup)
            assert trio.current_time() < 50

    run_virtual(main)


def test_a_cancelled_ask_that_is_queued_is_never_executed() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):
            ref.tell(Nap(10, "busy"))
            with pytest.raises(Timeout, match="Worker did not answer Add in 2 s"):
                await ref.call(Add(1), timeout=2)
            assert await ref.call(Add(0), timeout=None) == 0
            assert actor.log == ["done busy"]

    run_virtual(main)


def test_a_running_handler_is_cancelled_with_its_caller_only_if_its_message_says_so() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):
            with pytest.raises(Timeout):
                await ref.call(Query(10), timeout=1)
            assert await ref.call(Add(1)) == 1
            assert actor.log == ["cancelled "]
            assert trio.current_time() < 2
            with pytest.raises(Timeout):
                await ref.call(Nap(10, "nap"), timeout=1)
            assert await ref.call(Add(1), timeout=None) == 2
            assert actor.log == ["cancelled ", "done nap"]

    run_virtual(main)


def test_interrupt_cancels_the_running_handler_and_the_next_message_is_served() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):
            assert not ref.interrupt()
            outcome: list[str] = []

            async def ask() -> None:
                with pytest.raises(HandlerInterrupted, match="Worker was interrupted while it handled Nap"):
                    await ref.call(Nap(100, "a"), timeout=None)
                outcome.append("interrupted")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await settle()
                ref.tell(Nap(1, "b"))
                assert not ref.interrupt(lambda message: message.name == "b")
                assert ref.interrupt(lambda message: message.name == "a")
            assert await ref.call(Add(1)) == 1
            assert actor.log == ["cancelled a", "done b"]
            assert outcome == ["interrupted"]
            assert ref.is_alive()

    run_virtual(main)


def test_an_interrupt_does_not_hit_the_next_message() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):
            ref.tell(Nap(1, "a"))
            await settle()
            assert ref.interrupt()
            assert ref.interrupt()  # the same handler, still unwinding
            ref.tell(Nap(1, "b"))
            await trio.sleep(2)
            assert actor.log == ["cancelled a", "done b"]

    run_virtual(main)


def test_a_blocking_ask_on_the_trio_thread_is_refused_and_not_executed() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):
            with pytest.raises(BlockingInTrioThread):
                ref.ask(Add(1))
            with pytest.raises(BlockingInTrioThread):
                ref.stop()
            assert await ref.call(Add(0)) == 0
            assert actor.total == 0

    run_virtual(main)


def test_threads_ask_and_use_proxies() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):

            def from_thread() -> None:
                assert ref.ask(Add(5), timeout=20) == 5
                proxy = ref.proxy()
                assert proxy.total.get(timeout=20) == 5
                assert proxy.double(4).get(timeout=20) == 8
                proxy.total = 7
                ref.tell("told")
                with pytest.raises(ZeroDivisionError):
                    ref.ask(Fail(ZeroDivisionError()), timeout=20)

            await trio.to_thread.run_sync(from_thread)
            assert actor.total == 7
            await ref.wait_stopped()
            assert "told" in actor.log

            def after_death() -> None:
                with pytest.raises(ActorDeadError):
                    ref.ask(Add(1), timeout=20)

            await trio.to_thread.run_sync(after_death)

    run(main)


def test_a_proxy_of_async_methods_is_awaitable() -> None:
    async def main() -> None:
        async with worker() as (_, ref):
            proxy = ref.proxy()
            assert await proxy.double(21) == 42
            assert await proxy.total == 0

    run_virtual(main)


def test_a_busy_actor_lets_others_run() -> None:
    class Busy(TrioActor):
        def on_receive(self, message: Any) -> None:
            self.actor_ref.tell(message)

    async def main() -> None:
        async with spawner() as dynamic:
            ref = await dynamic.spawn(Busy, id="b")
            ref.tell("for ever")
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            assert ref.is_alive()

    run(main)


@pytest.mark.parametrize(("messages", "seconds", "expected"), [(3, 10.0, 3), (1000, 0.0, 1)])
def test_a_slice_ends_after_so_many_messages_or_so_much_time(messages: int, seconds: float, expected: int) -> None:
    class Sliced(TrioActor):
        slice_messages = messages
        slice_s = seconds

        def on_receive(self, message: Any) -> None:
            handled[steps.number] += 1

    class Steps(trio.abc.Instrument):
        number = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.number += 1

    steps, handled = Steps(), Counter[int]()

    async def main() -> None:
        async with spawner() as dynamic:
            ref = await dynamic.spawn(Sliced, id="s")
            trio.lowlevel.add_instrument(steps)
            for number in range(9):
                ref.tell(number)
            await settle()

    run(main)
    assert list(handled.values()) == [expected] * (9 // expected)


def test_an_actor_may_drop_messages_instead_of_refusing_them() -> None:
    class Dropping(Worker):
        mailbox_capacity = 2
        overflow = Overflow.DROP_OLDEST

    async def main() -> None:
        async with open_system([ChildSpec(id="f", factory=Dropping, name="f")]) as system:
            ref = system.directory.ref("f")
            actor = ref._actor_weakref()
            assert isinstance(actor, Dropping)
            ref.tell(Nap(1, "busy"))
            await settle()
            begin = trio.current_time()
            dropped = ref.ask("asked", block=False)
            for number in range(5):
                await ref.send(str(number))
            with pytest.raises(MailboxFull, match="was dropped"):
                await dropped
            assert trio.current_time() == begin
            assert await ref.call(Add(1)) == 1
            assert actor.log == ["done busy", "4"]
            assert system.tally.snapshot()["mailbox_dropped"] == {"Dropping": 5}

    run_virtual(main)


def test_a_dropped_call_is_answered_at_once() -> None:
    class Dropping(Worker):
        mailbox_capacity = 1
        overflow = Overflow.DROP_NEW

    async def main() -> None:
        async with spawner() as dynamic:
            ref = await dynamic.spawn(Dropping, id="f")
            ref.tell(Nap(1, "busy"))
            await settle()
            ref.tell("queued")
            begin = trio.current_time()
            for timeout in (5.0, None):
                with pytest.raises(MailboxFull):
                    await ref.call(Add(1), timeout=timeout)
            assert trio.current_time() == begin

    run_virtual(main)


def test_the_age_of_the_oldest_message_is_known_while_there_is_one() -> None:
    class Clocked(Worker):
        def on_receive(self, message: Any) -> Any:
            if message == "look":
                self.log.append(str(self.actor_ref.oldest_message_s() >= 0 and self._cell.progress_at > 0))
                return None
            if isinstance(message, trio.Event):
                return message.wait()
            return super().on_receive(message)

    async def main() -> None:
        async with spawner() as dynamic:
            actor, gate = Clocked(), trio.Event()
            ref = await dynamic.spawn(actor, id="c")
            assert (ref.oldest_message_s(), ref.depth) == (0.0, 0)
            began = time.perf_counter()
            ref.tell(gate)
            ref.tell("look")
            while ref.depth == 2:
                await trio.lowlevel.checkpoint()
            await trio.sleep(0.02)
            assert ref.depth == 1
            assert 0.02 <= ref.oldest_message_s() <= time.perf_counter() - began
            gate.set()
            await ref.call(Add(1))
            await settle()
            assert actor.log == ["True"]
            assert (ref.oldest_message_s(), ref.depth) == (0.0, 0)
            ref.tell(Nap(100))
            await settle()
            assert ref.oldest_message_s() > 0
            await dynamic.terminate_child("c")
            assert ref.oldest_message_s() == 0.0

    run(main)


@pytest.mark.parametrize("waits", [False, True])
def test_a_failed_call_leaves_no_reference_cycle(waits: bool) -> None:
    class Picky(TrioActor):
        def on_receive(self, message: Any) -> Any:
            if waits:
                return self.think()
            raise Reject("no")

        async def think(self) -> None:
            await trio.lowlevel.checkpoint()
            raise Reject("no")

    async def main() -> None:
        async with spawner() as dynamic:
            ref = await dynamic.spawn(Picky, id="p")
            gc.collect()
            gc.disable()
            try:
                seen = await refused(ref)
                await settle()
                assert seen() is None
            finally:
                gc.enable()

    async def refused(ref: TrioActorRef[Picky]) -> weakref.ref[BaseException]:
        try:
            await ref.call(Add(1))
        except Reject as error:
            return weakref.ref(error)
        pytest.fail("not refused")

    run_virtual(main)


def test_many_callers_of_many_actors_get_their_own_answers() -> None:
    async def main() -> None:
        async with spawner() as dynamic:
            refs = [await dynamic.spawn(Worker, id=str(number)) for number in range(50)]
            answers: dict[int, int] = {}

            async def client(number: int) -> None:
                answers[number] = await refs[number % 50].call(Add(number))

            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(client, number)
            assert answers == {number: number for number in range(50)}

    run_virtual(main)
