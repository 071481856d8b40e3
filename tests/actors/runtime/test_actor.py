"""One actor: messages, answers, crashes, interruption, jobs."""

from __future__ import annotations

import contextvars
import gc
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pykka
import pytest
import trio
import trio.lowlevel

from skill_actors.runtime import (
    ActorDeadError,
    Ask,
    BlockingInTrioThread,
    ChildSpec,
    Down,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitKind,
    ExitReason,
    HandlerInterrupted,
    MailboxFull,
    Overflow,
    Reject,
    Restart,
    StartFailed,
    Timeout,
    TrioActor,
    TrioActorRef,
    open_system,
)
from support import run, run_virtual


@dataclass(frozen=True, slots=True)
class Add(Ask[int]):
    number: int


@dataclass(frozen=True, slots=True)
class Nap(Ask[str]):
    seconds: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Query(Ask[str]):
    seconds: float
    cancel_with_caller: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Fail(Ask[None]):
    error: Exception


class Worker(TrioActor):
    mailbox_capacity = 4

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.log: list[str] = []
        self.downs: list[Down] = []

    def on_receive(self, message: Any) -> Any:
        match message:
            case Add(number=number):
                self.total += number
                return self.total
            case Fail(error=error):
                raise error
            case Nap() | Query():
                return self.nap(message.seconds, getattr(message, "name", ""))
            case str():
                self.log.append(message)
            case _:
                return super().on_receive(message)

    async def nap(self, seconds: float, name: str = "") -> str:
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self.log.append(f"cancelled {name}")
            raise
        self.log.append(f"done {name}")
        return name

    async def double(self, number: int) -> int:
        await trio.lowlevel.checkpoint()
        return 2 * number

    def on_down(self, down: Down) -> None:
        self.downs.append(down)

    def on_stop(self) -> None:
        self.log.append("on_stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.log.append(f"on_failure {exception_value} {traceback is not None}")

    async def teardown(self, reason: ExitReason) -> None:
        await trio.lowlevel.checkpoint()
        self.log.append(f"teardown {reason.kind.value}")


Spawner = DynamicSupervisorRef[DynamicSupervisor]


@asynccontextmanager
async def spawner() -> AsyncIterator[Spawner]:
    """A dynamic supervisor to put actors under."""
    spec = ChildSpec(id="d", factory=lambda: DynamicSupervisor("worker", start_timeout_s=5, shutdown_s=5), name="d")
    async with open_system([spec]) as system:
        ref = system.directory.ref("d")
        assert isinstance(ref, DynamicSupervisorRef)
        yield ref


@asynccontextmanager
async def worker() -> AsyncIterator[tuple[Worker, TrioActorRef[Worker]]]:
    async with spawner() as dynamic:
        actor = Worker()
        yield actor, await dynamic.spawn(actor, id="w")


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


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


def test_a_stop_passes_a_full_mailbox_and_answers_everybody() -> None:
    async def main() -> None:
        async with spawner() as dynamic:
            actor = Worker()
            ref = await dynamic.spawn(actor, id="w")
            outcomes: list[type] = []

            async def ask(message: Ask[Any]) -> None:
                try:
                    await ref.call(message, timeout=None)
                except ActorDeadError:
                    outcomes.append(ActorDeadError)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, Nap(1000))
                await settle()
                for _ in range(7):  # four queued, three blocked senders
                    nursery.start_soon(ask, Add(1))
                await settle()
                await dynamic.terminate_child("w")
            assert outcomes == [ActorDeadError] * 8
            assert actor.total == 0
            assert actor.log == ["cancelled ", "on_stop", "teardown shutdown"]

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


def test_pykkas_stop_handles_earlier_messages_and_refuses_later_ones() -> None:
    async def main() -> None:
        async with worker() as (actor, ref):
            ref.tell("before")
            stopping = ref.stop(block=False)
            late = ref.ask(Add(1), block=False)
            assert await stopping is True
            with pytest.raises(ActorDeadError):
                await late
            assert actor.log == ["before", "on_stop", "teardown normal"]
            assert (await ref.wait_stopped()).kind is ExitKind.NORMAL
            assert await ref.stop(block=False) is False

    run(main)


