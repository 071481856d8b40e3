"""OTP's supervision rules, in virtual time: how children are started and ended, and how a supervisor is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

from runtime_kit import settle
from skill_actors.runtime import (
    BRUTAL_KILL,
    ChildError,
    ChildSpec,
    ExitKind,
    ExitReason,
    Ping,
    ReportEvent,
    Reports,
    Restart,
    StartFailed,
    Strategy,
    Supervisor,
    TrioActor,
    open_system,
)
from skill_actors.runtime.spec import DEFAULT_START_TIMEOUT_S
from skill_actors.runtime.supervisor import _Exited
from supervisor_kit import Leaf, Log, abc, alive, events, fail, ids, leaf, tell, tree
from support import run_virtual


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


def test_a_supervisor_has_all_the_time_it_needs_to_start_its_children() -> None:
    async def slowly() -> None:
        await trio.sleep(DEFAULT_START_TIMEOUT_S + 1)

    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log, setup=slowly, start_timeout_s=10), log=log) as (_, inner):
            assert alive(inner) == ["a"]

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
