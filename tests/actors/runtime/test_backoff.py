"""Restarts that wait: what a back-off spaces, whom it holds up, and what may happen meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime_kit import settle
from skill_actors.runtime import (
    Backoff,
    ChildError,
    ChildSpec,
    Restart,
    Strategy,
    TrioActor,
    open_system,
)
from skill_actors.runtime.supervisor import _Child
from supervisor_kit import Log, abc, alive, leaf, tell, tree
from support import run_virtual


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
