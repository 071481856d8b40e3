"""What supervisors have in common: a nursery for their children's tasks, and the way it ends.

The nursery is open from before the first child's start until every child is gone, whatever ended the supervisor;
so the tree of trio tasks is the tree of supervision.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Iterable
from typing import Any

import trio
from pykka import ActorDeadError

from skill_actors.runtime.actor import TrioActor
from skill_actors.runtime.cell import Cell, Phase
from skill_actors.runtime.children import run_child
from skill_actors.runtime.exit import ExitReason
from skill_actors.runtime.life import live
from skill_actors.runtime.ref import TrioActorRef
from skill_actors.runtime.spec import ChildInfo

__all__ = ["Branch", "child_info"]


class Branch(TrioActor):
    """Base of supervisors. `path` holds the spec ids from the root, joined by slashes: a bounded label."""

    path: str = "root"
    _nursery: trio.Nursery
    _home: contextvars.Context  # children get the supervisor's context variables, not those of whoever asked for them

    async def _runtime_live(self, start_timeout_s: float, shutdown_s: float) -> ExitReason:
        self._home = contextvars.copy_context()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            reason = await live(self, start_timeout_s, shutdown_s)
        return reason

    def _launch(self, actor: TrioActor, template: str, start_timeout_s: float, shutdown_s: float) -> None:
        """Begin the task of a child that `check_actor` let pass.

        Raises:
            ActorDeadError: if this supervisor is ending.

        """
        if self._cell.phase >= Phase.CLOSING or self._cell.phase is Phase.NEW:
            raise ActorDeadError(f"supervisor {self.path} is not running, so it cannot start {template}")
        context = self._runtime_context()
        actor._cell.bind(context)
        if isinstance(actor, Branch):
            actor.path = f"{self.path}/{template}"
        name = f"{self.path}/{template}"
        task = functools.partial(run_child, actor, context, start_timeout_s, shutdown_s, self._ended)
        self._home.run(functools.partial(self._nursery.start_soon, task, name=name))

    def _ended(self, ref: TrioActorRef[Any], reason: ExitReason) -> None:
        """A child's task is over. Called in that task; must not wait."""

    def _living(self) -> Iterable[Cell]:
        """Cells of the children that have a task."""
        return ()

    async def _end_children(self) -> None:
        """End all children as their specs say."""

    def child_infos(self) -> tuple[ChildInfo, ...]:
        """The children as they are now, in start order, with their own children."""
        return ()

    async def _runtime_release(self) -> None:
        try:
            if not self._cell.killed:
                await self._end_children()
        finally:
            cells = list(self._living())
            for cell in cells:
                cell.kill()
            self._nursery.cancel_scope.cancel()  # pending timers, and children of a killed supervisor
            with trio.CancelScope(shield=True):  # no deadline: a nursery cannot end before its tasks anyway
                for cell in cells:
                    await cell.wait_exit()


def child_info(ref: TrioActorRef[Any], *, id: str, template: str, path: str, restarts: int) -> ChildInfo:
    """A living child as it is now."""
    actor = ref._actor_weakref()
    return ChildInfo(
        id=id,
        template=template,
        path=path,
        actor_class=ref.actor_class.__name__,
        phase=ref._cell.phase.name.lower(),
        restarts=restarts,
        mailbox_depth=len(ref._cell.mailbox),
        ref=ref,
        children=actor.child_infos() if isinstance(actor, Branch) else None,
    )
