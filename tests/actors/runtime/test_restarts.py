"""Which children come back after a crash, how often, and what becomes of a supervisor that gives up."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import trio

from runtime_kit import settle
from skill_actors.runtime import (
    ActorSystem,
    ChildSpec,
    ExitKind,
    ReportEvent,
    Reports,
    Restart,
    RestartLimitReached,
    StartFailed,
    Strategy,
    Supervisor,
    SystemFailed,
    TrioActor,
    open_system,
)
from supervisor_kit import Log, abc, alive, events, fail, ids, leaf, tell, tree
from support import run_virtual


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
