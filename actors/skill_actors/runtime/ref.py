"""Address of a TrioActor. It only adds to pykka's ActorRef: tell, ask, stop and proxy are pykka's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pykka
import trio
from pykka._envelope import Envelope

from skill_actors.runtime.exit import ExitReason
from skill_actors.runtime.future import TrioFuture
from skill_actors.runtime.messages import Ask

if TYPE_CHECKING:
    from threading import Event

    from skill_actors.runtime.actor import TrioActor
    from skill_actors.runtime.cell import Cell

__all__ = ["DEFAULT_CALL_TIMEOUT_S", "TrioActorRef"]

A = TypeVar("A", bound="TrioActor")
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
            HandlerInterrupted: the handler was interrupted.
            Exception: whatever the handler raised.

        """
        if timeout is None:
            return await self._call(message)
        with trio.move_on_after(timeout):
            return await self._call(message)
        raise pykka.Timeout(f"{self.actor_class.__name__} did not answer {type(message).__name__} in {timeout} s")

    async def _call(self, message: Ask[R]) -> R:
        future: TrioFuture[R] = TrioFuture()
        envelope = Envelope(cast("Any", message), future)
        mailbox = self._mailbox
        if len(mailbox) < mailbox.capacity:
            mailbox.put_nowait(envelope)
        else:
            await mailbox.send(envelope)
        try:
            return await future
        finally:
            del future, envelope  # a failure's traceback holds this frame

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
        """Call `tell(reason)` once when the actor ends, whatever ended it; at once if it has. Trio thread only."""
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
