"""Inline service: the same as through the mailbox, only faster."""

from __future__ import annotations

import contextvars
import gc
import weakref
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import pykka
import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_kit import settle, spawner
from skill_actors.runtime import (
    ActorDeadError,
    Ask,
    ChildSpec,
    ExitKind,
    ExitReason,
    HandlerInterrupted,
    Reject,
    Supervisor,
    Timeout,
    TrioActor,
    TrioActorRef,
    open_system,
)
from skill_actors.runtime.inline import INLINE_CALLS
from support import run, run_virtual

Ref = TrioActorRef[Any]


@dataclass(frozen=True, slots=True)
class Do(Ask[Any]):
    """What to do: add, reject, crash, wait, reject or crash after a wait, stop, start a job."""

    kind: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class Query(Ask[Any]):
    seconds: float
    cancel_with_caller: ClassVar[bool] = True


request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


class Broken(ValueError):
    """Can be referred to weakly, unlike its base."""


class BrokenLate(KeyError):
    """As Broken."""


class Queued(TrioActor):
    slice_s = 10.0

    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.log = log
        self.tasks: list[str] = []
        self.total = 0

    def on_receive(self, message: Any) -> Any:
        self.tasks.append(trio.lowlevel.current_task().name)
        if isinstance(message, Query):
            return self.later(message.seconds, "query", 0)
        self.log.append(("begin", message.kind, message.number))
        match message.kind:
            case "add":
                self.total += message.number
                return self.total
            case "reject":
                raise Reject(f"no {message.number}")
            case "crash":
                raise Broken(f"crash {message.number}")
            case "context":
                return request.get()
            case "stop":
                self.stop()
            case "job":
                self.spawn(self.job, message.number)
            case "reject with job":
                self.spawn(self.job, message.number)
                raise Reject("no, but later")
            case _:
                return self.later(message.number, message.kind, message.number)
        return None

    async def later(self, seconds: float, kind: str, number: int) -> Any:
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self.log.append("cancelled")
            raise
        self.log.append(("waited", number))
        if kind == "wait, reject":
            raise Reject(f"not now {number}")
        if kind == "wait, crash":
            raise BrokenLate(number)
        return self.total

    async def job(self, number: int) -> None:
        self.log.append(("job", number))
        await trio.sleep(number)
        self.log.append(("job done", number))

    async def teardown(self, reason: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.log.append(("teardown", reason.kind.value, str(reason.error)))


class Inline(Queued):
    inline = True


def test_a_sync_handler_runs_in_the_callers_task_and_the_actors_context() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            actor = Inline([])
            ref = await dynamic.spawn(actor, id="i")
            request.set("of the caller")
            with trio.CancelScope() as scope:
                scope.cancel()  # the call is no checkpoint
                assert await ref.call(Do("add", 2)) == 2
                assert await ref.call(Do("context")) == "none"
            assert actor.tasks == [trio.lowlevel.current_task().name] * 2
            ref.tell(Do("add"))
            assert await ref.call(Do("add", 1)) == 3  # not idle: in its turn, in the actor's task
            assert actor.tasks[2:] == ["root/d/worker"] * 2

    run_virtual(main)


def test_every_so_many_calls_are_a_checkpoint() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            ref = await dynamic.spawn(Inline([]), id="i")
            calls = 0
            with trio.CancelScope() as scope:
                scope.cancel()
                while True:
                    await ref.call(Do("add"))
                    calls += 1
            assert calls == INLINE_CALLS

    run_virtual(main)


def test_a_caller_in_a_loop_lets_others_run() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic), trio.open_nursery() as nursery:
            ref = await dynamic.spawn(Inline([]), id="i")
            done = trio.Event()

            async def other() -> None:
                for _ in range(10):
                    await trio.lowlevel.checkpoint()
                done.set()

            nursery.start_soon(other)
            while not done.is_set():
                await ref.call(Do("add"))

    run(main)


def test_a_crash_is_the_actors_and_has_happened_when_the_caller_hears_of_it() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            log: list[Any] = []
            ref = await dynamic.spawn(Inline(log), id="i")
            with pytest.raises(ValueError, match="crash 1"):
                await ref.call(Do("crash", 1))
            assert not ref.is_alive()
            with pytest.raises(ActorDeadError):
                await ref.call(Do("add"))
            reason = await ref.wait_stopped()
            assert reason.kind is ExitKind.CRASH
            assert log[-1] == ("teardown", "crash", "crash 1")
            assert reason.error is not None
            assert reason.error.__traceback__ is None

    run_virtual(main)


def test_a_crash_under_a_supervisor_is_restarted() -> None:
    async def main() -> None:
        specs = [ChildSpec(id="i", factory=lambda: Inline([]), name="i")]
        async with open_system([ChildSpec(id="s", factory=lambda: Supervisor(specs))]) as system:
            named = system.directory.named("i")
            with pytest.raises(ValueError, match="crash"):
                await named.call(Do("crash"))
            assert await named.call(Do("add", 1), wait_s=1) == 1

    run_virtual(main)


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_the_rest_of_an_async_handler_runs_in_the_actors_task_before_anything_else(timeout: float | None) -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            log: list[Any] = []
            ref = await dynamic.spawn(Inline(log), id="i")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: ref.call(Do("wait", 1), timeout=timeout))
                await settle()
                assert await ref.call(Do("add", 1)) == 1
            assert log == [("begin", "wait", 1), ("waited", 1), ("begin", "add", 1)]

    run_virtual(main)


