"""Supervisors that end with their significant children, and pings."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from skill_actors.runtime import (
    AutoShutdown,
    Backoff,
    ChildError,
    ChildSpec,
    DynamicSupervisor,
    ExitKind,
    ExitReason,
    Ping,
    Restart,
    Strategy,
    Supervisor,
    SupervisorRef,
    Timeout,
    TrioActor,
    open_system,
)
from support import run_virtual

SHUTDOWN = ExitReason(ExitKind.SHUTDOWN)


class Leaf(TrioActor):
    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__()
        self.name, self.log = name, log

    async def setup(self) -> None:
        self.log.append(f"+{self.name}")

    async def teardown(self, reason: ExitReason) -> None:
        self.log.append(f"-{self.name}")

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise ValueError("crash")
        self.stop()


def leaf(name: str, log: list[str], restart: Restart, **more: Any) -> ChildSpec:
    return ChildSpec(id=name, factory=lambda: Leaf(name, log), restart=restart, name=name, **more)


def family(log: list[str], mode: AutoShutdown, restart: Restart, **options: Any) -> ChildSpec:
    """A plain child, two significant ones and another plain one."""
    specs = [
        leaf("a", log, Restart.PERMANENT),
        leaf("s", log, restart, significant=True),
        leaf("t", log, restart, significant=True),
        leaf("z", log, Restart.PERMANENT),
    ]
    return ChildSpec(
        id="inner",
        name="inner",
        restart=Restart.TRANSIENT,
        factory=lambda: Supervisor(specs, auto_shutdown=mode, **options),
    )


async def end(system: Any, name: str, message: str) -> None:
    system.directory.ref(name).tell(message)
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
def test_any_significant_child_that_ends_ends_the_supervisor_in_reverse_order(restart: Restart) -> None:
    log: list[str] = []

    async def main() -> None:
        async with open_system([family(log, AutoShutdown.ANY_SIGNIFICANT, restart)]) as system:
            inner = system.directory.ref("inner")
            log.clear()
            await end(system, "s", "stop")
            assert inner.exit_reason == SHUTDOWN
            assert log == ["-s", "-z", "-t", "-a"]
            assert system.directory.whereis("inner") is None  # transient: SHUTDOWN is no reason to restart it

    run_virtual(main)


def test_all_significant_waits_for_the_last_of_them() -> None:
    log: list[str] = []

    async def main() -> None:
        async with open_system([family(log, AutoShutdown.ALL_SIGNIFICANT, Restart.TEMPORARY)]) as system:
            inner = system.directory.ref("inner")
            await end(system, "t", "crash")  # temporary: a crash is an end for good, too
            assert inner.is_alive()
            await end(system, "s", "stop")
            assert inner.exit_reason == SHUTDOWN

    run_virtual(main)


def test_a_crash_that_is_answered_by_a_restart_ends_nothing() -> None:
    log: list[str] = []

    async def main() -> None:
        async with open_system([family(log, AutoShutdown.ANY_SIGNIFICANT, Restart.TRANSIENT)]) as system:
            await end(system, "s", "crash")
            assert system.directory.ref("inner").is_alive()
            assert system.directory.ref("s").is_alive()

    run_virtual(main)


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
def test_an_end_that_the_supervisor_caused_ends_nothing(restart: Restart) -> None:
    log: list[str] = []

    async def main() -> None:
        spec = family(log, AutoShutdown.ANY_SIGNIFICANT, restart, strategy=Strategy.ONE_FOR_ALL)
        async with open_system([spec]) as system:
            inner = system.directory.ref("inner")
            assert isinstance(inner, SupervisorRef)
            await inner.terminate_child("s")
            await end(system, "a", "crash")  # takes t along
            assert inner.is_alive()

    run_virtual(main)


def test_a_significant_child_that_waits_for_its_restart_still_counts() -> None:
    """ALL_SIGNIFICANT: the model test holds this for every order; here is the plainest one."""
    log: list[str] = []

    async def main() -> None:
        spec = family(log, AutoShutdown.ALL_SIGNIFICANT, Restart.TRANSIENT, backoff=Backoff(initial_s=1))
        async with open_system([spec]) as system:
            inner = system.directory.ref("inner")
            await end(system, "s", "crash")
            await end(system, "t", "stop")
            assert inner.is_alive()
            await trio.sleep(1.1)
            await end(system, "s", "stop")
            assert inner.exit_reason == SHUTDOWN

    run_virtual(main)


def test_significant_children_are_refused_where_they_make_no_sense() -> None:
    log: list[str] = []
    with pytest.raises(ValueError, match="significant and permanent"):
        leaf("x", log, Restart.PERMANENT, significant=True)
    with pytest.raises(ValueError, match="significant and isolated"):
        leaf("x", log, Restart.TRANSIENT, significant=True, isolated=True)
    with pytest.raises(ValueError, match="required but not isolated"):
        leaf("x", log, Restart.TRANSIENT, required=True)
    with pytest.raises(ValueError, match="never ends with its children"):
        Supervisor([leaf("x", log, Restart.TRANSIENT, significant=True)])

    async def main() -> None:
        async with open_system([]) as system:
            with pytest.raises(ChildError, match="never ends with its children"):
                await system.root.start_child(leaf("x", log, Restart.TRANSIENT, significant=True))
            assert system.root.which_children() == ()

    run_virtual(main)


def test_supervisors_answer_a_ping_when_they_have_done_what_they_were_doing() -> None:
    class Slow(TrioActor):
        async def setup(self) -> None:
            await trio.sleep(3)

    async def main() -> None:
        rooms = ChildSpec(id="rooms", factory=lambda: DynamicSupervisor("room"), name="rooms")
        async with open_system([rooms]) as system:
            await system.root.call(Ping())
            await system.directory.ref("rooms").call(Ping())
            with pytest.raises(Exception, match="does not understand str"):
                await system.directory.ref("rooms").ask("what", block=False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(system.root.start_child, ChildSpec(id="slow", factory=Slow))
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(Timeout):
                    await system.root.call(Ping(), timeout=1)
                await system.root.call(Ping(), timeout=5)
                assert trio.current_time() == pytest.approx(3)

    run_virtual(main)
