"""What tests of the actor runtime share: a dynamic supervisor to put actors under."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio.testing

from skill_actors.runtime import ActorSystem, ChildSpec, DynamicSupervisor, DynamicSupervisorRef, open_system

__all__ = ["Spawner", "settle", "spawner"]

Spawner = DynamicSupervisorRef[DynamicSupervisor]


@asynccontextmanager
async def spawner(shutdown_s: float = 5) -> AsyncIterator[tuple[ActorSystem, Spawner]]:
    """A system with one dynamic supervisor."""

    def make() -> DynamicSupervisor:
        return DynamicSupervisor("worker", start_timeout_s=5, shutdown_s=shutdown_s)

    async with open_system([ChildSpec(id="d", factory=make, name="d")]) as system:
        ref = system.directory.ref("d")
        assert isinstance(ref, DynamicSupervisorRef)
        yield system, ref


async def settle() -> None:
    """Wait until every task waits."""
    await trio.testing.wait_all_tasks_blocked()
