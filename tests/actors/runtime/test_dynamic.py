"""Children made on demand."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from skill_actors.runtime import (
    BRUTAL_KILL,
    ActorDeadError,
    ChildError,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitKind,
    ExitReason,
    ReportEvent,
    Reports,
    StartFailed,
    TrioActor,
    open_system,
)
from support import run, run_virtual

Ref = DynamicSupervisorRef[DynamicSupervisor]


class Child(TrioActor):
    def __init__(self, teardown_s: float = 0.0, setup_s: float = 0.0) -> None:
        super().__init__()
        self.teardown_s, self.setup_s = teardown_s, setup_s

    async def setup(self) -> None:
        await trio.sleep(self.setup_s)

    async def teardown(self, reason: ExitReason) -> None:
        await trio.sleep(self.teardown_s)

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise ValueError("crash")
        if message == "shield":
            return self.shield()
        return message

    async def shield(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)


def dynamic(**options: Any) -> ChildSpec:
    return ChildSpec(id="sessions", factory=lambda: DynamicSupervisor("session", **options), name="sessions")


def only_ref(system: Any) -> Ref:
    ref = system.directory.ref("sessions")
    assert isinstance(ref, DynamicSupervisorRef)
    return ref


def test_a_hundred_children_of_which_fifty_hang_are_gone_within_one_timeout() -> None:
    reports = Reports()

    async def main() -> None:
        async with open_system([dynamic(shutdown_s=5)], reports=reports) as system:
            sessions = only_ref(system)
            for number in range(100):
                await sessions.spawn(Child(teardown_s=1000 if number % 2 else 1), id=str(number))
            assert sessions.count_children() == 100
            begin = trio.current_time()
            await system.root.terminate_child("sessions")
            assert trio.current_time() - begin == pytest.approx(5)

    run_virtual(main)
    assert [one.event for one in reports.recent() if one.event is ReportEvent.KILLED] == [ReportEvent.KILLED] * 50
    assert {one.child for one in reports.recent()} == {"session"}


def test_a_crash_ends_the_child_and_nobody_else() -> None:
    async def main() -> None:
        async with open_system([dynamic()], max_restarts=0) as system:
            sessions = only_ref(system)
            other = await sessions.spawn(Child, id="other")
            for _ in range(20):
                ref = await sessions.spawn(Child, id="bad")
                ref.tell("crash")
                await ref.wait_stopped()
                await trio.testing.wait_all_tasks_blocked()
            assert sessions.child("bad") is None
            assert await other.ask("hello", block=False) == "hello"
            assert {one.child for one in system.reports.recent()} == {"session"}

    run_virtual(main)


def test_ids_are_unique_among_the_living() -> None:
    async def main() -> None:
        async with open_system([dynamic()]) as system:
            sessions = only_ref(system)
            ref = await sessions.spawn(Child, id="a")
            assert sessions.child("a") is ref
            assert ref.child_id == "a"
            with pytest.raises(ChildError, match="has a session 'a' already"):
                await sessions.spawn(Child, id="a")
            await sessions.terminate_child("a")
            assert ref.exit_reason == ExitReason(ExitKind.SHUTDOWN)
            assert sessions.child("a") is None
            with pytest.raises(ChildError, match="has no session 'a'"):
                await sessions.terminate_child("a")
            await sessions.spawn(Child, id="a")

    run_virtual(main)


def test_ensure_finds_waits_or_makes() -> None:
    async def main() -> None:
        async with open_system([dynamic()]) as system:
            sessions = only_ref(system)
            found: list[object] = []

            async def ask() -> None:
                found.append(await sessions.ensure("a", lambda: Child(setup_s=1, teardown_s=1)))

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ask)
            assert len(set(found)) == 1
            first = await sessions.ensure("a", Child)
            assert first is found[0]
            first.stop(block=False)
            await trio.testing.wait_all_tasks_blocked()
            begin = trio.current_time()
            second = await sessions.ensure("a", Child)
            assert second is not first
            assert trio.current_time() == pytest.approx(begin + 1)  # the old one had to end first

    run_virtual(main)


def test_children_start_concurrently() -> None:
    async def main() -> None:
        async with open_system([dynamic()]) as system, trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(spawn, only_ref(system), number)
        assert trio.current_time() == pytest.approx(3)

    async def spawn(sessions: Ref, number: int) -> None:
        await sessions.spawn(Child(setup_s=3), id=str(number))

    run_virtual(main)


def test_a_cancelled_spawn_leaves_the_child_to_whoever_asks_next() -> None:
    async def main() -> None:
        async with open_system([dynamic()]) as system:
            sessions = only_ref(system)
            with trio.move_on_after(1):
                await sessions.spawn(Child(setup_s=3), id="a")
            ref = await sessions.ensure("a", Child)
            assert trio.current_time() == pytest.approx(3)
            assert ref.is_alive()

    run_virtual(main)


def test_failing_factories_are_failed_starts() -> None:
    def broken() -> Child:
        raise OSError("no memory")

    async def main() -> None:
        async with open_system([dynamic()]) as system:
            sessions = only_ref(system)
            with pytest.raises(StartFailed, match="no memory"):
                await sessions.spawn(broken, id="a")
            assert sessions.count_children() == 0

    run_virtual(main)


def test_one_child_too_many_is_refused() -> None:
    async def main() -> None:
        async with open_system([dynamic(max_children=2)]) as system:
            sessions = only_ref(system)
            for name in "ab":
                await sessions.spawn(Child, id=name)
            with pytest.raises(ChildError, match="its 2 children already"):
                await sessions.spawn(Child, id="c")
            await sessions.terminate_child("a")
            await sessions.spawn(Child, id="c")

    run_virtual(main)


def test_nothing_is_spawned_under_a_supervisor_that_ends() -> None:
    async def main() -> None:
        async with open_system([dynamic(shutdown_s=2)]) as system:
            sessions = only_ref(system)
            await sessions.spawn(Child(teardown_s=1), id="a")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(system.root.terminate_child, "sessions")
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(ActorDeadError):
                    await sessions.spawn(Child, id="b")
        with pytest.raises(ActorDeadError):
            await sessions.spawn(Child, id="b")

    run_virtual(main)


def test_brutal_kill_and_unkillable_children() -> None:
    reports = Reports()

    async def main() -> None:
        async with open_system([dynamic(shutdown_s=BRUTAL_KILL)], reports=reports) as system:
            sessions = only_ref(system)
            ref = await sessions.spawn(Child(teardown_s=1000), id="a")
            await sessions.terminate_child("a")
            assert ref.exit_reason == ExitReason(ExitKind.KILLED)
            stuck = await sessions.spawn(Child, id="b")
            stuck.tell("shield")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ChildError, match="ignores cancellation"):
                await sessions.terminate_child("b")
            with pytest.raises(ChildError, match="already"):
                await sessions.spawn(Child, id="b")

    run_virtual(main)
    assert ReportEvent.UNKILLABLE in [one.event for one in reports.recent()]


def test_a_cancelled_terminate_goes_on() -> None:
    async def main() -> None:
        async with open_system([dynamic(shutdown_s=5)]) as system:
            sessions = only_ref(system)
            await sessions.spawn(Child(teardown_s=1000), id="a")
            with trio.move_on_after(1):
                await sessions.terminate_child("a")
            await trio.sleep(4.5)
            assert sessions.count_children() == 0

    run_virtual(main)


def test_thousands_of_idle_children_stop_quickly() -> None:
    async def main() -> float:
        async with open_system([dynamic()]) as system:
            sessions = only_ref(system)
            for number in range(3000):
                await sessions.spawn(Child, id=str(number))
            begin = trio.current_time()
            await system.root.terminate_child("sessions")
            return trio.current_time() - begin

    assert run(main) < 3
