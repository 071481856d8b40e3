"""Incarnations: never two of one child, stale exits are ignored, and the tasks are those of the tree at any moment."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
import trio

from skill_actors.runtime import (
    ActorDeadError,
    ActorSystem,
    Backoff,
    ChildError,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitReason,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorRef,
    TrioActor,
    open_system,
)
from skill_actors.runtime.cell import Cell, Phase
from support import run_virtual
from task_tree import supervision_tree, task_tree

SEEDS = [*range(10), *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(10, 1_000))]


class Leaf(TrioActor):
    """Takes its time to start and to end, and remembers every incarnation."""

    def __init__(self, cells: list[Cell], pause_s: float) -> None:
        super().__init__()
        self.pause_s = pause_s
        cells.append(self._cell)

    async def setup(self) -> None:
        self.spawn(trio.sleep_forever)
        await trio.sleep(self.pause_s)

    async def teardown(self, reason: ExitReason) -> None:
        await trio.sleep(self.pause_s)

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise ValueError("crash")
        return message


def running(cells: list[Cell]) -> int:
    return sum(Phase.NEW < cell.phase < Phase.DEAD for cell in cells)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_child_that_is_killed_and_restarted_at_once_has_one_incarnation_at_any_time(seed: int) -> None:
    """Kills, crashes, terminates and restarts at the same moments: the exit of an old one never hits the new one."""
    chance = random.Random(seed)
    cells: list[Cell] = []

    async def main() -> None:
        spec = ChildSpec(id="a", name="a", factory=lambda: Leaf(cells, chance.choice([0, 0, 0.5])))
        backoff = chance.choice([None, Backoff(initial_s=0.3)])
        inner = ChildSpec(
            id="inner", name="inner", factory=lambda: Supervisor([spec], max_restarts=10_000, backoff=backoff)
        )
        async with open_system([inner]) as system:
            ref = system.directory.ref("inner")
            assert isinstance(ref, SupervisorRef)

            async def act() -> None:
                for _ in range(30):
                    await trio.sleep(chance.choice([0, 0, 0.1, 0.5]))
                    with suppress(ChildError, StartFailed):
                        await act_once(chance, system, ref)
                    assert running(cells) <= 1

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(act)
            await trio.sleep(60)
            if ref.child("a") is None:
                await ref.restart_child("a")
            assert running(cells) == 1
            assert await system.directory.ref("a").ask("hello", block=False) == "hello"
            assert ref.is_alive()

    run_virtual(main)
    assert running(cells) == 0


async def act_once(chance: random.Random, system: ActorSystem, ref: SupervisorRef[Any]) -> None:
    child = ref.child("a")
    match chance.choice(["kill", "crash", "kill and restart", "terminate", "restart"]):
        case "kill" if child is not None:
            child._cell.kill()
        case "crash" if child is not None:
            child.tell("crash")
        case "kill and restart" if child is not None:
            child._cell.kill()
            await ref.terminate_child("a")
            await ref.restart_child("a")
        case "terminate":
            await ref.terminate_child("a")
        case "restart":
            await ref.restart_child("a")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tasks_are_those_of_the_supervision_tree_at_any_moment(seed: int) -> None:
    """Also while supervisors end, backoffs run, and children are made and ended on demand."""
    chance = random.Random(seed)
    cells: list[Cell] = []

    def leaf(id: str) -> ChildSpec:
        return ChildSpec(id=id, factory=lambda: Leaf(cells, chance.choice([0, 0.2])), isolated=id == "i")

    def branch() -> Supervisor:
        return Supervisor([leaf(id) for id in "abi"], strategy=chance.choice(list(Strategy)), max_restarts=2)

    async def main() -> None:
        rooms = ChildSpec(id="rooms", name="rooms", factory=lambda: DynamicSupervisor("room", shutdown_s=0.1))
        specs = [ChildSpec(id="x", factory=branch), ChildSpec(id="y", factory=branch), rooms]
        async with open_system(specs, max_restarts=10_000) as system:

            async def disturb() -> None:
                for number in range(40):
                    await trio.sleep(chance.choice([0, 0.05, 0.3]))
                    info = chance.choice([info for info in system.walk() if info.ref is not None][1:])
                    if chance.random() < 0.5:
                        info.ref._cell.kill()
                    else:
                        await make_room(chance, system, number)

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(disturb)
                for _ in range(400):
                    await trio.sleep(chance.choice([0, 0, 0.01, 0.1]))
                    assert task_tree() == supervision_tree(system)
            await trio.sleep(60)
            assert task_tree() == supervision_tree(system)
            assert len(list(system.walk())) >= 10

    run_virtual(main)


async def make_room(chance: random.Random, system: ActorSystem, number: int) -> None:
    rooms = system.directory.whereis("rooms")
    if not isinstance(rooms, DynamicSupervisorRef):
        return
    with suppress(ActorDeadError, StartFailed, ChildError):
        room = await rooms.spawn(lambda: Leaf([], chance.choice([0, 0.2])), id=f"{number}-{chance.random()}")
        if chance.random() < 0.5:
            room.tell("crash")


def test_the_comparison_would_see_a_task_that_belongs_to_nobody() -> None:
    async def main() -> None:
        cells: list[Cell] = []
        async with open_system([ChildSpec(id="a", factory=lambda: Leaf(cells, 0))]) as system:
            assert task_tree() == supervision_tree(system) == ("root", (("root/a", ()),))
            root = system.root._actor_weakref()
            assert root is not None
            root._nursery.start_soon(trio.sleep, 1, name="root/stray")
            del root
            assert task_tree() == ("root", (("root/a", ()), ("root/stray", ())))

    run_virtual(main)


def test_siblings_that_wait_for_a_terminated_child_are_started() -> None:
    """They were ended with it, and would otherwise wait for a restart that nobody makes any more."""

    async def main() -> None:
        cells: list[Cell] = []
        specs = [ChildSpec(id=id, name=id, factory=lambda: Leaf(cells, 0)) for id in "abc"]
        options: dict[str, Any] = {"strategy": Strategy.ONE_FOR_ALL, "backoff": Backoff(initial_s=10)}
        inner = ChildSpec(id="inner", name="inner", factory=lambda: Supervisor(specs, **options))
        async with open_system([inner]) as system:
            ref = system.directory.ref("inner")
            assert isinstance(ref, SupervisorRef)
            system.directory.ref("b").tell("crash")
            await trio.sleep(1)
            for refused in (ref.restart_child, ref.delete_child):
                with pytest.raises(ChildError, match="waits for its restart"):
                    await refused("b")
            await ref.terminate_child("b")
            assert [info.phase for info in ref.which_children()] == ["running", "stopped", "running"]
            await trio.sleep(20)
            assert ref.child("b") is None

    run_virtual(main)


def test_a_supervisor_is_gone_from_the_directory_and_reported_once_it_is_waited_for() -> None:
    """Its end is told when its task is over, not while its nursery still closes."""

    async def main() -> None:
        inner = ChildSpec(id="inner", name="inner", factory=lambda: Supervisor([]))
        async with open_system([inner]) as system:
            seen: list[tuple[str, str]] = []
            system.reports.subscribe("test", lambda report: seen.append((report.event.value, report.child)))
            for _ in range(20):
                await system.root.terminate_child("inner")
                assert system.directory.names() == {}
                assert task_tree() == ("root", ())
                await system.root.restart_child("inner")
            assert seen == [("exited", "inner"), ("started", "inner")] * 20

    run_virtual(main)
