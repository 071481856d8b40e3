"""Actors that are threads: pykka's contract, the same supervision, and what a hang costs.

Real threads do not move a virtual clock, so it jumps whenever the program waits for one: tests in virtual time begin
with a thread that hangs, and give it no start timeout.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import pykka
import pytest
import trio

from skill_actors.runtime import (
    BRUTAL_KILL,
    ActorDeadError,
    ActorSystem,
    Ask,
    BlockingInTrioThread,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitKind,
    ExitReason,
    MailboxFull,
    Reject,
    Report,
    ReportEvent,
    Reports,
    Restart,
    StartFailed,
    Strategy,
    ThreadActor,
    Timeout,
    TrioActor,
    TrioActorRef,
    open_system,
    threads_leaked,
)
from skill_actors.runtime.future import TrioFuture
from skill_actors.runtime.thread_mailbox import ThreadMailbox
from support import run, run_virtual

LONG_S = 10.0  # for what must happen, however slow the machine


@dataclass(frozen=True, slots=True)
class Add(Ask[int]):
    number: int


class Refuse(Ask[None]):
    pass


@dataclass(frozen=True, slots=True)
class Raise(Ask[None]):
    error: BaseException


class Gate:
    """Where threads of a test hang until it lets them go; every thread that comes has a place in `reached`."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.reached = threading.Semaphore(0)

    def enter(self) -> None:
        self.reached.release()
        assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()

    async def wait_reached(self) -> None:
        assert await trio.to_thread.run_sync(lambda: self.reached.acquire(timeout=LONG_S))


class Hang(Ask[str]):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate


