"""OTP's supervision rules, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from skill_actors.runtime import (
    BRUTAL_KILL,
    ActorSystem,
    Backoff,
    ChildError,
    ChildSpec,
    ExitKind,
    ExitReason,
    ReportEvent,
    Reports,
    Restart,
    RestartLimitReached,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorRef,
    SystemFailed,
    TrioActor,
    open_system,
)
from support import run_virtual

Log = list[str]
Hook = Callable[[], Awaitable[object]]


class Leaf(TrioActor):
    """Writes its life into a shared log; crashes on "crash", stops on "stop", hangs on "hang" or "shield"."""

    def __init__(self, name: str, log: Log, *, setup: Hook | None = None, teardown: Hook | None = None) -> None:
        super().__init__()
        self.name, self.log = name, log
        self.on_setup, self.on_teardown = setup, teardown

    async def setup(self) -> None:
        if self.on_setup is not None:
            await self.on_setup()
        self.log.append(f"+{self.name}")

    async def teardown(self, reason: ExitReason) -> None:
        self.log.append(f"-{self.name}")
        if self.on_teardown is not None:
            await self.on_teardown()

    def on_receive(self, message: Any) -> Any:
        match message:
            case "crash":
                raise ValueError(f"{self.name} crashed")
            case "stop":
                self.stop()
            case "hang":
                return self.hang()
            case "shield":
                return self.shield(5)
            case _:
                return message
        return None

    async def hang(self) -> None:
        await trio.sleep_forever()

    async def shield(self, seconds: float) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)


async def fail() -> None:
    raise OSError("cannot start")


async def settle() -> None:
    """Let the supervisors finish what can be finished at this moment of virtual time."""
    await trio.testing.wait_all_tasks_blocked()


def leaf(name: str, log: Log, restart: Restart = Restart.PERMANENT, **more: Any) -> ChildSpec:
    hooks = {key: more.pop(key) for key in ("setup", "teardown") if key in more}
    return ChildSpec(id=name, factory=lambda: Leaf(name, log, **hooks), restart=restart, name=name, **more)


def abc(log: Log, **more: Any) -> list[ChildSpec]:
    return [leaf(name, log, **more) for name in "abc"]


@asynccontextmanager
async def tree(*specs: ChildSpec, log: Log, **options: Any) -> AsyncIterator[tuple[ActorSystem, SupervisorRef[Any]]]:
    """A supervisor of `specs` under a patient root; the log is cleared once they are up."""
    inner = ChildSpec(id="inner", factory=lambda: Supervisor(specs, **options), name="inner")
    async with open_system([inner], max_restarts=100) as system:
        ref = system.directory.ref("inner")
        assert isinstance(ref, SupervisorRef)
        log.clear()
        yield system, ref


def events(system: ActorSystem) -> list[tuple[str, str]]:
    return [(report.event.value, report.child) for report in system.reports.recent()]


def ids(ref: SupervisorRef[Any]) -> list[str]:
    return [child.id for child in ref.which_children()]


def alive(ref: SupervisorRef[Any]) -> list[str]:
    return [child.id for child in ref.which_children() if child.phase == "running"]


def tell(system: ActorSystem, name: str, message: str) -> None:
    system.directory.ref(name).tell(message)


def test_children_start_in_order_and_stop_in_reverse() -> None:
    log: Log = []

    async def main() -> None:
        async with open_system(abc(log)):
            assert log == ["+a", "+b", "+c"]

    run_virtual(main)
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_a_crash_in_one_childs_shutdown_does_not_stop_the_rest() -> None:
    log: Log = []
    reports = Reports()

    async def main() -> None:
        specs = [leaf("a", log), leaf("b", log, teardown=fail), leaf("c", log)]
        async with open_system(specs, reports=reports):
            log.clear()

    run_virtual(main)
    assert log == ["-c", "-b", "-a"]
    assert [(one.event, one.child, one.kind) for one in reports.recent()] == [(ReportEvent.EXITED, "b", ExitKind.CRASH)]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["-b", "+b"]),
        (Strategy.ONE_FOR_ALL, ["-b", "-c", "-a", "+a", "+b", "+c"]),
        (Strategy.REST_FOR_ONE, ["-b", "-c", "+b", "+c"]),
    ],
)
def test_a_strategy_decides_who_is_restarted_with_the_child(strategy: Strategy, expected: Log) -> None:
    log: Log = []

    async def main() -> None:
        async with tree(*abc(log), log=log, strategy=strategy) as (system, inner):
            tell(system, "b", "crash")
            await settle()
            assert log == expected
            assert alive(inner) == ["a", "b", "c"]
            assert await system.directory.ref("b").ask("hello", block=False) == "hello"

    run_virtual(main)


@pytest.mark.parametrize(
    ("restart", "message", "comes_back", "stays_listed"),
    [
        (Restart.PERMANENT, "stop", True, True),
        (Restart.PERMANENT, "crash", True, True),
        (Restart.TRANSIENT, "stop", False, True),
        (Restart.TRANSIENT, "crash", True, True),
        (Restart.TEMPORARY, "stop", False, False),
        (Restart.TEMPORARY, "crash", False, False),
    ],
)
def test_a_restart_type_decides_whether_a_child_comes_back(
    restart: Restart, message: str, comes_back: bool, stays_listed: bool
) -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log, restart), log=log) as (system, inner):
            tell(system, "a", message)
            await settle()
            assert alive(inner) == (["a"] if comes_back else [])
            assert ids(inner) == (["a"] if stays_listed else [])
            assert (system.directory.whereis("a") is not None) is comes_back

    run_virtual(main)


def test_a_temporary_sibling_is_dropped_by_one_for_all() -> None:
    log: Log = []

    async def main() -> None:
        specs = [leaf("a", log), leaf("b", log, Restart.TEMPORARY), leaf("c", log)]
        async with tree(*specs, log=log, strategy=Strategy.ONE_FOR_ALL) as (system, inner):
            tell(system, "c", "crash")
            await settle()
            assert ids(inner) == ["a", "c"]
            assert log == ["-c", "-b", "-a", "+a", "+c"]

    run_virtual(main)


def test_crashes_of_temporary_children_are_not_counted() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log, max_restarts=0) as (system, inner):
            for _ in range(10):
                ref = await inner.start_child(leaf("t", log, Restart.TEMPORARY))
                ref.tell("crash")
                await settle()
            assert alive(inner) == ["a"]
            assert ("escalated", "root/inner") not in events(system)

    run_virtual(main)


async def crash_times(system: ActorSystem, name: str, times: int, every_s: float = 0.0) -> None:
    for _ in range(times):
        await trio.sleep(every_s)
        tell(system, name, "crash")
        await settle()


def test_as_many_restarts_as_the_limit_survive_and_one_more_escalates() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(*abc(log), log=log, max_restarts=3, period_s=5) as (system, inner):
            await crash_times(system, "a", 3)
            assert alive(inner) == ["a", "b", "c"]
            await crash_times(system, "b", 1)  # the budget is the supervisor's, not the child's
            reason = await inner.wait_stopped()
            assert reason.kind is ExitKind.SHUTDOWN
            assert isinstance(reason.error, RestartLimitReached)

    run_virtual(main)


def test_the_period_slides() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(*abc(log), log=log, max_restarts=2, period_s=5) as (system, inner):
            await crash_times(system, "a", 10, every_s=2.6)
            assert inner.is_alive()
            await crash_times(system, "a", 2, every_s=1)
            assert not inner.is_alive()

    run_virtual(main)


def test_a_supervisor_that_gives_up_is_built_anew_by_its_permanent_spec() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(*abc(log), log=log, max_restarts=0) as (system, inner):
            tell(system, "b", "crash")
            await inner.wait_stopped()
            await settle()
            assert log == ["-b", "-c", "-a", "+a", "+b", "+c"]
            rebuilt = system.directory.ref("inner")
            assert rebuilt is not inner
            assert events(system) == [
                ("exited", "b"),
                ("escalated", "root/inner"),
                ("restarted", "inner"),
            ]

    run_virtual(main)


def test_a_supervisor_that_gives_up_stays_down_if_its_spec_is_transient() -> None:
    log: Log = []

    async def main() -> None:
        spec = ChildSpec(
            id="inner", factory=lambda: Supervisor(abc(log), max_restarts=0), name="inner", restart=Restart.TRANSIENT
        )
        async with open_system([spec]) as system:
            tell(system, "a", "crash")
            await settle()
            assert system.directory.whereis("inner") is None
            assert [child.phase for child in system.root.which_children()] == ["stopped"]

    run_virtual(main)


def test_a_root_that_gives_up_cancels_the_block_and_says_why() -> None:
    log: Log = []

    async def main() -> None:
        async def use() -> None:
            async with open_system(abc(log), max_restarts=1) as system:
                await crash_times(system, "a", 2)
                await trio.sleep_forever()

        with pytest.raises(SystemFailed, match="more than 1 restarts in 5 s") as caught:
            await use()
        assert isinstance(caught.value.__cause__, RestartLimitReached)
        assert log[-2:] == ["-c", "-b"]

    run_virtual(main)


def test_a_failed_start_at_boot_stops_the_started_siblings_in_reverse() -> None:
    log: Log = []

    async def main() -> None:
        with pytest.raises(StartFailed, match="cannot start") as caught:
            async with open_system([*abc(log), leaf("d", log, setup=fail), leaf("e", log)]):
                pytest.fail("the block must not run")
        assert isinstance(caught.value.__cause__, OSError)

    run_virtual(main)
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_a_factory_that_raises_or_makes_something_else_is_a_failed_start() -> None:
    shared = Leaf("shared", [])

    def broken() -> TrioActor:
        raise OSError("no such file")

    class Forgetful(TrioActor):
        def __init__(self) -> None:
            """Forgets super().__init__()."""

    factories: list[tuple[Callable[[], Any], str]] = [
        (broken, "no such file"),
        (lambda: "text", "must make a TrioActor, not 'text'"),
        (Forgetful, "does not call super"),
    ]

    async def main() -> None:
        async with open_system([ChildSpec(id="shared", factory=lambda: shared)]) as system:
            for factory, words in [*factories, (lambda: shared, "was started before")]:
                with pytest.raises(StartFailed, match=words):
                    await system.root.start_child(ChildSpec(id="x", factory=factory))
            assert ids(system.root) == ["shared"]

    run_virtual(main)


def test_each_failed_restart_counts_until_the_supervisor_gives_up() -> None:
    log: Log = []
    attempts: list[float] = []

    async def flaky() -> None:
        attempts.append(trio.current_time())
        if 1 < len(attempts) < 5:
            raise OSError("gone")

    async def main() -> None:
        async with tree(leaf("a", log, setup=flaky), log=log, max_restarts=3) as (system, inner):
            tell(system, "a", "crash")
            reason = await inner.wait_stopped()
            assert isinstance(reason.error, RestartLimitReached)
            await settle()
            assert len(attempts) == 5
            assert system.directory.whereis("a") is not None

    run_virtual(main)


def test_after_a_failed_restart_the_rest_of_the_group_waits_for_the_retry() -> None:
    log: Log = []
    failures, armed = [OSError("once")], list[bool]()

    async def once() -> None:
        if armed and failures:
            raise failures.pop()

    async def main() -> None:
        specs = [leaf("a", log), leaf("b", log, setup=once), leaf("c", log)]
        async with tree(*specs, log=log, strategy=Strategy.ONE_FOR_ALL) as (system, inner):
            armed.append(True)
            tell(system, "a", "crash")
            await settle()
            assert log == ["-a", "-c", "-b", "+a", "-a", "+a", "+b", "+c"]
            assert alive(inner) == ["a", "b", "c"]

    run_virtual(main)


def test_a_hanging_teardown_is_killed_at_its_time_and_not_before() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(
            leaf("a", log), leaf("b", log, shutdown_s=3, teardown=trio.sleep_forever), leaf("c", log), log=log
        ) as (system, _):
            begin = trio.current_time()
            await system.root.terminate_child("inner")
            assert trio.current_time() - begin == pytest.approx(3)
            assert log == ["-c", "-b", "-a"]
            assert ("killed", "b") in events(system)

    run_virtual(main)


def test_a_hanging_handler_is_cancelled_at_once_by_a_stop() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log) as (system, inner):
            tell(system, "a", "hang")
            await settle()
            begin = trio.current_time()
            await inner.terminate_child("a")
            assert trio.current_time() == begin
            assert log == ["-a"]

    run_virtual(main)


def test_brutal_kill_runs_no_hook() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log, shutdown_s=BRUTAL_KILL), log=log) as (system, inner):
            ref = system.directory.ref("a")
            await inner.terminate_child("a")
            assert ref.exit_reason == ExitReason(ExitKind.KILLED)
            assert log == []

    run_virtual(main)


def test_a_child_that_ignores_cancellation_is_reported_and_its_siblings_still_stop() -> None:
    log: Log = []
    reports = Reports()

    async def main() -> None:
        specs = [leaf("a", log), leaf("b", log, shutdown_s=1), leaf("c", log)]
        async with open_system(specs, reports=reports) as system:
            log.clear()
            tell(system, "b", "shield")
            await settle()
        assert trio.current_time() == pytest.approx(5)  # a nursery cannot end before its task does

    run_virtual(main)
    assert log == ["-c", "-a"]
    assert ("unkillable", "b") in [(one.event.value, one.child) for one in reports.recent()]


def test_an_unkillable_child_is_never_replaced() -> None:
    log: Log = []

    async def main() -> None:
        specs = [leaf("a", log), leaf("b", log, shutdown_s=1)]
        async with tree(*specs, log=log, strategy=Strategy.ONE_FOR_ALL) as (system, inner):
            tell(system, "b", "shield")
            await settle()
            tell(system, "a", "crash")
            await trio.sleep(3)
            assert "+b" not in log
            assert ("escalated", "root/inner") in events(system)
            await inner.wait_stopped()
            await settle()
            assert log == ["-a", "+a", "+b"]

    run_virtual(main)


def test_shutdown_during_a_backoff_returns_at_once() -> None:
    log: Log = []

    async def main() -> None:
        backoff = Backoff(initial_s=1000, max_s=1000)
        async with tree(leaf("a", log), log=log, backoff=backoff) as (system, inner):
            tell(system, "a", "crash")
            await settle()
            assert [child.phase for child in inner.which_children()] == ["waiting"]
            await system.root.terminate_child("inner")
            assert trio.current_time() < 1

    run_virtual(main)


def test_shutdown_during_a_slow_start_returns_at_once() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log) as (system, inner):
            async with trio.open_nursery() as nursery:

                async def start() -> None:
                    with pytest.raises(Exception, match=r"stopped|did not start"):
                        await inner.start_child(leaf("slow", log, setup=trio.sleep_forever, start_timeout_s=1000))

                nursery.start_soon(start)
                await settle()
                await system.root.terminate_child("inner")
            assert trio.current_time() < 1
            assert log == ["-a"]

    run_virtual(main)


def test_shutdown_during_a_slow_boot_returns_at_once() -> None:
    log: Log = []

    async def main() -> None:
        with trio.move_on_after(1):
            async with open_system([leaf("a", log), leaf("slow", log, setup=trio.sleep_forever, start_timeout_s=1000)]):
                pytest.fail("the block must not run")
        assert trio.current_time() == pytest.approx(1)

    run_virtual(main)
    assert log == ["+a", "-a"]


def test_a_backoff_spaces_restarts_and_counts_each_once() -> None:
    log: Log = []

    async def main() -> None:
        backoff = Backoff(initial_s=1, factor=2, max_s=4)
        async with tree(leaf("a", log), log=log, backoff=backoff, max_restarts=5, period_s=60) as (system, inner):
            for delay_s in (1, 2, 4, 4):
                tell(system, "a", "crash")
                await trio.sleep(delay_s - 0.01)
                assert alive(inner) == []
                await trio.sleep(0.02)
                assert alive(inner) == ["a"]
            await trio.sleep(70)
            tell(system, "a", "crash")
            await trio.sleep(1.01)
            assert alive(inner) == ["a"]

    run_virtual(main)


def test_an_isolated_child_is_restarted_for_ever_and_hurts_nobody() -> None:
    log: Log = []

    async def main() -> None:
        backoff = Backoff(initial_s=0.1, factor=1, max_s=0.1)
        specs = [leaf("a", log), leaf("i", log, isolated=True, backoff=backoff), leaf("c", log)]
        options: dict[str, Any] = {"strategy": Strategy.ONE_FOR_ALL, "max_restarts": 0}
        async with tree(*specs, log=log, **options) as (system, inner):
            refs = {name: system.directory.ref(name) for name in "ac"}
            for _ in range(20):
                (await system.directory.wait("i")).tell("crash")
                await trio.sleep(0.25)
            assert log == ["-i", "+i"] * 20
            assert alive(inner) == ["a", "i", "c"]
            assert all(system.directory.ref(name) is ref for name, ref in refs.items())

    run_virtual(main)


def test_an_isolated_child_that_cannot_start_does_not_stop_the_boot() -> None:
    log: Log = []
    broken = [True]

    async def setup() -> None:
        if broken:
            raise OSError("not yet")

    async def main() -> None:
        async with tree(leaf("i", log, isolated=True, setup=setup), leaf("b", log), log=log) as (system, inner):
            assert alive(inner) == ["b"]
            await trio.sleep(1000)
            assert alive(inner) == ["b"]
            broken.clear()
            await trio.sleep(31)
            assert alive(inner) == ["i", "b"]
            assert await system.directory.ref("i").ask("hi", block=False) == "hi"

    run_virtual(main)


def test_an_isolated_temporary_child_is_refused() -> None:
    with pytest.raises(ValueError, match="isolated and temporary"):
        leaf("x", [], Restart.TEMPORARY, isolated=True)


def test_children_are_added_terminated_restarted_and_deleted() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log) as (system, inner):
            ref = await inner.start_child(leaf("b", log))
            assert inner.child("b") is ref
            with pytest.raises(ChildError, match="has a child 'b' already"):
                await inner.start_child(leaf("b", log))
            with pytest.raises(ChildError, match="is running"):
                await inner.delete_child("b")
            await inner.terminate_child("b")
            await inner.terminate_child("b")
            assert inner.child("b") is None
            assert ids(inner) == ["a", "b"]
            assert await inner.restart_child("b") is not ref
            await inner.terminate_child("b")
            await inner.delete_child("b")
            for action in (inner.terminate_child, inner.restart_child, inner.delete_child):
                with pytest.raises(ChildError, match=r"no child 'b' \(it has: a\)"):
                    await action("b")
            assert inner.is_alive()
            assert events(system) == []

    run_virtual(main)


def test_a_terminated_child_does_not_come_back_from_its_backoff() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log, backoff=Backoff(initial_s=1)) as (system, inner):
            tell(system, "a", "crash")
            await settle()
            await inner.terminate_child("a")
            await trio.sleep(10)
            assert alive(inner) == []
            assert log == ["-a"]

    run_virtual(main)


def test_a_crash_at_the_moment_of_a_group_restart_is_not_counted_twice() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(*abc(log), log=log, strategy=Strategy.ONE_FOR_ALL, max_restarts=1) as (system, inner):
            for name in "abc":
                tell(system, name, "crash")
            await settle()
            assert inner.is_alive()
            assert alive(inner) == ["a", "b", "c"]

    run_virtual(main)


def test_a_name_is_unique_and_is_given_back() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log) as (system, inner):
            taken = ChildSpec(id="other", factory=lambda: Leaf("other", log), name="a")
            with pytest.raises(StartFailed, match="name 'a' is held"):
                await inner.start_child(taken)
            await inner.terminate_child("a")
            await inner.start_child(taken)
            assert system.directory.ref("a").child_id == "other"

    run_virtual(main)


def test_two_children_with_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="have the id 'a'"):
        Supervisor([leaf("a", []), leaf("a", [])])


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_times_that_make_no_sense_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="shutdown_s of child 'a'"):
        leaf("a", [], shutdown_s=value)
    with pytest.raises(ValueError, match="max_restarts"):
        Supervisor(period_s=value)


def test_a_supervisor_refuses_messages_it_does_not_know_and_lives() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log), log=log) as (_, inner):
            with pytest.raises(ChildError, match="does not understand str"):
                await inner.ask("what", block=False)
            inner.tell("what")
            await settle()
            assert alive(inner) == ["a"]

    run_virtual(main)


def test_the_task_tree_is_the_supervision_tree() -> None:
    log: Log = []

    def names(task: trio.lowlevel.Task) -> set[str]:
        found = {task.name}
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                found |= names(child)
        return found

    async def main() -> None:
        async with tree(*abc(log), log=log) as (system, _):
            paths = {info.path for info in system.walk()}
            assert paths == {"root", "root/inner", "root/inner/a", "root/inner/b", "root/inner/c"}
            assert paths <= names(trio.lowlevel.current_task())

    run_virtual(main)