def test_an_actor_can_stop_itself() -> None:
    class Once(TrioActor):
        def on_receive(self, message: Any) -> str:
            self.stop()
            return "bye"

    async def main() -> None:
        async with spawner() as dynamic:
            ref = await dynamic.spawn(Once, id="o")
            assert await ref.ask("go", block=False) == "bye"
            assert await ref.wait_stopped() == ExitReason(ExitKind.NORMAL)

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


def test_start_is_refused_outside_a_supervisor_and_leaves_no_trace() -> None:
    with pytest.raises(RuntimeError, match="give it to a supervisor"):
        Worker.start()
    assert pykka.ActorRegistry.get_by_class(Worker) == []


def test_setup_that_fails_or_takes_too_long_is_a_failed_start() -> None:
    class Slow(Worker):
        async def setup(self) -> None:
            await trio.sleep(100)

    class Broken(Worker):
        async def setup(self) -> None:
            raise OSError("no disk")

    async def main() -> None:
        async with spawner() as dynamic:
            with pytest.raises(StartFailed, match="was not set up within 5 s"):
                await dynamic.spawn(Slow, id="slow")
            assert trio.current_time() == pytest.approx(5)
            broken = Broken()
            with pytest.raises(StartFailed, match="no disk") as caught:
                await dynamic.spawn(broken, id="broken")
            assert isinstance(caught.value.__cause__, OSError)
            assert broken.log == []
            assert broken.actor_ref.exit_reason is not None
            assert broken.actor_ref.exit_reason.kind is ExitKind.INIT

    run_virtual(main)


def test_messages_sent_during_setup_are_handled_after_it() -> None:
    class Careful(Worker):
        async def setup(self) -> None:
            self.actor_ref.tell("early")
            await trio.sleep(1)
            self.log.append("setup")

    async def main() -> None:
        async with spawner() as dynamic:
            actor = Careful()
            ref = await dynamic.spawn(actor, id="c")
            await ref.call(Add(0))
            assert actor.log == ["setup", "early"]

    run_virtual(main)


def test_a_monitor_fires_once_with_the_reason_also_for_the_dead() -> None:
    async def main() -> None:
        async with spawner() as dynamic:
            watcher, watched = Worker(), Worker()
            await dynamic.spawn(watcher, id="watcher")
            ref = await dynamic.spawn(watched, id="watched")
            watcher.monitor(ref)
            taken_back = watcher.monitor(ref)
            assert watcher.demonitor(ref, taken_back)
            ref.tell(Fail(ValueError("x")))
            reason = await ref.wait_stopped()
            await settle()
            assert watcher.downs == [Down(ref, reason)]
            late = watcher.monitor(ref)
            assert not watcher.demonitor(ref, late)
            await settle()
            assert watcher.downs == [Down(ref, reason)] * 2

    run_virtual(main)


