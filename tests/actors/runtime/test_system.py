"""A whole system: in somebody's program, and as a process with signals."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import trio

from skill_actors.runtime import (
    EXIT_FAILED,
    EXIT_OK,
    ActorDeadError,
    ActorSystem,
    ChildSpec,
    DynamicSupervisor,
    ExitKind,
    ExitReason,
    Report,
    ReportEvent,
    StartFailed,
    Supervisor,
    TrioActor,
    open_system,
    serve,
)
from skill_actors.runtime import run as run_process
from support import run, run_virtual


class Service(TrioActor):
    def __init__(self, log: list[str], teardown_s: float = 0.0) -> None:
        super().__init__()
        self.log, self.teardown_s = log, teardown_s

    async def teardown(self, reason: ExitReason) -> None:
        await trio.sleep(self.teardown_s)
        self.log.append(f"ended {reason.kind.value}")

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        return message


def service(log: list[str], **options: Any) -> ChildSpec:
    return ChildSpec(id="s", factory=lambda: Service(log, **options), name="s", shutdown_s=float("inf"))


def test_the_block_ends_the_tree_and_keeps_its_own_exception_bare() -> None:
    log: list[str] = []

    async def use() -> None:
        async with open_system([service(log)]):
            raise KeyError("mine")

    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            await use()
        assert log == ["ended shutdown"]

    run_virtual(main)


def test_a_cancelled_block_still_ends_the_tree_in_order() -> None:
    log: list[str] = []

    async def main() -> None:
        with trio.move_on_after(1) as scope:
            async with open_system([service(log, teardown_s=2)]):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(3)
        assert log == ["ended shutdown"]

    run_virtual(main)


def test_a_system_inside_somebodys_nursery_changes_nothing_process_wide() -> None:
    async def main() -> None:
        before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
        async with trio.open_nursery() as nursery, open_system([service([])]):
            assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)] == before
            nursery.start_soon(trio.sleep, 1)

    run_virtual(main)


def test_a_requested_shutdown_is_no_failure() -> None:
    log: list[str] = []

    async def main() -> None:
        async with open_system([service(log)]) as system:
            system.request_shutdown()
            assert await system.wait_stopped() == ExitReason(ExitKind.SHUTDOWN)
            assert system.failure() is None
            assert await system.shutdown() == ExitReason(ExitKind.SHUTDOWN)

    run_virtual(main)
    assert log == ["ended shutdown"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_base_exception_of_an_actor_ends_the_system_in_order(error: BaseException) -> None:
    log: list[str] = []

    async def main() -> None:
        async with open_system([service(log)]) as system:
            system.directory.ref("s").tell(error)
            await trio.sleep_forever()

    with pytest.raises(type(error)):
        run_virtual(main)
    assert log[0] == "ended crash"


def test_the_tree_shows_supervisors_and_workers_with_bounded_labels() -> None:
    async def main() -> None:
        inner = ChildSpec(id="inner", factory=lambda: Supervisor([service([])]))
        sessions = ChildSpec(id="sessions", factory=lambda: DynamicSupervisor("session"), name="sessions")
        async with open_system([inner, sessions]) as system:
            await system.directory.ref("sessions").spawn(Service([]), id="ses_1")  # type: ignore[attr-defined]
            shown = [(info.path, info.id, info.template, info.phase, info.mailbox_depth) for info in system.walk()]
            assert shown == [
                ("root", "root", "root", "running", 0),
                ("root/inner", "inner", "inner", "running", 0),
                ("root/inner/s", "s", "s", "running", 0),
                ("root/sessions", "sessions", "sessions", "running", 0),
                ("root/sessions/session", "ses_1", "session", "running", 0),
            ]
        assert [info.phase for info in system.walk()] == ["dead"]

    run_virtual(main)


def test_a_signal_drains_and_the_exit_code_is_zero() -> None:
    log: list[str] = []

    async def ready(system: ActorSystem) -> None:
        log.append("ready")
        os.kill(os.getpid(), signal.SIGTERM)

    async def main() -> int:
        return await serve([service(log)], on_ready=ready, on_stopping=lambda system: log.append("stopping"))

    assert run(main) == EXIT_OK
    assert log == ["ready", "stopping", "ended shutdown"]


def test_a_second_signal_kills_what_drains_too_slowly() -> None:
    log: list[str] = []

    async def ready(system: ActorSystem) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    async def main() -> int:
        return await serve(
            [service(log, teardown_s=1000)],
            on_ready=ready,
            on_stopping=lambda system: os.kill(os.getpid(), signal.SIGTERM),
        )

    assert run(main) == EXIT_OK  # as it was asked to
    assert log == []


def test_a_root_that_gives_up_is_exit_code_70() -> None:
    async def ready(system: ActorSystem) -> None:
        system.directory.ref("s").tell(ValueError("x"))

    assert run_process([service([])], max_restarts=0, on_ready=ready) == EXIT_FAILED == 70


def test_a_failed_boot_of_a_process_says_why() -> None:
    def broken() -> TrioActor:
        raise OSError("no config")

    with pytest.raises(StartFailed, match="no config"):
        run_process([ChildSpec(id="x", factory=broken)])


def test_a_signal_stops_a_slow_boot() -> None:
    class Slow(TrioActor):
        async def setup(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep(1000)

    assert run_process([ChildSpec(id="slow", factory=Slow, start_timeout_s=5000)]) == EXIT_OK


class Leaver(TrioActor):
    """Raises an error where it is told to: in a handler, in a job, in a stop hook."""

    def on_receive(self, message: tuple[str, BaseException]) -> None:
        where, self.error = message
        match where:
            case "handler":
                raise self.error
            case "job":
                self.spawn(self.job)
            case "hook":
                self.stop()

    async def job(self) -> None:
        await trio.lowlevel.checkpoint()
        raise self.error

    def on_stop(self) -> None:
        if hasattr(self, "error"):
            raise self.error


@pytest.mark.parametrize("where", ["handler", "job", "hook"])
@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 0), (SystemExit(), 0), (SystemExit(0), 0), (SystemExit(3), 3), (SystemExit("why"), 1)],
    ids=lambda value: repr(value),
)
def test_leaving_from_inside_an_actor_is_the_ordered_shutdown_of_a_signal(
    where: str, error: BaseException, code: int
) -> None:
    log: list[str] = []

    async def ready(system: ActorSystem) -> None:
        system.directory.ref("leaver").tell((where, error))

    specs = [
        ChildSpec(id="before", factory=lambda: Service(log, teardown_s=0.01)),
        ChildSpec(id="inner", factory=lambda: Supervisor([ChildSpec(id="l", factory=Leaver, name="leaver")])),
        ChildSpec(id="after", factory=lambda: Service(log)),
    ]
    assert run_process(specs, on_ready=ready) == code
    assert log == ["ended shutdown"] * 2


def test_leaving_from_setup_is_a_shutdown_too() -> None:
    log: list[str] = []

    class Early(TrioActor):
        async def setup(self) -> None:
            raise SystemExit(4)

    assert run_process([service(log), ChildSpec(id="early", factory=Early)]) == 4
    assert log == ["ended shutdown"]


async def _leave_by_a_nursery(error: BaseException) -> None:
    async def leave() -> None:
        raise error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)


@pytest.mark.parametrize("where", ["asked", "asked inline", "nursery", "on_failure", "teardown"])
def test_leaving_keeps_its_code_wherever_it_comes_from(where: str) -> None:
    class Any_(TrioActor):
        inline = where == "asked inline"

        def on_receive(self, message: Any) -> Any:
            if where == "nursery":
                return _leave_by_a_nursery(SystemExit(3))
            raise SystemExit(3) if where.startswith("asked") else ValueError("a crash that comes before")

        def on_failure(self, *_: Any) -> None:
            if where == "on_failure":
                raise SystemExit(3)

        async def teardown(self, reason: ExitReason) -> None:
            if where == "teardown" and reason.kind is ExitKind.CRASH:
                raise SystemExit(3)

    async def ready(system: ActorSystem) -> None:
        with pytest.raises((ActorDeadError, ValueError)):
            await system.directory.ref("a").call("leave")  # type: ignore[arg-type]

    assert run_process([ChildSpec(id="a", factory=Any_, name="a")], on_ready=ready) == 3


@pytest.mark.parametrize("where", ["handler", "job"])
def test_an_actor_that_waits_for_its_own_systems_shutdown_does_not_hold_it_up(where: str) -> None:
    class Ender(TrioActor):
        def on_receive(self, system: ActorSystem) -> Any:
            if where == "handler":
                return system.shutdown()
            self.spawn(system.shutdown)
            return None

    async def main() -> None:
        async with open_system([ChildSpec(id="e", factory=Ender, name="e")]) as system:
            ref = system.directory.ref("e")
            ref.tell(system)
            assert await system.wait_stopped() == ExitReason(ExitKind.SHUTDOWN)
            assert ref.exit_reason == ExitReason(ExitKind.SHUTDOWN), "it was not killed for it"
            assert trio.current_time() == began

    began = 0.0

    async def on_a_clock() -> None:
        nonlocal began
        began = trio.current_time()
        await main()

    run_virtual(on_a_clock)


def test_a_kill_reaches_a_stop_hook_below_a_supervisor_that_is_waiting_for_it() -> None:
    async def main() -> None:
        lasting = ChildSpec(id="w", factory=lambda: Service([], teardown_s=1e9), shutdown_s=float("inf"))
        inner = ChildSpec(id="inner", factory=lambda: Supervisor([lasting]), name="inner")
        outer = ChildSpec(id="outer", factory=lambda: Supervisor([inner]), name="outer")
        async with open_system([outer]) as system, trio.open_nursery() as nursery:

            async def terminate() -> None:
                with pytest.raises(ActorDeadError):
                    await system.directory.ref("inner").terminate_child("w")  # type: ignore[attr-defined]

            nursery.start_soon(terminate)
            await trio.sleep(1)
            ref = system.directory.ref("outer")
            ref._cell.kill()
            assert (await ref.wait_stopped()).kind is ExitKind.KILLED
            assert trio.current_time() == pytest.approx(1)

    run_virtual(main)


def test_what_breaks_a_supervisors_own_task_is_raised_and_holds_nothing_up() -> None:
    def leave(report: Report) -> None:
        if report.event is ReportEvent.EXITED:
            raise SystemExit(3)

    async def main() -> None:
        async with open_system([service([])]) as system:
            system.reports.subscribe("leaver", leave)
            system.directory.ref("s").stop(block=False)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        run_virtual(main)
    assert caught.group_contains(SystemExit)
