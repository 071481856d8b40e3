"""What tests of one actor share: its messages, an actor that adds, naps and fails, and a place to run it in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import trio
import trio.lowlevel

import runtime_kit
from runtime_kit import Spawner
from skill_actors.runtime import (
    Ask,
    Down,
    ExitReason,
    TrioActor,
    TrioActorRef,
)

__all__ = ["Add", "Fail", "Nap", "Query", "Worker", "spawner", "worker"]


@dataclass(frozen=True, slots=True)
class Add(Ask[int]):
    number: int


@dataclass(frozen=True, slots=True)
class Nap(Ask[str]):
    seconds: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Query(Ask[str]):
    seconds: float
    cancel_with_caller: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Fail(Ask[None]):
    error: Exception


class Worker(TrioActor):
    mailbox_capacity = 4

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.log: list[str] = []
        self.downs: list[Down] = []

    def on_receive(self, message: Any) -> Any:
        match message:
            case Add(number=number):
                self.total += number
                return self.total
            case Fail(error=error):
                raise error
            case Nap() | Query():
                return self.nap(message.seconds, getattr(message, "name", ""))
            case str():
                self.log.append(message)
            case _:
                return super().on_receive(message)

    async def nap(self, seconds: float, name: str = "") -> str:
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self.log.append(f"cancelled {name}")
            raise
        self.log.append(f"done {name}")
        return name

    async def double(self, number: int) -> int:
        await trio.lowlevel.checkpoint()
        return 2 * number

    def on_down(self, down: Down) -> None:
        self.downs.append(down)

    def on_stop(self) -> None:
        self.log.append("on_stop")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.log.append(f"on_failure {exception_value} {traceback is not None}")

    async def teardown(self, reason: ExitReason) -> None:
        await trio.lowlevel.checkpoint()
        self.log.append(f"teardown {reason.kind.value}")


@asynccontextmanager
async def spawner() -> AsyncIterator[Spawner]:
    """A dynamic supervisor to put actors under."""
    async with runtime_kit.spawner() as (_, dynamic):
        yield dynamic


@asynccontextmanager
async def worker() -> AsyncIterator[tuple[Worker, TrioActorRef[Worker]]]:
    async with spawner() as dynamic:
        actor = Worker()
        yield actor, await dynamic.spawn(actor, id="w")
