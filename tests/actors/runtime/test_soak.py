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
    open_system,
)
from support import run


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


def inner(number: int) -> ChildSpec:
    specs = [ChildSpec(id=f"t{index}", factory=Target, name=f"t{number}.{index}") for index in range(5)]
    return ChildSpec(id=f"s{number}", factory=lambda: Supervisor(specs, max_restarts=10_000, period_s=1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seconds", [1.0, pytest.param(60.0, marks=pytest.mark.deep)])
def test_a_hundred_clients_with_random_crashes_leave_everything_in_order(seconds: float) -> None:
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
                        ref.interrupt()

            with trio.move_on_after(seconds):
                async with trio.open_nursery() as nursery:
                    for seed in range(100):
                        nursery.start_soon(client, seed)
            for name in names:
                assert await system.directory.named(name).call(Ping(), wait_s=5) == "pong"
            begin = trio.current_time()
            await system.shutdown()
            assert trio.current_time() - begin < 1
        assert trio.lowlevel.current_task().child_nurseries == []

    run(main)
