"""What tests of worker processes share: a supervisor of such, requests, and a look at the kernel's processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import worker_targets
from skill_actors.runtime import (
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    Perform,
    ProcessActor,
    TrioActorRef,
    WorkerSpec,
    open_system,
)
from support import run

__all__ = ["HERE", "Bench", "ask", "bench", "descendants", "is_busy", "pid_of", "spec_of", "within", "worker_of"]


HERE = Path(worker_targets.__file__).parent


def spec_of(what: str, **changes: Any) -> WorkerSpec:
    # Not nicer than this process: on a busy machine it would wait behind all else, and for longer than its limits.
    values: dict[str, Any] = {"name": what, "target": f"worker_targets:{what}", "paths": [HERE], "nice": 0}
    return WorkerSpec(**values | changes)


@dataclass(slots=True)
class Bench:
    """A supervisor, and what the actors have told."""

    supervisor: DynamicSupervisorRef[DynamicSupervisor]
    told: list[str]

    async def start(self, what: str, **changes: Any) -> TrioActorRef[ProcessActor]:
        spec = spec_of(what, **changes)
        return await self.supervisor.spawn(lambda: ProcessActor(spec, self.told.append), id=spec.name)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Ends with no process left."""
    before = set(descendants())
    spec = ChildSpec(id="w", name="w", factory=lambda: DynamicSupervisor("worker", start_timeout_s=20))
    async with open_system([spec]) as system:
        yield Bench(cast("DynamicSupervisorRef[DynamicSupervisor]", system.directory.ref("w")), [])
    assert set(descendants()) <= before


async def ask(
    ref: TrioActorRef[Any], request: Any = None, timeout_s: float | None = 20, emit: Callable[[Any], Any] | None = None
) -> Any:
    return await ref.call(Perform(request=request, timeout_s=timeout_s, emit=emit), timeout=None)


def worker_of(ref: TrioActorRef[ProcessActor]) -> int | None:
    """Its worker's process; None where it has just ended."""
    actor = ref._actor_weakref()
    assert actor is not None
    return actor.pid


def pid_of(ref: TrioActorRef[ProcessActor]) -> int:
    pid = worker_of(ref)
    assert pid is not None
    return pid


def is_busy(ref: TrioActorRef[ProcessActor]) -> bool:
    """Whether its worker has been given a request that is not answered."""
    actor = ref._actor_weakref()
    assert actor is not None
    return actor._worker is not None and actor._worker.busy


def descendants() -> list[int]:
    """Processes below this one."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(name))
    found, parents = [], [os.getpid()]
    while parents:
        below = children.get(parents.pop(), [])
        found += below
        parents += below
    return found


def within(what: str, use: Callable[[Bench, TrioActorRef[ProcessActor]], Any], **changes: Any) -> None:
    """Run `use` with an actor for this target."""

    async def main() -> None:
        async with bench() as made:
            await use(made, await made.start(what, **changes))

    run(main)
