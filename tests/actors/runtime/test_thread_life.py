"""Actors that are threads: the same supervision from the start to the end, and what a hang costs.

Real threads do not move a virtual clock, so it jumps whenever the program waits for one: tests in virtual time begin
with a thread that hangs, and give it no start timeout.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import trio

from skill_actors.runtime import (
    BRUTAL_KILL,
    ActorDeadError,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitKind,
    Report,
    ReportEvent,
    Reports,
    Restart,
    StartFailed,
    Strategy,
    ThreadActor,
    open_system,
    threads_leaked,
)
from skill_actors.runtime.thread_mailbox import ThreadMailbox
from support import run, run_virtual
from thread_kit import LONG_S, Add, Gate, Hang, Raise, Small, Worker, gone, served, spec, threads_named


@pytest.fixture(autouse=True)
def _threads_that_were_let_go_have_ended() -> Iterator[None]:
    """So that the next test does not count them: none tells when it is over."""
    before = threads_leaked()
    yield
    deadline_s = time.monotonic() + LONG_S
    while threads_leaked() > before:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


# Start and end


@pytest.mark.parametrize("error", [OSError("no device"), SystemExit(4)])
def test_a_start_that_fails_is_a_failed_start(error: BaseException) -> None:
    class Broken(Worker):
        def on_start(self) -> None:
            raise error

    async def main() -> None:
        async with open_system([spec(Broken)]):
            pytest.fail("it started")

    with pytest.raises(type(error) if isinstance(error, SystemExit) else StartFailed):
        run(main)


def test_a_start_that_hangs_is_given_up_and_what_was_started_before_is_stopped() -> None:
    gate, log = Gate(), list[str]()

    class Slow(Worker):
        def on_start(self) -> None:
            gate.enter()

        def on_stop(self) -> None:
            log.append("hook of a thread that was given up")

    async def main() -> None:
        before, others = threads_leaked(), threading.enumerate()
        with pytest.raises(StartFailed) as failed:
            async with open_system(
                [spec(lambda: Worker(log), id="first", name="first"), spec(Slow, start_timeout_s=0.05)]
            ):
                pytest.fail("it started")
        assert isinstance(failed.value.__cause__, TimeoutError)
        assert threads_leaked() == before + 1
        (thread,) = threads_named("root/worker", others)
        gate.open()
        await trio.to_thread.run_sync(thread.join, LONG_S)
        assert threads_leaked() == before
        assert log == ["start", "stop"]

    run(main)


def test_a_hang_at_shutdown_is_given_up_at_its_time_and_counted_and_its_replacement_starts() -> None:
    gate = Gate()

    async def main() -> None:
        others = threading.enumerate()
        reports: list[Report] = []
        told = Reports()
        told.subscribe("test", reports.append)
        log: list[str] = []
        made = spec(lambda: Worker(log), shutdown_s=5.0, start_timeout_s=float("inf"))
        async with served(made, reports=told) as (system, ref):
            before = threads_leaked()
            answer = ref.ask(Hang(gate), block=False)
            queued = ref.ask(Add(1), block=False)
            await gate.wait_reached()
            began = trio.current_time()
            await system.root.terminate_child("worker")
            assert trio.current_time() - began == 5.0
            assert threads_leaked() == before + 1
            assert system.tally.count("threads_leaked", "Worker") == 1
            for future in (answer, queued):
                with pytest.raises(ActorDeadError):
                    await future
            again = await system.root.restart_child("worker")
            assert await again.call(Add(7), timeout=None) == 7
            (thread, _) = threads_named("root/worker", others)
            gate.open()
            await trio.to_thread.run_sync(thread.join, LONG_S)
            assert threads_leaked() == before
            assert "stop" not in log, "a thread that was given up ran its hook beside its replacement"
            assert [report.event for report in reports].count(ReportEvent.KILLED) == 1
            assert ReportEvent.UNKILLABLE not in [report.event for report in reports]

    run_virtual(main)


def test_hook_that_hangs_after_a_crash_is_given_up_at_shutdown_s() -> None:
    gate = Gate()

    class Stuck(Worker):
        def on_failure(self, *_info: Any) -> None:
            gate.enter()

    async def main() -> None:
        made = spec(Stuck, shutdown_s=3.0, start_timeout_s=float("inf"), restart=Restart.TEMPORARY)
        async with served(made) as (_, ref):
            ref.tell(Raise(ValueError("x")))
            reason = await ref.wait_stopped()
            assert reason.kind is ExitKind.KILLED
            assert isinstance(reason.error, TimeoutError)
        gate.open()

    run_virtual(main)


def test_brutal_kill_waits_for_nothing_and_an_idle_thread_is_no_leak() -> None:
    gate = Gate()

    async def main() -> None:
        log: list[str] = []
        before, others = threads_leaked(), threading.enumerate()
        async with served(spec(lambda: Worker(log), shutdown_s=BRUTAL_KILL)) as (system, ref):
            await ref.call(Add(1))
            (thread,) = threads_named("root/worker", others)
            await system.root.terminate_child("worker")
            await trio.to_thread.run_sync(thread.join, LONG_S)
            assert not thread.is_alive()
            assert threads_leaked() == before
            busy = await system.root.restart_child("worker")
            busy.tell(Hang(gate))
            await gate.wait_reached()
            await system.root.terminate_child("worker")
            assert threads_leaked() == before + 1
        assert "stop" not in log
        gate.open()

    run(main)


def test_a_stop_that_comes_while_it_starts_is_seen_and_what_it_opened_is_closed() -> None:
    gate, log = Gate(), list[str]()

    class Slow(Worker):
        def on_start(self) -> None:
            gate.enter()
            super().on_start()

    async def main() -> None:
        async with open_system() as system, trio.open_nursery() as nursery:

            async def start() -> None:
                with pytest.raises(ActorDeadError):
                    await system.root.start_child(spec(lambda: Slow(log), start_timeout_s=60))

            nursery.start_soon(start)
            await gate.wait_reached()
            system.request_shutdown()
            gate.open()
            with trio.fail_after(LONG_S):
                await system.wait_stopped()

    run(main)
    assert log == ["start", "stop"]


def test_ten_hung_threads_cost_one_limit_together_and_an_eleventh_is_not_started() -> None:
    gate = Gate()

    class Hanging(Worker):
        max_leaked: ClassVar[int] = 10

        def on_receive(self, message: Any) -> Any:
            gate.enter()

    async def main() -> None:
        before, others = threads_leaked(), threading.enumerate()
        pool = ChildSpec(id="pool", factory=lambda: DynamicSupervisor("job", shutdown_s=0.5), name="pool")
        async with open_system([pool]) as system:
            workers = system.directory.ref("pool")
            assert isinstance(workers, DynamicSupervisorRef)
            for number in range(10):
                ref = await workers.ensure(f"job-{number}", Hanging)
                ref.tell("hang")
                await gate.wait_reached()
            began = trio.current_time()
            await system.root.terminate_child("pool")
            assert 0.5 <= trio.current_time() - began < 4.0, "one limit after the other would be 5 s"
            assert threads_leaked() == before + 10
            await system.root.restart_child("pool")
            workers = system.directory.ref("pool")
            assert isinstance(workers, DynamicSupervisorRef)
            with pytest.raises(StartFailed, match="10 threads of Hanging"):
                await workers.ensure("job-10", Hanging)
            hung = threads_named("root/pool/job", others)
            assert len(hung) == 10
            gate.open()
            for thread in hung:
                await trio.to_thread.run_sync(thread.join, LONG_S)
            await workers.ensure("job-11", Hanging)
            assert threads_leaked() == before

    run(main)


def test_rest_for_one_takes_it_along_and_makes_it_again_in_order() -> None:
    log: list[str] = []

    class Named(Worker):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def note(self, what: str) -> None:
            log.append(f"{what} {self.name}")

    async def main() -> None:
        children = [spec(lambda name=name: Named(name), id=name, name=name) for name in "abc"]
        async with open_system(children, strategy=Strategy.REST_FOR_ONE) as system:
            first, last = system.directory.ref("b"), system.directory.ref("c")
            first.tell(Raise(ValueError("x")))
            with trio.fail_after(LONG_S):
                await last.wait_stopped()
                await system.directory.wait("c")

    run(main)
    assert log[3:] == [
        *("Raise b", "failure ValueError('x') b", "stop c", "start b", "start c"),
        *("stop c", "stop b", "stop a"),
    ]


def test_when_stopped_and_monitor_tell_of_its_end() -> None:
    async def main() -> None:
        kinds: list[ExitKind] = []
        async with served(spec(restart=Restart.TEMPORARY)) as (system, ref):
            ref.when_stopped(lambda reason: kinds.append(reason.kind))
            ref.tell(Raise(ValueError("x")))
            await gone(system, ref)
            ref.when_stopped(lambda reason: kinds.append(reason.kind))
        assert kinds == [ExitKind.CRASH, ExitKind.CRASH]

    run(main)


def test_a_stop_passes_a_full_mailbox() -> None:
    gate = Gate()

    async def main() -> None:
        log: list[str] = []
        async with served(spec(lambda: Small(log))) as (system, ref):
            await ref.send(Hang(gate))
            await gate.wait_reached()
            waiting = [ref.ask(Add(1), block=False) for _ in range(2)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(system.root.terminate_child, "worker")
                await trio.testing.wait_all_tasks_blocked()
                gate.open()
            for future in waiting:
                with pytest.raises(ActorDeadError):
                    await future
        assert log == ["start", "Hang", "stop"]

    run(main)


def test_a_stop_hook_that_raises_is_an_abnormal_exit_and_the_shutdown_goes_on() -> None:
    class Bad(Worker):
        def on_stop(self) -> None:
            raise OSError("cannot close")

    async def main() -> None:
        log: list[str] = []
        async with served(spec(lambda: Worker(log), id="first", name="first"), spec(Bad)) as (_, ref):
            pass
        assert ref.exit_reason is not None
        assert ref.exit_reason.kind is ExitKind.CRASH
        assert log == ["start", "stop"]

    run(main)


def test_one_that_serves_and_ends_before_its_guardian_looks_has_started() -> None:
    class Brief(ThreadActor):
        def on_start(self) -> None:
            self.actor_ref.tell("crash")

        def on_receive(self, message: Any) -> Any:
            raise ValueError(message)

    async def main() -> None:
        async with open_system([ChildSpec(id="d", factory=lambda: DynamicSupervisor("brief"), name="d")]) as system:
            supervisor: DynamicSupervisorRef[Any] = system.directory.ref("d")  # type: ignore[assignment]
            for number in range(100):
                ref = await supervisor.spawn(Brief, id=str(number))
                assert (await gone(system, ref)).kind is ExitKind.CRASH

    run(main)


def test_a_thread_that_has_answered_is_no_leak_when_it_is_killed_at_once() -> None:
    async def main() -> None:
        def make() -> DynamicSupervisor:
            return DynamicSupervisor("worker", shutdown_s=BRUTAL_KILL)

        async with open_system([ChildSpec(id="d", factory=make, name="d")]) as system:
            supervisor: DynamicSupervisorRef[Any] = system.directory.ref("d")  # type: ignore[assignment]
            for number in range(200):
                ref = await supervisor.spawn(Worker, id="w")
                if number % 2:
                    await ref.call(Add(1))
                await supervisor.terminate_child("w")
            assert system.tally.snapshot()["threads_leaked"] == {}

    run(main)


def test_leaving_in_the_hook_after_a_crash_ends_the_system() -> None:
    class Leaver(ThreadActor):
        def on_receive(self, message: Any) -> Any:
            raise ValueError(message)

        def on_failure(self, *_: Any) -> None:
            raise SystemExit(3)

    async def main() -> None:
        async with open_system([spec(Leaver)]) as system:
            system.directory.ref("worker").tell("crash")
            await trio.sleep(LONG_S)

    with pytest.raises(SystemExit, match="3"):
        run(main)


class _Sick(ThreadMailbox):
    """Cannot tell anybody of the end."""

    __slots__ = ()

    def close(self) -> list[Any]:
        if trio.lowlevel.in_trio_run():
            raise OSError("told nobody")
        return super().close()


class _Unlucky(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._thread_mailbox.__class__ = _Sick


def test_a_guardian_that_fails_in_its_clean_up_bounds_the_stop_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()

    async def main() -> None:
        made = spec(_Unlucky, shutdown_s=5.0, start_timeout_s=float("inf"))
        async with served(made) as (system, ref):
            ref.tell(Hang(gate))
            await gate.wait_reached()
            began = trio.current_time()
            await system.root.terminate_child("worker")
            assert trio.current_time() - began == 5.0
            assert (await ref.wait_stopped()).kind is ExitKind.KILLED
        gate.open()

    run_virtual(main)
    assert "told nobody" in caplog.text


def test_a_guardian_that_fails_in_its_clean_up_does_not_take_its_neighbours_along() -> None:
    async def main() -> None:
        made = spec(_Unlucky, restart=Restart.TEMPORARY)
        async with served(made, spec(id="other", name="other")) as (system, ref):
            ref.tell(Raise(ValueError("x")))
            assert (await gone(system, ref)).kind is ExitKind.CRASH
            assert await system.directory.ref("other").call(Add(3)) == 3

    run(main)
