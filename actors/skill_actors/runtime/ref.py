"""Address of a TrioActor. It only adds to pykka's ActorRef: tell, ask, stop and proxy are pykka's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pykka
import trio
from pykka._envelope import Envelope

from skill_actors.runtime.chain import caller, refuse_cycle, waiting_for
from skill_actors.runtime.exit import ExitReason
from skill_actors.runtime.future import Expired, TrioFuture
from skill_actors.runtime.inline import INLINE_CALLS, HandedOver, serve_inline
from skill_actors.runtime.messages import Ask

if TYPE_CHECKING:
    from threading import Event

    from skill_actors.runtime.actor import TrioActor
    from skill_actors.runtime.cell import Cell
    from skill_actors.runtime.tally import Tallied
    from skill_actors.runtime.thread import ThreadActor

__all__ = ["DEFAULT_CALL_TIMEOUT_S", "TrioActorRef"]

A = TypeVar("A", bound="TrioActor | ThreadActor")
R = TypeVar("R")

DEFAULT_CALL_TIMEOUT_S = 5.0


class TrioActorRef(pykka.ActorRef[A]):
    """How one incarnation of an actor is spoken to. After a restart it is dead: keep the name, not the ref.

    `child_id`: the id it has under its supervisor, once started.
    """

    child_id: str | None = None

    def __init__(self, actor: A) -> None:
        super().__init__(actor)
        self._cell: Cell = actor._cell
        self._mailbox = self._cell.mailbox

    @property
    def exit_reason(self) -> ExitReason | None:
        """Why the actor ended; None while it has not."""
        return self._cell.exit_reason

    async def call(self, message: Ask[R], *, timeout: float | None = DEFAULT_CALL_TIMEOUT_S) -> R:
        """Ask and wait for the answer, at most `timeout` seconds (None: for ever), room in the mailbox included.

        If the caller is cancelled or times out, a queued message is never handled; a running handler goes on
        unless the message's class says `cancel_with_caller`.

        Raises:
            pykka.Timeout: no answer in time.
            pykka.ActorDeadError: the actor has ended, or ends before it answers.
            AskCycle: the actor waits, directly or not, for the one that calls.
            MailboxFull: the message was dropped, as the actor's overflow policy says.
            HandlerInterrupted: the handler was interrupted.
            Exception: whatever the handler raised.

        """
        cell, begun = self._cell, None
        if cell.inline_left >= 0:
            if cell.inline_left == 0:
                cell.inline_left = INLINE_CALLS
                await trio.lowlevel.checkpoint()
            if (parked := self._mailbox.parked) is not None:
                cell.inline_left -= 1
                served: R | HandedOver[R] = serve_inline(self._actor_weakref(), parked, message)
                if type(served) is not HandedOver:
                    return served
                begun = served.future
                del served
        try:
            calling = caller()
            if calling is None:
                answer: R = await self._ask(message, timeout, begun)
                return answer
            refuse_cycle(calling, cell)
            with waiting_for(calling, cell):
                answer = await self._ask(message, timeout, begun)
            return answer
        finally:
            del begun  # a failure's traceback holds this frame

    async def _ask(self, message: Any, timeout: float | None, begun: TrioFuture[Any] | None) -> Any:
        """Put a message into the mailbox, unless it was begun inline, and wait for the answer."""
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"a timeout is 0 or more seconds, not {timeout}")
        future = TrioFuture[Any]() if begun is None else begun
        envelope = Envelope(message, future)
        context, row = self._cell.context, None
        try:
            if begun is None and not self._mailbox.try_put(envelope):
                return await self._ask_in_scope(envelope, future, timeout)
            if timeout is None:
                return await future
            row = None if context is None else context.deadlines.add(future, timeout)
            if row is None:
                return await self._ask_in_scope(None, future, timeout)
            return await future
        except Expired:
            pass  # raised below, where it is no longer being handled: fewer frames are kept
        except trio.Cancelled:
            self._count("ask_abandoned")
            raise
        finally:
            if row is not None:
                row.pop(future, None)
            del future, envelope, begun  # as in `call`
        self._count("ask_timeouts")
        raise pykka.Timeout(f"{self.actor_class.__name__} did not answer {type(message).__name__} in {timeout} s")

    async def _ask_in_scope(self, queue: Envelope[Any] | None, future: TrioFuture[R], timeout: float | None) -> R:
        """Wait for the answer, and first for room in the mailbox for `queue`.

        Raises:
            Expired: not in time.

        """
        try:
            with trio.CancelScope(deadline=math.inf if timeout is None else trio.current_time() + timeout):
                if queue is not None:
                    await self._mailbox.send(queue)
                return await future
        finally:
            del queue, future
        raise Expired

    def _count(self, what: Tallied) -> None:
        if self._cell.context is not None:
            self._cell.context.tally.add(what, self.actor_class.__name__)

    @property
    def depth(self) -> int:
        """Messages that wait in its mailbox."""
        return len(self._mailbox)

    def oldest_message_s(self) -> float:
        """Seconds for which its oldest message has been handled, or has waited, at least; 0 while it is idle."""
        return self._cell.oldest_message_s()

    async def send(self, message: object) -> None:
        """Put a message into the mailbox, waiting for room. A checkpoint only if it has to wait.

        Raises:
            pykka.ActorDeadError: the actor has ended, or ends meanwhile.

        """
        await self._mailbox.send(Envelope(message))

    async def wait_stopped(self) -> ExitReason:
        """Wait until the actor has ended, teardown included; why it did."""
        return await self._cell.wait_exit()

    def when_stopped(self, tell: Callable[[ExitReason], object]) -> None:
        """Call `tell(reason)` once when the actor ends, whatever ended it; at once if it has. Trio thread only.

        It must not wait; an exception of it is logged, and nobody else's.
        """
        self._cell.monitor(object(), tell)

    def interrupt(self, only: Callable[[Any], bool] | None = None) -> bool:
        """Cancel the running async handler; the actor lives on and serves the next message. Trio thread only.

        The asker of the interrupted message gets HandlerInterrupted. Sync handlers and queued messages are not
        touched.

        Args:
            only: interrupts only if it returns True for the message being handled.

        Returns:
            whether a handler was cancelled.

        """
        return self._cell.interrupt(only)


def as_event(cell: Cell) -> Event:
    """The cell under the type that pykka gives `actor_stopped`."""
    return cast("Event", cell)
