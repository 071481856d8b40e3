"""Supervisor: starts its children in order, restarts them by OTP's rules, stops them in reverse order.

It is an actor: starts, restarts and stops of children are its messages, so while it works on one it is deaf to the
others; a stop of the supervisor itself interrupts it. Exits of children and due restarts come on its control lane.

A child: stopped -> (start) -> alive -> (exit) -> stopped | waiting (for its backoff) | forgotten (TEMPORARY).
Each incarnation is known by its ref; the exit of one that was replaced, or stopped on purpose, is ignored.
A restart is counted. One too many within the period, or a child that cannot be killed, and the supervisor ends all
children and then itself with SHUTDOWN, so that its own supervisor decides: a permanent spec builds it anew.
It ends in the same way when its significant children have ended by themselves (`auto_shutdown`).

While it waits for a child's start or end it answers nobody, Ping included, for as long as those may take.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import pykka
import trio

from skill_actors.runtime.branch import Branch, child_info
from skill_actors.runtime.cell import Cell
from skill_actors.runtime.children import SHUTDOWN, AnyActor, check_actor, end_child
from skill_actors.runtime.errors import ChildError, RestartLimitReached, StartFailed, UnkillableChild
from skill_actors.runtime.exit import ExitKind, ExitReason
from skill_actors.runtime.messages import Control, Ping
from skill_actors.runtime.ref import TrioActorRef
from skill_actors.runtime.report import ReportEvent
from skill_actors.runtime.spec import (
    DEFAULT_SHUTDOWN_S,
    DEFAULT_START_TIMEOUT_S,
    AutoShutdown,
    Backoff,
    BrutalKill,
    ChildInfo,
    ChildSpec,
    Restart,
    RestartBudget,
    Strategy,
    affected,
    ends_supervisor,
    wants_restart,
)
from skill_actors.runtime.supervisor_ref import DeleteChild, RestartChild, StartChild, SupervisorRef, TerminateChild
from skill_actors.runtime.survey import Survey

__all__ = ["Supervisor"]

AnyRef = TrioActorRef[Any]


class _Child:
    """A spec and its present incarnation."""

    __slots__ = ("actor_class", "attempt", "ref", "restarts", "spec", "started_at", "stop_by", "ticket")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.actor_class = ""
        self.ref: AnyRef | None = None
        self.restarts = 0
        self.attempt = 0  # consecutive waits of the backoff
        self.started_at: float | None = None
        self.stop_by: float | None = None  # when the stop that is under way becomes a kill
        self.ticket: object | None = None  # of the restart it waits for

    def next_delay_s(self, backoff: Backoff, now: float) -> float:
        """Seconds to wait before the next start; longer each time in a row."""
        if self.started_at is not None and now - self.started_at >= backoff.reset_s:
            self.attempt = 0
        self.started_at = None  # the next wait without a start between belongs to the same row
        self.attempt += 1
        return backoff.delay_s(self.attempt - 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Exited(Control):
    child: _Child
    ref: AnyRef
    reason: ExitReason


@dataclass(frozen=True, slots=True, eq=False)
class _Due(Control):
    child: _Child
    ticket: object
    counted: bool  # whether the budget has paid for this restart


class Supervisor(Branch):
    """Keeps a fixed list of children alive.

    Args:
        children: specs, in start order.
        strategy: who is restarted with a child that ended.
        max_restarts: restarts tolerated within the period, for all children together; 0 means none.
        period_s: length of the sliding period, in seconds.
        backoff: waits before restarts, or None for OTP's way: at once.
        auto_shutdown: whether it ends with its significant children.

    Raises:
        ValueError: if two specs share an id, a number is out of range, or a child is significant under NEVER.

    """

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        period_s: float = 5.0,
        backoff: Backoff | None = None,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    ) -> None:
        super().__init__()
        self._strategy: Final = strategy
        self._budget: Final = RestartBudget(max_restarts, period_s)
        self._backoff: Final = backoff
        self._auto_shutdown: Final = auto_shutdown
        self._children: dict[str, _Child] = {}
        for spec in children:
            self._add(spec)

    def _runtime_ref(self) -> TrioActorRef[Any]:
        return SupervisorRef(self)

    @property
    def actor_ref(self) -> SupervisorRef[Self]:
        """This supervisor's address."""
        return cast("SupervisorRef[Self]", self._actor_ref)

    def _add(self, spec: ChildSpec) -> _Child:
        if spec.id in self._children:
            raise ValueError(f"two children of a supervisor have the id {spec.id!r}")
        if spec.significant and self._auto_shutdown is AutoShutdown.NEVER:
            raise ValueError(f"child {spec.id!r} is significant, but its supervisor never ends with its children")
        child = self._children[spec.id] = _Child(spec)
        return child

    # Life

    async def setup(self) -> None:
        """Start the children in order.

        Raises:
            StartFailed: if one does not start; those already started are then ended in reverse order.

        """
        for child in list(self._children.values()):
            try:
                await self._start(child)
            except StartFailed:
                if not child.spec.isolated or child.spec.required:
                    raise
                self._wait(child, child.spec.backoff)

    async def _end_children(self) -> None:
        for child in reversed(list(self._children.values())):
            await self._end(child)

    def _living(self) -> Iterable[Cell]:
        return [child.ref._cell for child in self._children.values() if child.ref is not None]

    # Messages

    async def on_receive(self, message: Any) -> Any:
        """Serve Ping, StartChild, TerminateChild, RestartChild and DeleteChild; ChildError for all else."""
        match message:
            case Ping():
                return None
            case StartChild(spec=spec):
                return await self._start_new(spec)
            case TerminateChild(id=id):
                await self._terminate(self._find(id))
            case RestartChild(id=id):
                return await self._start(self._find_idle(id))
            case DeleteChild(id=id):
                del self._children[self._find_idle(id).spec.id]
            case _:
                raise ChildError(f"supervisor {self.path} does not understand {type(message).__name__}")
        return None

    def _runtime_control(self, message: Control) -> Any:
        match message:
            case _Exited() | _Due() if self._cell.asked_to_stop() is not None:
                return None  # the stop comes behind it on this lane: nothing is started to be ended at once
            case _Exited(child=child, ref=ref, reason=reason):
                return self._after_exit(child, ref, reason)
            case _Due(child=child, ticket=ticket, counted=counted):
                return self._after_wait(child, ticket, counted)
            case _:
                return super()._runtime_control(message)

    def _find(self, id: str) -> _Child:
        child = self._children.get(id)
        if child is None:
            known = ", ".join(self._children) or "none"
            raise ChildError(f"supervisor {self.path} has no child {id!r} (it has: {known})")
        return child

    def _find_idle(self, id: str) -> _Child:
        child = self._find(id)
        if child.ref is not None:
            raise ChildError(f"child {id!r} of {self.path} is running; terminate it first")
        if child.ticket is not None:
            raise ChildError(f"child {id!r} of {self.path} waits for its restart; terminate it first")
        return child

    def _ref_of(self, id: str) -> AnyRef | None:
        child = self._children.get(id)
        return child.ref if child is not None and child.ref is not None and child.ref.is_alive() else None

    async def _start_new(self, spec: ChildSpec) -> AnyRef:
        if spec.id in self._children:
            raise ChildError(f"supervisor {self.path} has a child {spec.id!r} already")
        try:
            child = self._add(spec)
        except ValueError as error:
            raise ChildError(f"supervisor {self.path}: {error}") from None
        try:
            return await self._start(child)
        except StartFailed:
            del self._children[spec.id]
            raise

    async def _terminate(self, child: _Child) -> None:
        held_up = child.ticket is not None and not child.spec.isolated
        if not await self._end(child):
            raise ChildError(f"child {child.spec.id!r} of {self.path} ignores cancellation and could not be ended")
        if held_up:  # siblings that ended with it wait for nothing any more; OTP, without a backoff, has no such wait
            group = affected(self._strategy, list(self._children.values()), child)
            await self._start_each([other for other in group if other is not child])
        if child.spec.restart is Restart.TEMPORARY:
            self._children.pop(child.spec.id, None)

    # Restarts

    async def _after_exit(self, child: _Child, ref: AnyRef, reason: ExitReason) -> ExitReason | None:
        if child.ref is not ref:
            return None
        child.ref = child.stop_by = None
        if not wants_restart(child.spec.restart, reason):
            return self._after_good(child)
        if child.spec.isolated:
            self._wait(child, child.spec.backoff)
            return None
        return await self._restart(child)

    def _after_good(self, child: _Child) -> ExitReason | None:
        """A child has ended by itself and is not restarted."""
        if child.spec.restart is Restart.TEMPORARY:
            self._children.pop(child.spec.id, None)
        others = [other for other in self._children.values() if other is not child and other.spec.significant]
        others_run = any(other.ref is not None or other.ticket is not None for other in others)
        return SHUTDOWN if ends_supervisor(self._auto_shutdown, child.spec, others_run) else None

    async def _after_wait(self, child: _Child, ticket: object, counted: bool) -> ExitReason | None:
        if child.ticket is not ticket:
            return None
        child.ticket = None
        if child.spec.isolated:
            await self._start_each([child])
            return None
        if not counted:
            return await self._restart(child)
        await self._start_each(affected(self._strategy, list(self._children.values()), child))
        return None

    async def _restart(self, child: _Child) -> ExitReason | None:
        if not self._budget.spend(trio.current_time()):
            return self._give_up(RestartLimitReached(f"{self.path}: more than {self._budget} (last: {child.spec.id})"))
        for other in reversed(affected(self._strategy, list(self._children.values()), child)):
            if not await self._end(other):
                return self._give_up(UnkillableChild(f"{self.path}: child {other.spec.id} ignores cancellation"))
            if other.spec.restart is Restart.TEMPORARY:
                self._children.pop(other.spec.id, None)
        if self._backoff is not None:
            self._wait(child, self._backoff, counted=True)
        else:
            await self._start_each(affected(self._strategy, list(self._children.values()), child))
        return None

    async def _start_each(self, group: Iterable[_Child]) -> None:
        """Start those of the group that do not run, in order; at the first failure the rest waits for its retry."""
        for child in group:
            if child.ref is not None:
                continue
            try:
                await self._start(child, again=True)
            except StartFailed:
                if child.spec.isolated:
                    self._wait(child, child.spec.backoff)
                    continue
                self._wait(child, None, counted=False)  # it is counted next, and waits its backoff then
                return

    def _wait(self, child: _Child, backoff: Backoff | None, *, counted: bool = False) -> None:
        """Come back to the child later, by a message, so that the supervisor is not deaf meanwhile."""
        child.ticket = object()
        due = _Due(child, child.ticket, counted)
        if backoff is None:
            self._cell.mailbox.put_control(due)
        else:
            delay_s = child.next_delay_s(backoff, trio.current_time())
            self._nursery.start_soon(self._put_later, due, delay_s, name=f"{self.path}/backoff")

    async def _put_later(self, due: _Due, delay_s: float) -> None:
        await trio.sleep(delay_s)
        self._cell.mailbox.put_control(due)

    def _give_up(self, error: Exception) -> ExitReason:
        reason = ExitReason(ExitKind.SHUTDOWN, error)
        self._runtime_context().reports.report(ReportEvent.ESCALATED, self.path.rpartition("/")[0], self.path, reason)
        return reason

    # One child

    async def _start(self, child: _Child, *, again: bool = False) -> AnyRef:
        """Start a child and wait until it is set up.

        Raises:
            StartFailed: with the cause, already reported.

        """
        spec, child.ticket = child.spec, None
        try:
            actor = self._make(spec)
        except Exception as error:
            self._report(child, ReportEvent.START_FAILED, ExitReason(ExitKind.INIT, error))
            raise StartFailed(f"child {spec.id!r} of {self.path} could not be made: {error}") from error
        ref = child.ref = actor.actor_ref
        ref.child_id, child.stop_by, child.actor_class = spec.id, None, type(actor).__name__
        self._launch(actor, spec.id, _start_timeout_s(spec, actor), _hook_limit_s(spec, actor))
        pykka.ActorRegistry.register(ref)
        await ref._cell.wait_started()
        if not ref._cell.served:
            reason = await ref.wait_stopped()
            child.ref = None
            raise StartFailed(f"child {spec.id!r} of {self.path} did not start: {reason}") from reason.error
        try:
            self._note_start(child, ref, again)
        except ValueError as error:  # a child of another supervisor took its name while this one was set up
            await self._end(child)
            self._report(child, ReportEvent.START_FAILED, ExitReason(ExitKind.INIT, error))
            raise StartFailed(f"child {spec.id!r} of {self.path} did not start: {error}") from error
        return ref

    def _make(self, spec: ChildSpec) -> AnyActor:
        if spec.name is not None and (held := self._runtime_context().directory.whereis(spec.name)) is not None:
            raise ValueError(f"its name {spec.name!r} is held by {held}")
        return check_actor(spec.factory())

    def _note_start(self, child: _Child, ref: AnyRef, again: bool) -> None:
        child.started_at = trio.current_time()
        if child.spec.name is not None and ref.is_alive():
            self._runtime_context().directory.register(child.spec.name, ref)
        if again:
            child.restarts += 1
        self._report(child, ReportEvent.RESTARTED if again else ReportEvent.STARTED)

    async def _end(self, child: _Child) -> bool:
        """End a child if it runs, and forget a restart it waits for; False if it cannot be killed."""
        child.ticket = None
        ref = child.ref
        if ref is None:
            return True
        limit_s = _limit_s(child.spec, ref)
        if limit_s is not None:
            now = trio.current_time()
            child.stop_by = child.stop_by if child.stop_by is not None else now + limit_s
            limit_s = child.stop_by - now
        if not await end_child(ref._cell, limit_s, lambda event, reason: self._report(child, event, reason)):
            return False
        child.ref = child.stop_by = None
        return True

    def _ended(self, ref: AnyRef, reason: ExitReason) -> None:
        pykka.ActorRegistry.unregister(ref)
        child = self._children.get(ref.child_id or "")
        if child is None or child.ref is not ref:
            return
        if child.spec.name is not None:
            self._runtime_context().directory.unregister(child.spec.name, ref)
        failed = reason.kind is ExitKind.INIT
        event = ReportEvent.START_FAILED if failed else ReportEvent.EXITED
        self._report(child, event, reason, ref.actor_class.__name__)
        self._cell.mailbox.put_control(_Exited(child, ref, reason))

    def _report(
        self, child: _Child, event: ReportEvent, reason: ExitReason | None = None, actor_class: str = ""
    ) -> None:
        self._runtime_context().reports.report(event, self.path, child.spec.id, reason, actor_class)

    def _refs(self) -> Iterable[AnyRef]:
        return [child.ref for child in self._children.values() if child.ref is not None]

    @property
    def strategy_name(self) -> str:
        """The strategy."""
        return self._strategy.value

    def children_total(self) -> int:
        """How many specs there are."""
        return len(self._children)

    def child_infos(self, survey: Survey | None = None) -> tuple[ChildInfo, ...]:
        """The children as they are now, in start order, with their own children."""
        return tuple(self._info(child, survey) for child in self._children.values())

    def _info(self, child: _Child, survey: Survey | None) -> ChildInfo:
        id, path = child.spec.id, f"{self.path}/{child.spec.id}"
        if child.ref is not None:
            return child_info(
                child.ref,
                id=id,
                template=id,
                path=path,
                restarts=child.restarts,
                restart=child.spec.restart,
                isolated=child.spec.isolated,
                survey=survey,
            )
        return ChildInfo(
            id=id,
            template=id,
            path=path,
            actor_class=child.actor_class,
            phase="stopped" if child.ticket is None else "waiting",
            restarts=child.restarts,
            mailbox_depth=0,
            restart=child.spec.restart.value,
            isolated=child.spec.isolated,
        )


def _start_timeout_s(spec: ChildSpec, actor: AnyActor) -> float:
    if spec.start_timeout_s is not None:
        return spec.start_timeout_s
    return math.inf if isinstance(actor, Branch) else DEFAULT_START_TIMEOUT_S


def _limit_s(spec: ChildSpec, ref: AnyRef) -> float | None:
    """Seconds between stop and kill; None: kill at once."""
    if isinstance(spec.shutdown_s, BrutalKill):
        return None
    if spec.shutdown_s is not None:
        return spec.shutdown_s
    return math.inf if issubclass(ref.actor_class, Branch) else DEFAULT_SHUTDOWN_S


def _hook_limit_s(spec: ChildSpec, actor: AnyActor) -> float:
    """Seconds for the stop hooks of an actor that ends by itself, where nobody waits to kill it."""
    limit_s = _limit_s(spec, actor.actor_ref)
    return DEFAULT_SHUTDOWN_S if limit_s is None else limit_s