class Background(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.fail_with: Exception | None = None

    async def setup(self) -> None:
        self.spawn(self.tick, 1.0)

    async def tick(self, every_s: float) -> None:
        try:
            while self.fail_with is None:
                await trio.sleep(every_s)
                self.actor_ref.tell("tick")
            raise self.fail_with
        finally:
            self.log.append("job ended")


def test_a_job_lives_beside_the_messages_and_ends_before_the_stop_hooks() -> None:
    async def main() -> None:
        async with spawner() as dynamic:
            actor = Background()
            ref = await dynamic.spawn(actor, id="b")
            await trio.sleep(2.5)
            assert await ref.call(Add(1)) == 1
            await dynamic.terminate_child("b")
            assert actor.log == ["tick", "tick", "job ended", "on_stop", "teardown shutdown"]

    run_virtual(main)


def test_a_failing_job_crashes_its_actor_and_the_running_handler() -> None:
    async def main() -> None:
        async with spawner() as dynamic:
            actor = Background()
            ref = await dynamic.spawn(actor, id="b")
            actor.fail_with = ValueError("watcher broke")
            with pytest.raises(ActorDeadError):
                await ref.call(Nap(100), timeout=None)
            reason = await ref.wait_stopped()
            assert reason.kind is ExitKind.CRASH
            assert str(reason.error) == "watcher broke"
            assert "on_failure watcher broke True" in actor.log

    run_virtual(main)


def test_jobs_can_be_spawned_by_handlers_one_after_the_other() -> None:
    class Spawning(Worker):
        def on_receive(self, message: Any) -> Any:
            if isinstance(message, float):
                self.spawn(self.nap, message, str(message))
                return None
            return super().on_receive(message)

    async def main() -> None:
        async with spawner() as dynamic:
            actor = Spawning()
            ref = await dynamic.spawn(actor, id="s")
            for seconds in (3.0, 2.0, 1.0):
                ref.tell(seconds)
            await trio.sleep(5)
            assert await ref.call(Add(1)) == 1
            assert actor.log == ["done 1.0", "done 2.0", "done 3.0"]

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
            return super().on_receive(message)

    async def main() -> None:
        async with spawner() as dynamic:
            actor = Clocked()
            ref = await dynamic.spawn(actor, id="c")
            assert (ref.oldest_message_s(), ref.depth) == (0.0, 0)
            ref.tell(Nap(0.05))
            ref.tell("look")
            while ref.depth == 2:
                await trio.lowlevel.checkpoint()
            began = time.perf_counter()
            await trio.sleep(0.02)
            assert ref.depth == 1
            assert 0.02 <= ref.oldest_message_s() <= time.perf_counter() - began + 1
            await ref.call(Add(1))
            await settle()
            assert actor.log == ["done ", "True"]
            assert (ref.oldest_message_s(), ref.depth) == (0.0, 0)
            ref.tell(Nap(100))
            await settle()
            assert ref.oldest_message_s() > 0
            await dynamic.terminate_child("c")
            assert ref.oldest_message_s() == 0.0

    run(main)


def test_exceptions_keep_no_frames_after_the_report() -> None:
    class Big:
        """Something that must not be kept alive by a traceback."""

    class Holder(TrioActor):
        def on_receive(self, message: Any) -> Any:
            big = Big()
            held.append(weakref.ref(big))
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise ValueError("outer") from error

    held: list[weakref.ref[Big]] = []

    async def main() -> None:
        async with spawner() as dynamic:
            refs = []
            for number in range(2):
                ref = await dynamic.spawn(Holder, id=str(number))
                refs.append(ref)
                if number:
                    ref.tell("go")
                else:
                    with pytest.raises(ValueError, match="outer"):
                        await ref.ask("go", block=False)
                await ref.wait_stopped()
            gc.collect()
            assert [one() for one in held] == [None, None]
            for ref in refs:
                assert ref.exit_reason is not None
                assert ref.exit_reason.error is not None
                assert ref.exit_reason.error.__traceback__ is None
                assert ref._actor_weakref() is None

    run_virtual(main)


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


def test_children_do_not_inherit_the_context_of_whoever_spawns_them() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")

    class Looking(TrioActor):
        def on_receive(self, message: Any) -> str:
            return request.get()

    async def main() -> None:
        async with spawner() as dynamic:
            request.set("of the spawner")
            ref = await dynamic.spawn(Looking, id="l")
            assert await ref.ask("?", block=False) == "none"

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


def test_a_system_is_seen_by_its_actors_only_after_the_start() -> None:
    with pytest.raises(RuntimeError, match="not started yet"):
        _ = Worker().directory


def test_stop_hooks_run_after_a_failed_job_and_a_handler_that_fails_as_it_is_cancelled() -> None:
    seen: list[object] = []

    class Busy(TrioActor):
        async def setup(self) -> None:
            self.spawn(self.fail)

        async def fail(self) -> None:
            await trio.sleep(1)
            raise KeyError("job")

        async def on_receive(self, message: Any) -> None:
            async with trio.open_nursery() as nursery:  # raises a group of the failure and of cancellation
                nursery.start_soon(self.clean_badly)
                nursery.start_soon(trio.sleep_forever)

        async def clean_badly(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("cleaning")

        async def teardown(self, reason: ExitReason) -> None:
            seen.append(reason.kind)

    async def main() -> None:
        async with open_system([ChildSpec(id="b", factory=Busy, name="b", restart=Restart.TEMPORARY)]) as system:
            ref = system.directory.ref("b")
            ref.tell("work")
            reason = await ref.wait_stopped()
            assert (reason.kind, repr(reason.error)) == (ExitKind.CRASH, "KeyError('job')")
        assert seen == [ExitKind.CRASH]

    run_virtual(main)


def test_who_fails_when_told_of_an_end_is_alone_with_it(caplog: pytest.LogCaptureFixture) -> None:
    told: list[ExitKind] = []

    def fail(_: ExitReason) -> None:
        raise OSError("cannot be told")

    async def main() -> None:
        specs = [ChildSpec(id=name, factory=Worker, name=name, restart=Restart.TEMPORARY) for name in ("a", "b")]
        async with open_system(specs) as system:
            ref, other = system.directory.ref("a"), system.directory.ref("b")
            ref.when_stopped(fail)
            ref.when_stopped(lambda reason: told.append(reason.kind))
            ref.stop(block=False)
            await ref.wait_stopped()
            assert await other.call(Add(1)) == 1
        assert told == [ExitKind.NORMAL]
        assert "cannot be told" in caplog.text

    run_virtual(main)


def test_a_stop_that_comes_before_an_awaited_part_begins_cancels_it() -> None:
    class Slow(TrioActor):
        def on_receive(self, message: Any) -> Any:
            return self.linger(message)

        def on_down(self, down: Down) -> Any:
            return self.linger(None)

        def linger(self, gone: Any) -> Any:  # the sync part: the stop comes in it, or has come before it
            if gone is not None:
                self.link(gone)
            return self.nap()

        async def nap(self) -> None:
            await trio.sleep(1000)

    async def main() -> None:
        async with spawner() as supervisor:
            dead = await supervisor.spawn(Worker, id="dead")
            dead.tell(Fail(ValueError("x")))
            await dead.wait_stopped()
            slow = await supervisor.spawn(Slow, id="handler")
            slow.tell(dead)
            await slow.wait_stopped()
            watcher = await supervisor.spawn(Slow, id="on_down")
            watcher._cell.mailbox.put_control(Down(dead, ExitReason(ExitKind.NORMAL)))
            watcher._cell.request_stop(ExitReason(ExitKind.SHUTDOWN))
            assert (await watcher.wait_stopped()).kind is ExitKind.SHUTDOWN
            assert trio.current_time() == began

    began = 0.0

    async def on_a_clock() -> None:
        nonlocal began
        began = trio.current_time()
        await main()

    run_virtual(on_a_clock)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "no such file", "/x"), UnicodeDecodeError("utf-8", b"x", 0, 1, "y")]
)
def test_the_exit_says_what_the_asker_was_told(error: Exception) -> None:
    async def main() -> None:
        async with spawner() as supervisor:
            ref = await supervisor.spawn(Worker, id="a")
            with pytest.raises(type(error)):
                await ref.call(Fail(error))
            reason = await ref.wait_stopped()
            assert str(reason.error) == str(error)
            assert reason.error is not error

    run_virtual(main)


def test_a_ref_to_an_actor_whose_jobs_never_began_does_not_keep_it() -> None:
    class Never(TrioActor):
        async def setup(self) -> None:
            self.spawn(self.job)
            raise OSError("not today")

        async def job(self) -> None: ...

    async def main() -> None:
        async with spawner() as supervisor:
            actor = Never()
            ref, kept = actor.actor_ref, weakref.ref(actor)
            with pytest.raises(StartFailed):
                await supervisor.spawn(actor, id="a")
            del actor
            gc.collect()
            assert ref.exit_reason is not None
            assert kept() is None

    run_virtual(main)
