"""OTP's supervision rules, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pykka
import pytest
import trio

from skill_actors.runtime import (
    BRUTAL_KILL,
    ActorSystem,
    AutoShutdown,
    Backoff,
    ChildError,
    ChildInfo,
    ChildSpec,
    Down,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitKind,
    ExitReason,
    Ping,
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
from skill_actors.runtime.spec import DEFAULT_START_TIMEOUT_S
from skill_actors.runtime.supervisor import _Child, _Exited
from skill_actors.runtime.survey import Survey
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
        (lambda: "text", "must make a TrioActor or a ThreadActor, not 'text'"),
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


def test_a_ping_is_answered_by_any_supervisor() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log), log=log) as (system, inner):
            await system.root.call(Ping())
            await inner.call(Ping())

    run_virtual(main)


def test_a_refusal_names_the_child_and_the_children_there_are() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log), leaf("b", log), log=log) as (_, inner):
            assert inner.child("nobody") is None
            with pytest.raises(ChildError, match=r"^supervisor root/inner has no child 'c' \(it has: a, b\)$"):
                await inner.terminate_child("c")
            significant = leaf("c", log, Restart.TRANSIENT, significant=True)
            with pytest.raises(ChildError, match=r"^supervisor root/inner: child 'c' is significant, but"):
                await inner.start_child(significant)
            for id in "ab":
                await inner.terminate_child(id)
                await inner.delete_child(id)
            with pytest.raises(ChildError, match=r"\(it has: none\)$"):
                await inner.terminate_child("a")

    run_virtual(main)


def test_a_child_that_waits_for_its_restart_is_not_restarted_by_hand() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log), log=log, backoff=Backoff(initial_s=5)) as (system, inner):
            tell(system, "a", "crash")
            await settle()
            for refused in (inner.restart_child, inner.delete_child):
                with pytest.raises(ChildError, match=r"^child 'a' of root/inner waits for its restart; terminate"):
                    await refused("a")

    run_virtual(main)


def test_a_temporary_child_that_is_terminated_is_forgotten() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log), leaf("b", log, Restart.TEMPORARY), log=log) as (_, inner):
            await inner.terminate_child("b")
            assert ids(inner) == ["a"]

    run_virtual(main)


def test_who_asks_for_the_end_of_an_unkillable_child_is_told() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log, shutdown_s=0.5), log=log) as (system, inner):
            tell(system, "a", "shield")
            await settle()
            with pytest.raises(ChildError, match=r"^child 'a' of root/inner ignores cancellation and could not be"):
                await inner.terminate_child("a")

    run_virtual(main)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, []),
        (Strategy.ONE_FOR_ALL, ["+a", "+c"]),
        (Strategy.REST_FOR_ONE, ["+c"]),
    ],
)
def test_the_siblings_of_a_child_that_is_terminated_in_its_backoff_come_back_without_it(
    strategy: Strategy, expected: Log
) -> None:
    async def main() -> None:
        log: Log = []
        async with tree(*abc(log), log=log, strategy=strategy, backoff=Backoff(initial_s=5)) as (system, inner):
            tell(system, "b", "crash")
            await settle()
            log.clear()
            await inner.terminate_child("b")
            assert log == expected
            await trio.sleep(60)
            assert alive(inner) == ["a", "c"]

    run_virtual(main)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["+b"]),
        (Strategy.ONE_FOR_ALL, ["+a", "+b", "+c"]),
        (Strategy.REST_FOR_ONE, ["+b", "+c"]),
    ],
)
def test_a_strategy_holds_after_a_backoff_too(strategy: Strategy, expected: Log) -> None:
    async def main() -> None:
        log: Log = []
        async with tree(*abc(log), log=log, strategy=strategy, backoff=Backoff(initial_s=5)) as (system, inner):
            tell(system, "b", "crash")
            await settle()
            log.clear()
            await trio.sleep(6)
            assert log == expected
            assert alive(inner) == ["a", "b", "c"]

    run_virtual(main)


def test_a_backoff_begins_anew_when_the_child_has_served_for_its_reset_time() -> None:
    """At any time of the clock, and exactly at the bound."""
    backoff = Backoff(initial_s=1, factor=2, max_s=60, reset_s=10)
    child = _Child(ChildSpec(id="a", factory=TrioActor))
    delays = []
    for started_at, ended_at in ((100, 101), (102, 111.9), (116, 126), (127, 200)):
        child.started_at = started_at
        delays.append(child.next_delay_s(backoff, ended_at))
    delays.append(child.next_delay_s(backoff, 300))  # it did not start
    assert delays == [1, 2, 1, 1, 2]


def test_giving_up_is_reported_under_the_supervisors_own_supervisor_with_its_reason() -> None:
    async def main() -> None:
        log: Log = []
        below = ChildSpec(id="below", factory=lambda: Supervisor([leaf("a", log)], max_restarts=0), name="below")
        async with tree(below, log=log) as (system, _):
            tell(system, "a", "crash")
            await settle()
            (report,) = [one for one in system.reports.recent() if one.event is ReportEvent.ESCALATED]
            assert (report.supervisor, report.child) == ("root/inner", "root/inner/below")
            assert report.kind is ExitKind.SHUTDOWN
            assert "more than 0 restarts in 5 s (last: a)" in report.message

    run_virtual(main)


def significant(name: str, log: Log, restart: Restart = Restart.TRANSIENT) -> ChildSpec:
    return leaf(name, log, restart, significant=True)


def end_of(message: str, auto: AutoShutdown, *names: str, backoff: Backoff | None = None) -> Log:
    """What the children log when those of `names` are told `message`, one after the other; a and c are significant."""
    log: Log = []
    specs = [significant("a", log), leaf("b", log, Restart.TRANSIENT), significant("c", log, Restart.TEMPORARY)]

    async def main() -> Log:
        inner = ChildSpec(
            id="inner",
            factory=lambda: Supervisor(specs, auto_shutdown=auto, backoff=backoff),
            restart=Restart.TRANSIENT,  # so that it stays down after SHUTDOWN
        )
        async with open_system([inner]) as system:
            log.clear()
            for name in names:
                tell(system, name, message)
                await settle()
            return [*log, system.root.which_children()[0].phase]

    return run_virtual(main)


def test_the_end_of_any_significant_child_ends_the_supervisor() -> None:
    assert end_of("stop", AutoShutdown.ANY_SIGNIFICANT, "a") == ["-a", "-c", "-b", "stopped"]
    assert end_of("stop", AutoShutdown.ANY_SIGNIFICANT, "c") == ["-c", "-b", "-a", "stopped"]
    assert end_of("stop", AutoShutdown.ANY_SIGNIFICANT, "b") == ["-b", "running"]


def test_the_end_of_the_last_significant_child_ends_the_supervisor() -> None:
    assert end_of("stop", AutoShutdown.ALL_SIGNIFICANT, "a") == ["-a", "running"]
    assert end_of("stop", AutoShutdown.ALL_SIGNIFICANT, "a", "b") == ["-a", "-b", "running"]
    assert end_of("stop", AutoShutdown.ALL_SIGNIFICANT, "a", "c") == ["-a", "-c", "-b", "stopped"]


def test_a_significant_child_that_is_restarted_has_not_ended() -> None:
    assert end_of("crash", AutoShutdown.ANY_SIGNIFICANT, "a") == ["-a", "+a", "running"]
    # c ends for good while a waits for its restart, which still counts as there
    assert end_of("crash", AutoShutdown.ALL_SIGNIFICANT, "a", "c", backoff=Backoff(initial_s=5)) == [
        *("-a", "-c"),
        "running",
    ]


class Fickle(TrioActor):
    """Cannot be set up while `fails` is not empty; notes when it was tried."""

    def __init__(self, tries: list[float], fails: list[object]) -> None:
        super().__init__()
        self.tries = tries
        self.fails = fails

    async def setup(self) -> None:
        self.tries.append(trio.current_time())
        if self.fails:
            self.fails.pop()
            raise OSError("cannot start")

    def on_receive(self, message: Any) -> None:
        raise ValueError(message)


def test_an_isolated_child_waits_longer_each_time_from_the_boot_on() -> None:
    async def main() -> list[float]:
        tries: list[float] = []
        spec = ChildSpec(
            id="a",
            factory=lambda: Fickle(tries, fails),
            name="a",
            isolated=True,
            backoff=Backoff(initial_s=1, reset_s=100),
        )
        fails: list[object] = [1, 2]
        async with open_system([spec]) as system:
            await trio.sleep(10)
            tell(system, "a", "crash")
            await trio.sleep(10)
        return tries

    assert run_virtual(main) == [0, 1, 3, 14]  # 10 + 4


def test_an_isolated_child_that_fails_in_a_group_restart_does_not_hold_up_the_others() -> None:
    async def main() -> None:
        log: Log = []
        fails: list[object] = []
        isolated = ChildSpec(id="b", factory=lambda: Fickle([], fails), isolated=True, backoff=Backoff(initial_s=1))
        specs = [leaf("a", log), isolated, leaf("c", log)]
        async with tree(*specs, log=log, strategy=Strategy.ONE_FOR_ALL) as (system, inner):
            fails.append(1)
            tell(system, "a", "crash")
            await settle()
            assert alive(inner) == ["a", "c"]
            await trio.sleep(2)
            assert alive(inner) == ["a", "b", "c"]

    run_virtual(main)


def test_a_child_that_was_started_by_hand_in_a_backoff_is_left_alone_by_the_restart() -> None:
    async def main() -> None:
        log: Log = []
        backoff = Backoff(initial_s=5)
        async with tree(*abc(log), log=log, strategy=Strategy.ONE_FOR_ALL, backoff=backoff) as (system, inner):
            tell(system, "b", "crash")
            await settle()
            log.clear()
            await inner.restart_child("a")
            await trio.sleep(6)
            assert log == ["+a", "+b", "+c"]

    run_virtual(main)


def test_an_exit_that_comes_with_the_supervisors_stop_starts_nothing() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log) as (_, inner):
            actor = inner._actor_weakref()
            assert actor is not None
            child = actor._children["a"]
            assert child.ref is not None
            inner._cell.mailbox.put_control(_Exited(child, child.ref, ExitReason(ExitKind.CRASH)))
            inner._cell.request_stop(ExitReason(ExitKind.SHUTDOWN))
            await inner.wait_stopped()
            assert log == ["-a"]

    run_virtual(main)


def test_a_supervisor_may_watch_others() -> None:
    seen: list[ExitKind] = []

    class Watching(Supervisor):
        def on_down(self, down: Down) -> None:
            seen.append(down.reason.kind)

        async def setup(self) -> None:
            await super().setup()
            self.monitor(self.directory.ref("a"))

    async def main() -> None:
        watching = ChildSpec(id="watching", factory=Watching)
        async with open_system([leaf("a", []), watching]) as system:
            await system.root.terminate_child("a")
            await settle()
            assert seen == [ExitKind.SHUTDOWN]

    run_virtual(main)


def test_why_a_supervisor_gave_up_on_an_unkillable_child_is_reported() -> None:
    async def main() -> None:
        log: Log = []
        specs = [leaf("a", log), leaf("b", log, shutdown_s=1)]
        async with tree(*specs, log=log, strategy=Strategy.ONE_FOR_ALL) as (system, _):
            tell(system, "b", "shield")
            await settle()
            tell(system, "a", "crash")
            await trio.sleep(3)
            (report,) = [one for one in system.reports.recent() if one.event is ReportEvent.ESCALATED]
            assert report.message.endswith("UnkillableChild: root/inner: child b ignores cancellation")

    run_virtual(main)


def reports_of(spec: ChildSpec) -> list[tuple[str, ExitKind | None, bool, str]]:
    """Events, kinds, whether the message names an OSError, and classes: of one child that cannot start."""
    reports = Reports()

    async def main() -> None:
        async with open_system(reports=reports) as system:
            with pytest.raises(StartFailed):
                await system.root.start_child(spec)

    run_virtual(main)
    return [(one.event.value, one.kind, "OSError" in one.message, one.actor_class) for one in reports.recent()]


def test_failed_starts_are_reported_with_their_cause() -> None:
    def broken() -> TrioActor:
        raise OSError("cannot be made")

    assert reports_of(ChildSpec(id="a", factory=broken)) == [("start_failed", ExitKind.INIT, True, "")]
    expected = [("start_failed", ExitKind.INIT, True, "Leaf")]
    assert reports_of(leaf("a", [], setup=fail)) == expected


def test_a_supervisor_has_all_the_time_it_needs_to_start_its_children() -> None:
    async def slowly() -> None:
        await trio.sleep(DEFAULT_START_TIMEOUT_S + 1)

    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log, setup=slowly, start_timeout_s=10), log=log) as (_, inner):
            assert alive(inner) == ["a"]

    run_virtual(main)


def test_pykkas_registry_and_the_directory_know_a_child_while_it_lives() -> None:
    async def main() -> None:
        nameless = ChildSpec(id="nameless", factory=TrioActor, restart=Restart.TRANSIENT)
        async with tree(leaf("a", [], Restart.TRANSIENT), nameless, log=[]) as (system, inner):
            refs = [inner.child("a"), inner.child("nameless")]
            assert set(system.directory.names()) == {"inner", "a"}
            for ref in refs:
                assert ref is not None
                assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is ref
                await ref.stop(block=False)
            await settle()
            assert set(system.directory.names()) == {"inner"}
            assert [pykka.ActorRegistry.get_by_urn(ref.actor_urn) for ref in refs if ref is not None] == [None, None]

    run_virtual(main)


def test_a_stop_that_is_interrupted_by_a_shutdown_keeps_its_moment_of_kill() -> None:
    async def main() -> float:
        log: Log = []
        await trio.sleep(1_000)  # on any clock
        async with tree(leaf("a", log, teardown=trio.sleep_forever, shutdown_s=4), log=log) as (system, inner):
            begin = trio.current_time()
            ref = inner.child("a")
            assert ref is not None
            with trio.move_on_after(3):
                await inner.terminate_child("a")
            system.request_shutdown()
            await ref.wait_stopped()
            return trio.current_time() - begin

    assert run_virtual(main) == 4


def test_a_look_at_the_children_shows_each_as_it_is() -> None:
    async def main() -> None:
        log: Log = []
        specs = [
            leaf("a", log, isolated=True, backoff=Backoff(initial_s=1)),
            leaf("b", log, Restart.TRANSIENT),
            leaf("c", log, isolated=True, backoff=Backoff(initial_s=50, max_s=50)),
        ]
        async with tree(*specs, log=log) as (system, inner):
            for _ in range(2):
                tell(system, "a", "crash")
                await trio.sleep(10)
            tell(system, "b", "stop")
            tell(system, "c", "crash")
            await settle()
            shown = [replace(child, ref=None, oldest_message_s=0.0) for child in inner.which_children()]

        def info(id: str, phase: str, restart: Restart, *, restarts: int = 0, isolated: bool = False) -> ChildInfo:
            return ChildInfo(
                id=id,
                template=id,
                path=f"root/inner/{id}",
                actor_class="Leaf",
                phase=phase,
                restarts=restarts,
                mailbox_depth=0,
                restart=restart.value,
                isolated=isolated,
            )

        assert shown == [
            info("a", "running", Restart.PERMANENT, restarts=2, isolated=True),
            info("b", "stopped", Restart.TRANSIENT),
            info("c", "waiting", Restart.PERMANENT, isolated=True),
        ]

    run_virtual(main)


def test_three_restarts_in_five_seconds_are_tolerated_unless_told_otherwise() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log), log=log) as (system, inner):
            await crash_times(system, "a", 3)
            assert inner.is_alive()
            await trio.sleep(5.5)
            await crash_times(system, "a", 3)
            assert inner.is_alive()
            await crash_times(system, "a", 1)
            assert not inner.is_alive()

    run_virtual(main)


def test_ending_one_child_for_good_does_not_start_another_that_was_ended_so() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(*abc(log), log=log, strategy=Strategy.ONE_FOR_ALL) as (_, inner):
            await inner.terminate_child("c")
            await inner.terminate_child("b")
            assert alive(inner) == ["a"]

    run_virtual(main)


def test_a_worker_has_five_seconds_to_start_and_to_stop_and_a_supervisor_as_long_as_its_children() -> None:
    async def ten_seconds() -> None:
        await trio.sleep(10)

    async def main() -> None:
        log: Log = []
        patient = leaf("a", log, setup=ten_seconds, teardown=ten_seconds, start_timeout_s=20, shutdown_s=20)
        hasty = leaf("b", log, teardown=ten_seconds)
        async with tree(patient, hasty, log=log) as (system, inner):
            with pytest.raises(StartFailed):
                await inner.start_child(leaf("c", log, setup=ten_seconds))
            begin = trio.current_time()
            await system.root.terminate_child("inner")
            assert trio.current_time() - begin == 5 + 10
            assert [child for event, child in events(system) if event == "killed"] == ["b"]

    run_virtual(main)


@pytest.mark.parametrize(("shutdown_s", "ends_after_s"), [(2.0, 2), (None, 5), (BRUTAL_KILL, 5)])
def test_the_hooks_of_an_actor_that_ends_by_itself_have_a_limit_too(shutdown_s: Any, ends_after_s: float) -> None:
    async def main() -> None:
        log: Log = []
        spec = leaf("a", log, Restart.TEMPORARY, teardown=trio.sleep_forever, shutdown_s=shutdown_s)
        async with tree(spec, log=log) as (_, inner):
            begin = trio.current_time()
            ref = inner.child("a")
            assert ref is not None
            ref.tell("crash")
            reason = await ref.wait_stopped()
            assert (reason.kind, trio.current_time() - begin) == (ExitKind.KILLED, ends_after_s)

    run_virtual(main)


def test_reports_name_the_supervisor_by_its_path() -> None:
    async def main() -> None:
        async with tree(leaf("a", []), log=[]) as (system, _):
            tell(system, "a", "crash")
            await settle()
            assert {(one.supervisor, one.child) for one in system.reports.recent()} == {("root/inner", "a")}

    run_virtual(main)


def test_a_child_that_could_never_be_made_has_no_class_yet() -> None:
    def broken() -> TrioActor:
        raise OSError("cannot be made")

    async def main() -> None:
        spec = ChildSpec(id="a", factory=broken, isolated=True)
        async with open_system([spec]) as system:
            (child,) = system.root.which_children()
            assert (child.phase, child.actor_class) == ("waiting", "")

    run_virtual(main)


def test_a_look_with_a_survey_shows_only_what_it_chooses_at_any_depth() -> None:
    async def main() -> None:
        rooms = ChildSpec(id="rooms", factory=lambda: DynamicSupervisor("room"), name="rooms")
        async with tree(rooms, log=[]) as (system, inner):
            dynamic = system.directory.ref("rooms")
            assert isinstance(dynamic, DynamicSupervisorRef)
            for number in range(5):
                await dynamic.spawn(TrioActor, id=str(number))
            shown = system.tree(Survey(most=2))
            assert shown.children is not None
            (inner_info,) = shown.children
            assert inner_info.children is not None
            (rooms_info,) = inner_info.children
            assert rooms_info.children is not None
            assert (len(rooms_info.children), rooms_info.children_total) == (2, 5)
            supervisor = inner._actor_weakref()
            assert supervisor is not None
            assert list(supervisor._refs()) == [dynamic]

    run_virtual(main)


def test_a_name_that_another_supervisors_child_took_meanwhile_is_a_failed_start_and_no_crash() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log) as (system, inner):
            late = replace(leaf("late", log, setup=partial(trio.sleep, 2)), name="same")
            results: list[str] = []

            async def start() -> None:
                with pytest.raises(StartFailed, match="'same'"):
                    await inner.start_child(late)
                results.append("refused")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(start)
                await trio.sleep(1)
                first = await system.root.start_child(replace(leaf("first", log), name="same"))
            assert results == ["refused"]
            assert system.directory.ref("same") is first
            assert inner.is_alive()
            assert ids(inner) == ["a"]
            assert log == ["+first", "+late", "-late"]

    run_virtual(main)


def test_a_supervisor_cannot_be_interrupted_half_way_through_a_start() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log) as (system, inner), trio.open_nursery() as nursery:
            nursery.start_soon(inner.start_child, leaf("b", log, setup=partial(trio.sleep, 2)))
            await trio.sleep(1)
            assert not inner.interrupt()
            await trio.sleep(2)
            assert system.directory.ref("b") is inner.child("b")

    run_virtual(main)
