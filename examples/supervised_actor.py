#!/usr/bin/env python3
"""A supervised actor: it is asked, crashes, is back under its name, is watched, and is stopped. Takes no second.

    python examples/supervised_actor.py

skill_actors.runtime is a library of its own: nothing here needs the daemon, a skill or a model.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from skill_actors.runtime import Ask, ChildSpec, Down, NameNotRegistered, TrioActor, open_system


@dataclass(frozen=True, slots=True)
class Divide(Ask[int]):
    """Answered with dividend // divisor."""

    dividend: int
    divisor: int


class Calculator(TrioActor):
    """Counts what it has done; a new one begins at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0

    async def on_receive(self, message: Divide) -> int:
        result = message.dividend // message.divisor  # what raises here reaches the asker, and crashes the actor
        self.done += 1
        print(f"calculator: {message.dividend} // {message.divisor} = {result} (number {self.done})")
        return result


class Watcher(TrioActor):
    """Is told when a calculator ends, and why."""

    async def setup(self) -> None:
        self.monitor(self.directory.ref("calculator"))

    def on_down(self, down: Down) -> None:
        print(f"watcher: {down.ref.actor_class.__name__} ended: {down.reason}")
        if down.reason.abnormal:
            self.spawn(self.watch_the_next)

    async def watch_the_next(self) -> None:
        self.monitor(await self.directory.wait("calculator"))
        print("watcher: a new one holds the name")


async def main() -> None:
    tree = [
        ChildSpec(id="calculator", factory=Calculator, name="calculator"),
        ChildSpec(id="watcher", factory=Watcher),
    ]
    async with open_system(tree) as system:
        calculator = system.directory.named("calculator")  # a name outlives the actor that holds it
        await calculator.call(Divide(7, 2))
        try:
            await calculator.call(Divide(7, 0))
        except ZeroDivisionError as error:
            print(f"asker: {error}")
        three = await calculator.call(Divide(9, 3), wait_s=1)
        print(f"asker: the new one says {three}")

        print(f"supervisor: {[(child.id, child.phase, child.restarts) for child in system.root.which_children()]}")
        await system.root.terminate_child("calculator")  # for good: a `ref.stop()` would bring back the next
        try:
            await calculator.call(Divide(1, 1))
        except NameNotRegistered as error:
            print(f"asker: {error}")


if __name__ == "__main__":
    trio.run(main)
