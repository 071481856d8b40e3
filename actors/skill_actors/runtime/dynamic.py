"""DynamicSupervisor: any number of TEMPORARY children of one kind, made on demand.

Children start concurrently and are stopped in parallel under one timer. Their exits are reported and counted by
nobody: a child that crashes is gone, and whoever needs it asks for it again. Nothing waits in the supervisor's
mailbox, so it is never deaf; all of it happens on the trio thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Self, TypeVar, cast

import trio
from pykka import ActorDeadError

from skill_actors.runtime.branch import Branch, child_info
from skill_actors.runtime.cell import Cell
from skill_actors.runtime.children import KILL_GRACE_S, SHUTDOWN, AnyActor, check_actor, end_child
from skill_actors.runtime.errors import ChildError, Reject, StartFailed
from skill_actors.runtime.exit import ExitKind, ExitReason
from skill_actors.runtime.messages import Ping
from skill_actors.runtime.ref import TrioActorRef
from skill_actors.runtime.report import ReportEvent
from skill_actors.runtime.spec import DEFAULT_SHUTDOWN_S, DEFAULT_START_TIMEOUT_S, BrutalKill, ChildInfo
from skill_actors.runtime.survey import Survey

__all__ = ["DynamicSupervisor", "DynamicSupervisorRef"]

A = TypeVar("A", bound=AnyActor)
D = TypeVar("D", bound="DynamicSupervisor")


class DynamicSupervisorRef(TrioActorRef[D]):
    """Address of a DynamicSupervisor. For the trio thread."""

    def _supervisor(self) -> D:
        actor = self._actor_weakref()
        if actor is None:
            raise ActorDeadError(f"{self} has stopped")
        return actor

    async def spawn(self, made: A | Callable[[], A], *, id: str) -> TrioActorRef[A]:
        """Start a child and wait until it is set up. If the caller is cancelled, the start goes on.

        Args:
            made: a new actor, or what makes one.
            id: unique among the living children. Never a label of metrics.

        Raises:
            ChildError: if the id is taken, or there are `max_children` already.
            StartFailed: if it does not start.
            pykka.ActorDeadError: if the supervisor has ended.

        """
        return await _wait_ready(self._supervisor()._begin(made, id))

    async def ensure(self, id: str, factory: Callable[[], A]) -> TrioActorRef[A]:
        """The living child of this id, else a new one; waits for one that is just starting or ending.

        Raises:
            as `spawn`, but for taken ids.

        """
        while (ref := self._supervisor()._children.get(id)) is not None:
            if ref.is_alive():
                return await _wait_ready(ref)
            await ref.wait_stopped()
        return await self.spawn(factory, id=id)

    def child(self, id: str) -> TrioActorRef[Any] | None:
        """The living child of this id, if any."""
        actor = self._actor_weakref()
        ref = None if actor is None else actor._children.get(id)
        return ref if ref is not None and ref.is_alive() else None

    async def terminate_child(self, id: str) -> None:
        """Stop a child and wait until it is gone. If the caller is cancelled, the stop goes on.

        Raises:
            ChildError: if there is none of this id, or it cannot be killed.

        """
        await self._supervisor()._terminate(id)

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The children as they are now, oldest first."""
        actor = self._actor_weakref()
        return () if actor is None else actor.child_infos()

    def count_children(self) -> int:
        """How many children have a task."""
        actor = self._actor_weakref()
        return 0 if actor is None else len(actor._children)


