"""Clients and crashes at random: afterwards everything answers and nothing is left over."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.lowlevel

from skill_actors.runtime import (
    ActorDeadError,
    Ask,
    ChildSpec,
    HandlerInterrupted,
    NameNotRegistered,
    Supervisor,
    Timeout,
    TrioActor,
    TrioActorRef,
    open_system,
)
from task_tree import supervision_tree, task_tree


class Ping(Ask[str]):
    pass


class Crash(Ask[None]):
    pass


class Slow(Ask[str]):
    cancel_with_caller = True


class Target(TrioActor):
    async def on_receive(self, message: Any) -> Any:
        if isinstance(message, Crash):
            raise ValueError("soak")
        if isinstance(message, Slow):
            await trio.sleep(0.01)
        return "pong"


class InlineTarget(Target):
    """Its handler is begun in the task of whoever asks while it is idle."""

    inline = True


def inner(number: int) -> ChildSpec:
    kinds = [Target, InlineTarget] * 3
    specs = [ChildSpec(id=f"t{index}", factory=kinds[index], name=f"t{number}.{index}") for index in range(5)]
    return ChildSpec(id=f"s{number}", factory=lambda: Supervisor(specs, max_restarts=10_000, period_s=1))


def disturb(chance: random.Random, ref: TrioActorRef[Any]) -> None:
    """Interrupt it, tell it something, crash it by a tell, or kill it."""
    match chance.choices(["interrupt", "tell", "crash", "kill"], weights=[5, 5, 1, 1])[0]:
        case "interrupt":
            ref.interrupt()
        case "tell":
            ref.tell(Ping())
        case "crash":
            ref.tell(Crash())
        case _:
            ref._cell.kill()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seconds", [5.0, pytest.param(60.0, marks=pytest.mark.deep)])
def test_a_hundred_clients_with_random_crashes_leave_everything_in_order(seconds: float) -> None:
    """Tells, asks, cancels, interrupts, crashes, kills; all the while the tasks are those of the supervision tree."""

    async def main() -> None:
        async with open_system([inner(number) for number in range(4)], max_restarts=10_000) as system:
            messages: list[Ask[Any]] = [Ping(), Slow(), Crash()]
            names = [f"t{number}.{index}" for number in range(4) for index in range(5)]

            async def client(seed: int) -> None:
                chance = random.Random(seed)
                while True:
                    named = system.directory.named(chance.choice(names))
                    message = chance.choices(messages, weights=[70, 28, 2])[0]
                    try:
                        await named.call(message, timeout=chance.choice([0.001, 1.0]), wait_s=1)
                    except (ValueError, ActorDeadError, Timeout, NameNotRegistered, HandlerInterrupted):
                        await trio.lowlevel.checkpoint()
                    if chance.random() < 0.05 and (ref := system.directory.whereis(named.name)) is not None:
                        disturb(chance, ref)

            compared = 0

            async def compare() -> None:
                nonlocal compared
                chance, end = random.Random(-1), trio.current_time() + seconds
                while trio.current_time() < end or compared <= 10 * seconds:  # longer where the machine is busy
                    await trio.sleep(chance.uniform(0, 0.01))
                    assert task_tree() == supervision_tree(system)
                    compared += 1
                nursery.cancel_scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(compare)
                for seed in range(100):
                    nursery.start_soon(client, seed)
            for name in names:
                assert await system.directory.named(name).call(Ping(), wait_s=5) == "pong"
            assert compared > 10 * seconds
            begin = trio.current_time()
            await system.shutdown()
            assert trio.current_time() - begin < 1
        assert trio.lowlevel.current_task().child_nurseries == []

    async def bounded() -> None:
        with trio.fail_after(seconds + 30):
            await main()

    trio.run(bounded)