class Worker(ThreadActor):
    """Writes its life, and in which thread it was lived, into a shared log."""

    def __init__(self, log: list[str] | None = None) -> None:
        super().__init__()
        self.log = [] if log is None else log
        self.total = 0
        self.threads: set[int] = set()

    def note(self, what: str) -> None:
        self.log.append(what)
        self.threads.add(threading.get_ident())

    def on_start(self) -> None:
        self.note("start")

    def on_stop(self) -> None:
        self.note("stop")

    def on_failure(
        self, exception_type: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.note(f"failure {value!r}")

    def on_receive(self, message: Any) -> Any:
        self.note(type(message).__name__)
        match message:
            case Add(number=number):
                self.total += number
                return self.total
            case Hang(gate=gate):
                gate.enter()
                return "late"
            case Refuse():
                raise Reject("no")
            case Raise(error=error):
                raise error
            case _:
                return message


class Small(Worker):
    mailbox_capacity: ClassVar[int] = 2


def spec(factory: Any = Worker, **more: Any) -> ChildSpec:
    return ChildSpec(**{"id": "worker", "name": "worker", "factory": factory, **more})


@asynccontextmanager
async def served(*specs: ChildSpec, **more: Any) -> AsyncIterator[tuple[ActorSystem, TrioActorRef[Any]]]:
    async with open_system(specs, **more) as system:
        ref = system.directory.ref("worker")
        yield system, ref


async def gone(system: ActorSystem, ref: TrioActorRef[Any]) -> ExitReason:
    with trio.fail_after(LONG_S):
        return await ref.wait_stopped()


async def replaced(system: ActorSystem, old: TrioActorRef[Any]) -> TrioActorRef[Any]:
    with trio.fail_after(LONG_S):
        await old.wait_stopped()
        ref = await system.directory.wait("worker")
    assert ref is not old
    return ref


def run_on_threads(work: Any, times: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(times)]
    for thread in threads:
        thread.start()
    return threads


# The contract


def test_its_whole_life_is_in_one_daemon_thread_that_is_not_the_loops() -> None:
    async def main() -> None:
        log: list[str] = []
        made: list[Worker] = []

        def make() -> Worker:
            made.append(Worker(log))
            return made[-1]

        async with served(spec(make)) as (_, ref):
            assert await ref.call(Add(2)) == 2
            await ref.send(Add(3))
            assert await ref.call(Add(0)) == 5
            (thread,) = [thread for thread in threading.enumerate() if thread.name == "root/worker"]
            assert thread.daemon
        assert log == ["start", "Add", "Add", "Add", "stop"]
        assert made[0].threads == {thread.ident}

    run(main)


def test_pykkas_own_verbs_work_from_threads_and_their_futures_can_be_awaited() -> None:
    async def main() -> None:
        async with served(spec()) as (system, ref):
            assert await trio.to_thread.run_sync(lambda: ref.ask(Add(1))) == 1
            assert await ref.ask(Add(1), block=False) == 2
            ref.tell(Add(1))
            proxy = ref.proxy()
            assert await trio.to_thread.run_sync(lambda: proxy.total.get(timeout=LONG_S)) == 3
            assert await proxy.on_receive("x") == "x"
            assert await ref.ask(Add(1), block=False).map(lambda total: total * 10) == 40
            assert await trio.to_thread.run_sync(lambda: ref.stop(timeout=LONG_S)) is True
            assert (await gone(system, ref)).kind is ExitKind.NORMAL
            assert await (await replaced(system, ref)).call(Add(1)) == 1  # permanent: a stop is a normal exit

    run(main)


def test_a_blocking_ask_on_the_trio_thread_is_refused_rather_than_waited_for() -> None:
    async def main() -> None:
        gate = Gate()
        async with served(spec()) as (_, ref):
            await ref.send(Hang(gate))
            with pytest.raises(BlockingInTrioThread):
                ref.ask(Add(1))
            gate.open()
            assert await ref.call(Add(1)) == 1, "the message of the refused ask was handled"

    run(main)


def test_reject_is_an_answer_and_it_lives() -> None:
    async def main() -> None:
        async with served(spec()) as (_, ref):
            with pytest.raises(Reject):
                await ref.call(Refuse())
            await ref.send(Refuse())  # nobody to answer
            assert await ref.call(Add(1)) == 1

    run(main)


def test_another_exception_answers_the_asker_and_crashes_it_and_it_is_made_again() -> None:
    async def main() -> None:
        log: list[str] = []
        async with served(spec(lambda: Worker(log))) as (system, ref):
            with pytest.raises(ZeroDivisionError) as caught:
                await ref.call(Raise(ZeroDivisionError("by zero")))
            again = await replaced(system, ref)
            assert await again.call(Add(7)) == 7
            assert ref.exit_reason is not None
            assert ref.exit_reason.kind is ExitKind.CRASH
            assert ref.exit_reason.error is not caught.value, "its frames would grow with the asker's"
            with pytest.raises(ActorDeadError):
                await ref.call(Add(1))
        assert log[:4] == ["start", "Raise", "failure ZeroDivisionError('by zero')", "start"]

    run(main)


def test_a_crash_refuses_what_is_queued_and_frees_blocked_senders() -> None:
    async def main() -> None:
        gate = Gate()
        got: list[object] = []

        async def ask() -> None:
            try:
                await ref.call(Add(1), timeout=None)
            except ActorDeadError as error:
                got.append(error)

        def tell(_number: int) -> None:
            try:
                ref.tell(Add(1))
            except ActorDeadError as error:
                got.append(error)

        async with served(spec(Small, restart=Restart.TEMPORARY)) as (_, ref):
            await ref.send(Hang(gate))
            await gate.wait_reached()
            ref.tell(Raise(ValueError("x")))
            async with trio.open_nursery() as nursery:
                for _ in range(4):  # one fits, three wait
                    nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                threads = run_on_threads(tell, 3)
                gate.open()
            for thread in threads:
                await trio.to_thread.run_sync(thread.join, LONG_S)
        assert len(got) == 7

    run(main)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_base_exception_asks_for_the_ordered_shutdown_and_pykkas_stop_all_is_not_called(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pykka.ActorRegistry, "stop_all", lambda *_a, **_k: pytest.fail("stop_all was called"))
    ended: list[str] = []

    class Other(TrioActor):
        async def teardown(self, reason: ExitReason) -> None:
            ended.append(reason.kind.value)

    async def main() -> None:
        other = ChildSpec(id="other", factory=Other)
        async with served(other, spec()) as (_, ref):
            with pytest.raises(ActorDeadError):
                await ref.call(Raise(error))
            await trio.sleep_forever()

    with pytest.raises(type(error)):
        run(main)
    assert ended == ["shutdown"]


def test_start_without_a_supervisor_is_refused_and_leaves_no_ref_behind() -> None:
    with pytest.raises(RuntimeError, match="give it to a supervisor"):
        Worker.start()
    assert pykka.ActorRegistry.get_by_class(Worker) == []


@pytest.mark.parametrize("hook", ["on_start", "on_receive", "on_tick", "on_stop", "on_failure"])
def test_an_async_hook_is_refused_when_the_class_is_made(hook: str) -> None:
    async def forgotten(self: object, *_args: object) -> None: ...

    with pytest.raises(TypeError, match=f"{hook} is async"):
        type("Wrong", (ThreadActor,), {hook: forgotten})


def test_a_started_actor_cannot_be_started_again() -> None:
    async def main() -> None:
        one = Worker()
        async with served(spec(lambda: one)) as (system, _):
            with pytest.raises(StartFailed, match="started before"):
                await system.root.start_child(spec(lambda: one, id="again", name="again"))

    run(main)


def test_what_it_posts_runs_on_the_loops_thread() -> None:
    async def main() -> None:
        seen: list[int] = []
        done = trio.Event()

        def arrived() -> None:
            seen.append(threading.get_ident())
            done.set()

        class Poster(Worker):
            def on_receive(self, message: Any) -> None:
                self.post(arrived)

        async with served(spec(Poster)) as (_, ref):
            await ref.send("go")
            with trio.fail_after(LONG_S):
                await done.wait()
        assert seen == [threading.get_ident()]

    run(main)


# Backpressure


def test_send_waits_for_room_in_order_without_holding_up_the_loop_and_tell_is_refused() -> None:
    async def main() -> None:
        gate, seen = Gate(), list[int]()

        class Order(Small):
            def on_receive(self, message: Any) -> Any:
                if isinstance(message, Add):
                    seen.append(message.number)
                return super().on_receive(message)

        async with served(spec(Order)) as (system, ref):
            await ref.send(Hang(gate))
            await gate.wait_reached()
            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(ref.send, Add(number))
                    await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(MailboxFull):
                    ref.tell(Add(99))
                (info,) = system.root.which_children()
                assert (info.mailbox_depth, info.phase, info.actor_class) == (2, "running", "Order")
                gate.open()
            assert await ref.call(Add(6)) == sum(range(7))
            assert seen == list(range(7))

    run(main)


def test_a_cancelled_sender_and_a_cancelled_asker_leave_no_message() -> None:
    async def main() -> None:
        gate = Gate()
        async with served(spec(Small)) as (_, ref):
            await ref.send(Hang(gate))
            await gate.wait_reached()
            with pytest.raises(Timeout):
                await ref.call(Add(100), timeout=0.01)  # it is queued, and skipped
            ref.tell(Add(1))
            with trio.move_on_after(0.01) as scope:
                await ref.send(Add(1000))
            assert scope.cancelled_caught
            gate.open()
            assert await ref.call(Add(1)) == 2

    run(main)


def test_a_thread_that_tells_waits_for_room() -> None:
    async def main() -> None:
        gate = Gate()
        async with served(spec(Small)) as (_, ref):
            await ref.send(Hang(gate))
            await gate.wait_reached()
            threads = run_on_threads(lambda number: ref.tell(Add(number)), 8)
            gate.open()
            for thread in threads:
                await trio.to_thread.run_sync(thread.join, LONG_S)
            assert await ref.call(Add(0)) == sum(range(8))

    run(main)


def test_telling_itself_with_a_full_mailbox_is_an_error_not_a_deadlock() -> None:
    class Talker(Small):
        def on_receive(self, message: Any) -> Any:
            for _ in range(3):
                self.actor_ref.tell("more")

    async def main() -> None:
        async with served(spec(Talker)) as (system, ref):
            await ref.send("go")
            reason = await gone(system, ref)
            assert isinstance(reason.error, MailboxFull)

    run(main)


def test_many_threads_and_tasks_at_once_lose_and_repeat_nothing() -> None:
    async def main() -> None:
        async with served(spec(Small)) as (_, ref):
            threads = run_on_threads(lambda _number: [ref.ask(Add(1)) for _ in range(100)], 4)

            async def client() -> None:
                for _ in range(100):
                    await ref.send(Add(1))
                    await ref.call(Add(1), timeout=LONG_S)

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(client)
            for thread in threads:
                await trio.to_thread.run_sync(thread.join, LONG_S)
            assert await ref.call(Add(0)) == 4 * 100 + 4 * 200

    run(main)


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
        before = threads_leaked()
        with pytest.raises(StartFailed) as failed:
            async with open_system(
                [spec(lambda: Worker(log), id="first", name="first"), spec(Slow, start_timeout_s=0.05)]
            ):
                pytest.fail("it started")
        assert isinstance(failed.value.__cause__, TimeoutError)
        assert threads_leaked() == before + 1
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "root/worker"]
        gate.open()
        await trio.to_thread.run_sync(thread.join, LONG_S)
        assert threads_leaked() == before
        assert log == ["start", "stop"]

    run(main)