class DynamicSupervisor(Branch):
    """Holds children made on demand.

    Args:
        template: what its children are, for labels.
        shutdown_s: seconds that all children together have between stop and kill; inf for no kill, or BRUTAL_KILL.
        start_timeout_s: seconds for a child's `setup`.
        max_children: further ones are refused; None for no bound.

    """

    def __init__(
        self,
        template: str,
        *,
        shutdown_s: float | BrutalKill = DEFAULT_SHUTDOWN_S,
        start_timeout_s: float = DEFAULT_START_TIMEOUT_S,
        max_children: int | None = None,
    ) -> None:
        super().__init__()
        self._template: Final = template
        self._limit_s: Final = None if isinstance(shutdown_s, BrutalKill) else shutdown_s
        self._start_timeout_s: Final = start_timeout_s
        self._max_children: Final = max_children
        self._children: dict[str, TrioActorRef[Any]] = {}
        self._emptied: trio.Event | None = None

    def _runtime_ref(self) -> TrioActorRef[Any]:
        return DynamicSupervisorRef(self)

    @property
    def actor_ref(self) -> DynamicSupervisorRef[Self]:
        """This supervisor's address."""
        return cast("DynamicSupervisorRef[Self]", self._actor_ref)

    def on_receive(self, message: Any) -> None:
        """Serve Ping; Reject for all else, which the methods of the ref do."""
        if not isinstance(message, Ping):
            raise Reject(f"supervisor {self.path} does not understand {type(message).__name__}")

    def _begin(self, made: A | Callable[[], A], id: str) -> TrioActorRef[A]:
        if id in self._children:
            raise ChildError(f"{self.path} has a {self._template} {id!r} already")
        if self._max_children is not None and len(self._children) >= self._max_children:
            raise ChildError(f"{self.path} has its {self._max_children} children already; wait until some are gone")
        actor = self._make(made)
        ref = cast("TrioActorRef[A]", actor.actor_ref)
        ref.child_id = id
        hook_limit_s = DEFAULT_SHUTDOWN_S if self._limit_s is None else self._limit_s
        self._launch(actor, self._template, self._start_timeout_s, hook_limit_s)
        self._children[id] = ref
        return ref

    def _make(self, made: A | Callable[[], A]) -> A:
        try:
            return cast("A", check_actor(made if isinstance(made, AnyActor) else made()))
        except Exception as error:
            self._report(ReportEvent.START_FAILED, ExitReason(ExitKind.INIT, error))
            raise StartFailed(f"a {self._template} of {self.path} could not be made: {error}") from error

    async def _terminate(self, id: str) -> None:
        ref = self._children.get(id)
        if ref is None:
            raise ChildError(f"{self.path} has no {self._template} {id!r}")
        ended = trio.Event()
        self._nursery.start_soon(self._end, ref._cell, ended, name=f"{self.path}/terminate")
        await ended.wait()
        if ref.exit_reason is None:
            raise ChildError(f"{self._template} {id!r} of {self.path} ignores cancellation and could not be ended")

    async def _end(self, cell: Cell, ended: trio.Event) -> None:
        try:
            await end_child(cell, self._limit_s, self._report)
        finally:
            ended.set()

    async def _end_children(self) -> None:
        emptied = self._emptied = trio.Event()
        if not self._children:
            return
        if self._limit_s is not None:
            for cell in self._living():
                cell.request_stop(SHUTDOWN)
            with trio.move_on_after(self._limit_s):
                await emptied.wait()
        await self._kill_the_rest(emptied)

    async def _kill_the_rest(self, emptied: trio.Event) -> None:
        for cell in self._living():
            if self._limit_s is not None:
                self._report(ReportEvent.KILLED)
            cell.kill()
        if self._children:
            with trio.move_on_after(KILL_GRACE_S):
                await emptied.wait()
        for _ in self._living():
            self._report(ReportEvent.UNKILLABLE)

    def _living(self) -> Iterable[Cell]:
        return [ref._cell for ref in self._children.values()]

    def _ended(self, ref: TrioActorRef[Any], reason: ExitReason) -> None:
        if ref.child_id is not None and self._children.get(ref.child_id) is ref:
            del self._children[ref.child_id]
        event = ReportEvent.START_FAILED if reason.kind is ExitKind.INIT else ReportEvent.EXITED
        self._report(event, reason, ref.actor_class.__name__)
        if not self._children and self._emptied is not None:
            self._emptied.set()

    def _report(self, event: ReportEvent, reason: ExitReason | None = None, actor_class: str = "") -> None:
        self._runtime_context().reports.report(event, self.path, self._template, reason, actor_class)

    def _refs(self) -> Iterable[TrioActorRef[Any]]:
        return self._children.values()

    def children_total(self) -> int:
        """How many children have a task."""
        return len(self._children)

    def child_infos(self, survey: Survey | None = None) -> tuple[ChildInfo, ...]:
        """The children as they are now, oldest first, with their own children; those that the survey chooses."""
        path = f"{self.path}/{self._template}"
        chosen = self._children.items() if survey is None else survey.choose(self.path, self._children)
        return tuple(
            child_info(ref, id=id, template=self._template, path=path, restarts=0, survey=survey) for id, ref in chosen
        )


async def _wait_ready(ref: TrioActorRef[A]) -> TrioActorRef[A]:
    await ref._cell.wait_started()
    if not ref._cell.served:
        reason = await ref.wait_stopped()
        raise StartFailed(f"{ref.actor_class.__name__} {ref.child_id!r} did not start: {reason}") from reason.error
    return ref
