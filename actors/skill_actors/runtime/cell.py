"""What outlives the actor object: whether it lives, why it ended, who wants to know. Shared by actor and refs.

Phases: NEW -> STARTING (on_start, setup) -> RUNNING (messages) -> CLOSING (on_stop or on_failure, teardown) -> DEAD,
where any phase may go straight to CLOSING or DEAD. `scope` is the cancel scope of whatever the actor awaits in
its phase; an actor that waits for messages has none, a control message wakes it. All of it belongs to the trio
thread, except `is_set`, which may be read anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from enum import IntEnum
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import pykka
import trio

from skill_actors.runtime.chain import caller, waiting_for
from skill_actors.runtime.exit import ExitKind, ExitReason
from skill_actors.runtime.mailbox import Mailbox
from skill_actors.runtime.messages import Stop

if TYPE_CHECKING:
    from pykka._envelope import Envelope

    from skill_actors.runtime.context import Context

__all__ = ["Cell", "Phase"]

Job = tuple[Callable[..., Awaitable[object]], tuple[Any, ...]]

_KILLED: Final = ExitReason(ExitKind.KILLED)
_log = logging.getLogger(__name__)


class Phase(IntEnum):
    """Where an actor is in its life."""

    NEW = 0
    STARTING = 1
    RUNNING = 2
    CLOSING = 3
    DEAD = 4


class Cell:
    """State of one incarnation of an actor; stands in for the threading.Event that pykka calls `actor_stopped`."""

    __slots__ = (
        "_monitors",
        "_waiters",
        "begun",
        "context",
        "exit_reason",
        "handling",
        "inline_left",
        "interruptible",
        "job_error",
        "job_nursery",
        "jobs",
        "killed",
        "mailbox",
        "phase",
        "progress_at",
        "scope",
        "self_bounded",
        "served",
        "stop_reason",
        "stop_reply",
        "waits_for",
    )

    def __init__(self, mailbox: Mailbox, *, interruptible: bool = True) -> None:
        self.mailbox = mailbox
        self.interruptible = interruptible
        self.phase = Phase.NEW
        self.served = False  # whether it was ever RUNNING
        self.exit_reason: ExitReason | None = None
        self.stop_reason: ExitReason | None = None  # why it was asked to stop, once it was
        self.self_bounded = False  # whether nobody will kill it in time, though it was asked to stop
        self.killed = False
        self.scope: trio.CancelScope | None = None
        self.handling: Any = None  # the message whose async handler runs
        self.begun: tuple[Envelope[Any], Any] | None = None  # a message whose caller ran its sync part (see `inline`)
        self.inline_left = -1  # calls to serve inline until one of them is a checkpoint; -1: it is not served so
        self.progress_at = 0.0  # perf_counter() when the last message was begun; 0 while it waits for messages
        self.waits_for: list[Cell] | None = None  # see `chain`
        self.context: Context | None = None  # once started
        self.stop_reply: pykka.Future[Any] | None = None  # of pykka's stop message, answered at the very end
        self.jobs: list[Job] | None = None  # to be started
        self.job_nursery: trio.Nursery | None = None
        self.job_error: BaseException | None = None
        self._waiters: set[trio.lowlevel.Task] | None = None
        self._monitors: dict[object, Callable[[ExitReason], object]] | None = None

    def bind(self, context: Context) -> None:
        """Make the actor part of a system, in its trio run."""
        self.context = context
        self.mailbox.bind(context.token, context.thread_id)
        self.mailbox.tally = context.tally

    def oldest_message_s(self) -> float:
        """Seconds for which its oldest message has been handled, or has waited, at least; 0 if there is none."""
        return perf_counter() - self.progress_at if self.progress_at else 0.0

    def is_set(self) -> bool:
        """Whether the actor takes no more messages (pykka's `actor_stopped.is_set()`)."""
        return self.mailbox.closed

    def set(self) -> None:
        """pykka's `actor_stopped.set()`: ask for a stop."""
        self.request_stop(ExitReason(ExitKind.NORMAL), self_bounded=True)

    def enter(self, phase: Phase) -> None:
        """Go on to `phase` and wake whoever waits for it."""
        self.phase = phase
        if phase is Phase.RUNNING:
            self.served = True
        self._wake()

    def finish(self, reason: ExitReason) -> None:
        """The actor is gone: close, tell monitors and waiters."""
        self.exit_reason = reason
        self.scope = self.handling = self.jobs = self.job_nursery = None
        self.progress_at = 0.0
        self.mailbox.closed = True
        self.enter(Phase.DEAD)
        monitors, self._monitors = self._monitors, None
        for tell in list((monitors or {}).values()):
            try:
                tell(reason)
            except Exception:
                _log.exception("who was to be told of the end of a %s failed", self.mailbox.owner)

    def request_stop(self, reason: ExitReason, *, self_bounded: bool = False) -> None:
        """Stop before the queued messages; cancels a running handler if the actor is interruptible, and any setup.

        Args:
            reason: of the first request; later ones change nothing.
            self_bounded: whether the actor has to bound its stop hooks itself, since no supervisor waits to kill it.

        """
        if self.stop_reason is None:
            self.stop_reason = reason
            self.self_bounded = self_bounded
        self.mailbox.put_control(Stop(reason))
        if self.scope is not None and self._stop_cancels():
            self.scope.cancel()

    def _stop_cancels(self) -> bool:
        return self.phase is Phase.STARTING or (self.phase is Phase.RUNNING and self.interruptible)

    def await_in(self, scope: trio.CancelScope) -> None:
        """What the actor begins to await can be reached in `scope`; by a stop or kill that has come already, too."""
        self.scope = scope
        if self.killed or (self.stop_reason is not None and self._stop_cancels()):
            scope.cancel()

    def asked_to_stop(self) -> ExitReason | None:
        """Why it was asked to stop or killed; None while it was not."""
        return self.stop_reason

    def kill(self) -> None:
        """Cancel whatever the actor does, teardown included. Nothing of its own runs any more."""
        self.killed = True
        self.stop_reason = _KILLED
        self.mailbox.put_control(Stop(_KILLED))
        if self.scope is not None:
            self.scope.cancel()

    def interrupt(self, only: Callable[[Any], bool] | None) -> bool:
        """Cancel the running async handler if its message satisfies `only`; whether there was one."""
        if self.phase is not Phase.RUNNING or self.scope is None or self.handling is None:
            return False
        if only is not None and not only(self.handling):
            return False
        self.scope.cancel()
        return True

    def monitor(self, key: object, tell: Callable[[ExitReason], object]) -> None:
        """Call `tell(reason)` once when the actor ends; at once if it has."""
        if self.exit_reason is not None:
            tell(self.exit_reason)
            return
        if self._monitors is None:
            self._monitors = {}
        self._monitors[key] = tell

    def demonitor(self, key: object) -> bool:
        """Forget a monitor; False if it has fired or never was."""
        if self._monitors is None or self._monitors.pop(key, None) is None:
            return False
        self._monitors = self._monitors or None
        return True

    async def wait_started(self) -> None:
        """Wait until setup is over, whichever way."""
        await self._wait_for(Phase.RUNNING)

    async def wait_exit(self) -> ExitReason:
        """Wait until the actor has ended; why it did."""
        await self._wait_for(Phase.DEAD)
        assert self.exit_reason is not None
        return self.exit_reason

    async def _wait_for(self, phase: Phase) -> None:
        if self.phase >= phase:
            await trio.lowlevel.checkpoint()
            return
        calling = caller()
        if calling is None:
            await self._wait_until(phase)
            return
        with waiting_for(calling, self):
            await self._wait_until(phase)

    async def _wait_until(self, phase: Phase) -> None:
        task = trio.lowlevel.current_task()

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            if self._waiters is not None:
                self._waiters.discard(task)
            return trio.lowlevel.Abort.SUCCEEDED

        while self.phase < phase:
            if self._waiters is None:
                self._waiters = set()
            self._waiters.add(task)
            await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for task in waiters or ():
            trio.lowlevel.reschedule(task)
