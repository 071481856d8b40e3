"""What outlives the actor object: whether it lives, why it ended, who wants to know. Shared by actor and refs.

Phases: NEW -> STARTING (on_start, setup) -> RUNNING (messages) -> CLOSING (on_stop or on_failure, teardown) -> DEAD,
where any phase may go straight to CLOSING or DEAD. `scope` is the cancel scope of whatever the actor awaits in
its phase; an actor that waits for messages has none, a control message wakes it. All of it belongs to the trio
thread, except `is_set`, which may be read anywhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import pykka
import trio

from skill_actors.runtime.exit import ExitKind, ExitReason
from skill_actors.runtime.mailbox import Mailbox
from skill_actors.runtime.messages import Stop

if TYPE_CHECKING:
    from skill_actors.runtime.context import Context

__all__ = ["Cell", "Phase"]

Job = tuple[Callable[..., Awaitable[object]], tuple[Any, ...]]

_KILLED: Final = ExitReason(ExitKind.KILLED)


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
        "context",
        "exit_reason",
        "handling",
        "interruptible",
        "job_error",
        "job_nursery",
        "jobs",
        "killed",
        "mailbox",
        "phase",
        "scope",
        "served",
        "stop_reason",
        "stop_reply",
    )

    def __init__(self, mailbox: Mailbox, *, interruptible: bool = True) -> None:
        self.mailbox = mailbox
        self.interruptible = interruptible
        self.phase = Phase.NEW
        self.served = False  # whether it was ever RUNNING
        self.exit_reason: ExitReason | None = None
        self.stop_reason: ExitReason | None = None  # why it was asked to stop, once it was
        self.killed = False
        self.scope: trio.CancelScope | None = None
        self.handling: Any = None  # the message whose async handler runs
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

    def is_set(self) -> bool:
        """Whether the actor takes no more messages (pykka's `actor_stopped.is_set()`)."""
        return self.mailbox.closed

    def set(self) -> None:
        """pykka's `actor_stopped.set()`: ask for a stop."""
        self.request_stop(ExitReason(ExitKind.NORMAL))

    def enter(self, phase: Phase) -> None:
        """Go on to `phase` and wake whoever waits for it."""
        self.phase = phase
        if phase is Phase.RUNNING:
            self.served = True
        self._wake()

    def finish(self, reason: ExitReason) -> None:
        """The actor is gone: close, tell monitors and waiters."""
        self.exit_reason = reason
        self.scope = self.handling = None
        self.mailbox.closed = True
        self.enter(Phase.DEAD)
        monitors, self._monitors = self._monitors, None
        for tell in list((monitors or {}).values()):
            tell(reason)

    def request_stop(self, reason: ExitReason) -> None:
        """Stop before the queued messages; cancels a running handler if the actor is interruptible, and any setup."""
        if self.stop_reason is None:
            self.stop_reason = reason
        self.mailbox.put_control(Stop(reason))
        if self.scope is None:
            return
        if self.phase is Phase.STARTING or (self.phase is Phase.RUNNING and self.interruptible):
            self.scope.cancel()

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
        return self._monitors is not None and self._monitors.pop(key, None) is not None

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
