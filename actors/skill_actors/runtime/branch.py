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
from skill_actors.runtime.children import AnyActor, run_child
from skill_actors.runtime.exit import ExitReason
from skill_actors.runtime.life import finish, live
from skill_actors.runtime.ref import TrioActorRef
from skill_actors.runtime.spec import ChildInfo, Restart
from skill_actors.runtime.survey import Survey

__all__ = ["Branch", "child_info"]


class Branch(TrioActor):
    """Base of supervisors. `path` holds the spec ids from the root, joined by slashes: a bounded label."""

    path: str = "root"
    _nursery: trio.Nursery
    _home: contextvars.Context  # children get the supervisor's context variables, not those of whoever asked for them

    async def _runtime_live(self, start_timeout_s: float, shutdown_s: float) -> ExitReason:
        self._home = contextvars.copy_context()
        reasons: list[ExitReason] = []
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await live(self, start_timeout_s, shutdown_s, lambda _cell, reason: reasons.append(reason))
                finally:  # cancellation may cut its end short, and stop hooks are shielded from all but their own kill
                    for cell in self._living():
                        cell.kill()
        finally:  # not before: who waits for this supervisor's end must not find its task still there
            finish(self._cell, *reasons)
        return reasons[0]

    def _launch(self, actor: AnyActor, template: str, start_timeout_s: float, shutdown_s: float) -> None:
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

    def _refs(self) -> Iterable[TrioActorRef[Any]]:
        """The children that have a task."""
        return ()

    @property
    def strategy_name(self) -> str:
        """How it restarts its children, for people."""
        return "dynamic"

    def child_infos(self, survey: Survey | None = None) -> tuple[ChildInfo, ...]:
        """The children as they are now, in start order, with their own children; what the survey shows of them."""
        return ()

    def children_total(self) -> int:
        """How many children there are, those that are not running included."""
        return 0

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


def child_info(
    ref: TrioActorRef[Any],
    *,
    id: str,
    template: str,
    path: str,
    restarts: int,
    restart: Restart = Restart.TEMPORARY,
    isolated: bool = False,
    survey: Survey | None = None,
) -> ChildInfo:
    """A living child as it is now, with what the survey shows of its own children."""
    actor = ref._actor_weakref()
    branch = actor if isinstance(actor, Branch) else None
    return ChildInfo(
        id=id,
        template=template,
        path=path,
        actor_class=ref.actor_class.__name__,
        phase=ref._cell.phase.name.lower(),
        restarts=restarts,
        mailbox_depth=len(ref._cell.mailbox),
        ref=ref,
        children=None if branch is None else branch.child_infos(survey),
        strategy=None if branch is None else branch.strategy_name,
        restart=restart.value,
        isolated=isolated,
        oldest_message_s=ref._cell.oldest_message_s(),
        pid=_pid_of(actor),
        children_total=0 if branch is None else branch.children_total(),
    )


def _pid_of(actor: object) -> int | None:
    """The process that an actor keeps: what it calls its `pid`."""
    pid = getattr(actor, "pid", None)
    return pid if isinstance(pid, int) else None