def test_a_handler_begun_inline_is_reached_by_interrupt_timeout_stop_and_kill_before_it_goes_on() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            for how in ("interrupt", "stop", "kill"):
                log: list[Any] = []
                ref = await dynamic.spawn(Inline(log), id=how)

                async def ask(ref: Ref = ref, how: str = how) -> None:
                    with pytest.raises(HandlerInterrupted if how == "interrupt" else ActorDeadError):
                        await ref.call(Do("wait", 100), timeout=None)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask)
                    while not log:  # the sync part has run, the actor's task has perhaps not
                        await trio.lowlevel.checkpoint()
                    if how == "interrupt":
                        assert ref.interrupt()
                    elif how == "stop":
                        ref._cell.request_stop(ExitReason(ExitKind.SHUTDOWN))
                    else:
                        ref._cell.kill()
                assert log[1] == "cancelled"
            assert trio.current_time() == 0

    run_virtual(main)


def test_a_begun_handler_is_cancelled_with_its_caller_if_the_message_says_so() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            log: list[Any] = []
            ref = await dynamic.spawn(Inline(log), id="i")
            with pytest.raises(Timeout):
                await ref.call(Query(100), timeout=2)
            await settle()
            with trio.CancelScope() as scope:
                scope.cancel()
                await ref.call(Query(100), timeout=None)
            assert await ref.call(Do("add", 1)) == 1
            assert log == ["cancelled", "cancelled", ("begin", "add", 1)]
            assert trio.current_time() == 2

    run_virtual(main)


def test_a_stop_and_jobs_of_an_inline_handler_take_effect() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            log: list[Any] = []
            ref = await dynamic.spawn(Inline(log), id="i")
            await ref.call(Do("job", 3))
            with pytest.raises(Reject, match="but later"):
                await ref.call(Do("reject with job", 1))
            await settle()
            assert {("job", 3), ("job", 1)} < set(log)
            await trio.sleep(2)
            assert ("job done", 1) in log
            assert await ref.call(Do("add", 4)) == 4
            await ref.call(Do("stop"))
            assert (await ref.wait_stopped()).kind is ExitKind.NORMAL
            assert ("job done", 3) not in log

    run_virtual(main)


@pytest.mark.parametrize("kind", ["reject", "wait, reject", "crash", "wait, crash"])
def test_a_failed_inline_call_leaves_no_reference_cycle(kind: str) -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            ref = await dynamic.spawn(Inline([]), id="i")
            gc.collect()
            gc.disable()
            try:
                seen = await failed(ref)
                await settle()
                assert seen() is None
            finally:
                gc.enable()

    async def failed(ref: Ref) -> weakref.ref[BaseException]:
        try:
            await ref.call(Do(kind))
        except Exception as error:
            return weakref.ref(error)
        pytest.fail("no failure")

    run_virtual(main)


def test_threads_and_proxies_go_through_the_mailbox() -> None:
    async def main() -> None:
        async with spawner() as (_, dynamic):
            ref = await dynamic.spawn(Inline([]), id="i")
            assert await trio.to_thread.run_sync(lambda: ref.ask(Do("add", 2), timeout=20)) == 2
            assert await cast("pykka.Future[int]", ref.proxy().total) == 2

    run(main)


# Equivalence: what a random program observes is the same either way.

KINDS = ("add", "add", "reject", "wait", "wait, reject", "wait, crash", "crash", "stop", "job")
Step = tuple[str, str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "call", "tell", "ask", "sleep"]), st.sampled_from(KINDS), st.integers(0, 2)
    ),
    max_size=25,
)


def observe(made: type[Queued], program: list[Step]) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """The calls' outcomes in order, the asks', what the actors did in order, and the jobs they started.

    A new actor is started whenever the last has ended.
    """
    seen: list[Any] = []
    log: list[Any] = []

    async def answer(number: int, awaiting: Any) -> None:
        try:
            seen.append((number, await awaiting))
        except Exception as error:
            seen.append((number, type(error).__name__, str(error)))

    async def main() -> None:
        async with spawner() as (_, dynamic):
            ref: Ref = await dynamic.spawn(made(log), id="a")
            stopping = False
            async with trio.open_nursery() as nursery:
                for number, (how, kind, amount) in enumerate(program):
                    message = Do(kind, amount)
                    if how == "sleep":
                        await trio.sleep(amount + 0.37)  # never the moment at which something else is due
                    elif how == "call":
                        await answer(number, ref.call(message, timeout=20))
                        failed = type(seen[-1][1]) is str and seen[-1][1] != "Reject"
                        if failed or stopping or kind == "stop":
                            await settle()  # the end comes with the answer or a moment later, either way
                    elif ref.is_alive():
                        if how == "ask":
                            nursery.start_soon(answer, number, ref.ask(message, block=False))
                        else:
                            ref.tell(message)
                    stopping = stopping or (kind == "stop" and how != "sleep")
                    if not ref.is_alive():
                        stopping = False
                        reason = await ref.wait_stopped()
                        seen.append((number, reason.kind, str(reason.error)))
                        ref = await dynamic.spawn(made(log), id=f"a{number}")
            await settle()

    run_virtual(main)
    calls = [entry for entry in seen if program[entry[0]][0] == "call"]
    jobs = sorted(entry for entry in log if entry[0] == "job")  # how far one came when a crash ended it is chance
    asks = sorted((entry for entry in seen if entry not in calls), key=repr)
    return calls, asks, [entry for entry in log if not str(entry[0]).startswith("job")], jobs


@settings(max_examples=150, deadline=None)
@given(steps)
def test_inline_and_queued_give_the_same_answers_order_and_exits(program: list[Step]) -> None:
    assert observe(Inline, program) == observe(Queued, program)


@pytest.mark.deep
@settings(max_examples=5000, deadline=None)
@given(steps)
def test_inline_and_queued_are_the_same_at_length(program: list[Step]) -> None:
    assert observe(Inline, program) == observe(Queued, program)