def test_a_hang_at_shutdown_is_given_up_at_its_time_and_counted_and_its_replacement_starts() -> None:
    gate = Gate()

    async def main() -> None:
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
            (thread, _) = [thread for thread in threading.enumerate() if thread.name == "root/worker"]
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
        before = threads_leaked()
        async with served(spec(lambda: Worker(log), shutdown_s=BRUTAL_KILL)) as (system, ref):
            await ref.call(Add(1))
            (thread,) = [thread for thread in threading.enumerate() if thread.name == "root/worker"]
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
        before = threads_leaked()
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
            hung = [thread for thread in threading.enumerate() if thread.name == "root/pool/job"]
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


# Ticks


def test_it_ticks_while_no_message_comes_and_a_tick_that_raises_crashes_it() -> None:
    class Ticking(Worker):
        tick_s = 0.01
        ticks = 0

        def on_tick(self) -> None:
            self.ticks += 1
            if self.ticks == 3:
                raise ValueError("third")

    async def main() -> None:
        async with served(spec(Ticking, restart=Restart.TEMPORARY)) as (system, ref):
            reason = await gone(system, ref)
            assert (reason.kind, str(reason.error)) == (ExitKind.CRASH, "third")

    run(main)


def test_without_tick_s_it_never_ticks() -> None:
    actor = Worker()
    assert actor.tick_s is None
    actor.on_tick()
    assert isinstance(actor._create_future(), TrioFuture)


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
