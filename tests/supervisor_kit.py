"""What tests of supervisors share: an actor that writes its life into a log, and a supervisor of such."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from skill_actors.runtime import (
    ActorSystem,
    ChildSpec,
    ExitReason,
    Restart,
    Supervisor,
    SupervisorRef,
    TrioActor,
    open_system,
)

__all__ = ["Leaf", "Log", "abc", "alive", "events", "fail", "ids", "leaf", "tell", "tree"]

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
