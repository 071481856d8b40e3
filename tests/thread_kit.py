"""What tests of actors that are threads share: messages, a gate to hang at, and a worker that writes its life."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import trio

from skill_actors.runtime import (
    ActorSystem,
    Ask,
    ChildSpec,
    ExitReason,
    Reject,
    ThreadActor,
    TrioActorRef,
    open_system,
)

__all__ = [
    "LONG_S", "Add", "Gate", "Hang", "Raise", "Refuse", "Small", "Worker", "gone", "served", "spec", "threads_named",
]  # fmt: skip


LONG_S = 10.0  # for what must happen, however slow the machine


@dataclass(frozen=True, slots=True)
class Add(Ask[int]):
    number: int


class Refuse(Ask[None]):
    pass


@dataclass(frozen=True, slots=True)
class Raise(Ask[None]):
    error: BaseException


class Gate:
    """Where threads of a test hang until it lets them go; every thread that comes has a place in `reached`."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.reached = threading.Semaphore(0)

    def enter(self) -> None:
        self.reached.release()
        assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()

    async def wait_reached(self) -> None:
        assert await trio.to_thread.run_sync(lambda: self.reached.acquire(timeout=LONG_S))


class Hang(Ask[str]):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate


class Worker(ThreadActor):
    """Writes its life, and in which thread it was lived, into a shared log."""

    def __init__(self, log: list[str] | None = None) -> None:
        super().__init__()
        self.log = [] if log is None else log
        self.total = 0
        self.threads: set[int] = set()

    def note(self, what: str) -> None:
        self.log.append(what)
        self.threads.add(threading.get_ident())

    def on_start(self) -> None:
        self.note("start")

    def on_stop(self) -> None:
        self.note("stop")

    def on_failure(
        self, exception_type: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.note(f"failure {value!r}")

    def on_receive(self, message: Any) -> Any:
        self.note(type(message).__name__)
        match message:
            case Add(number=number):
                self.total += number
                return self.total
            case Hang(gate=gate):
                gate.enter()
                return "late"
            case Refuse():
                raise Reject("no")
            case Raise(error=error):
                raise error
            case _:
                return message


class Small(Worker):
    mailbox_capacity: ClassVar[int] = 2


def spec(factory: Any = Worker, **more: Any) -> ChildSpec:
    return ChildSpec(**{"id": "worker", "name": "worker", "factory": factory, **more})


@asynccontextmanager
async def served(*specs: ChildSpec, **more: Any) -> AsyncIterator[tuple[ActorSystem, TrioActorRef[Any]]]:
    async with open_system(specs, **more) as system:
        ref = system.directory.ref("worker")
        yield system, ref


def threads_named(name: str, before: Collection[threading.Thread]) -> list[threading.Thread]:
    """The living threads of this name, oldest first, but for those `before`: of a test before, one may yet end."""
    return [thread for thread in threading.enumerate() if thread.name == name and thread not in before]


async def gone(system: ActorSystem, ref: TrioActorRef[Any]) -> ExitReason:
    with trio.fail_after(LONG_S):
        return await ref.wait_stopped()
