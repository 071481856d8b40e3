"""Workflows and schedules of one daemon: the actors that perform them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from skill_actors.runtime import ChildSpec, TrioActor

if TYPE_CHECKING:
    from skilld.parts import Parts

__all__ = ["plan_children"]


class PlanKeeper(TrioActor):
    """Performs what is planned, once the daemon takes messages.

    Args:
        perform: for ever.

    """

    def __init__(self, parts: Parts, perform: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._parts = parts
        self._perform = perform

    async def setup(self) -> None:
        self.spawn(self._run)

    async def _run(self) -> None:
        await self._parts.ready.wait()
        await self._perform()


def plan_children(parts: Parts) -> list[ChildSpec]:
    """Both are isolated."""
    return [
        ChildSpec(id="schedules", factory=lambda: PlanKeeper(parts, parts.workshop.get().scheduler.run), isolated=True),
        ChildSpec(id="workflows", factory=lambda: PlanKeeper(parts, parts.workshop.get().runner.run), isolated=True),
    ]
