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
    ActorSystem,
    ChildSpec,
    DynamicSupervisor,
    ExitKind,
    ExitReason,
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
