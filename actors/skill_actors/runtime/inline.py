"""Serving an idle actor's sync handler inside the task of its caller, which spares two switches between tasks.

Only a parked actor is served so: its mailbox is empty and it runs nothing, so no message is overtaken, and nothing else
of it can run meanwhile. The handler runs in the actor's own context variables. What is left after the sync part (the
coroutine of an async handler, a crash) goes to the actor's task, which then goes on with it before anything else.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

import trio
from pykka._envelope import Envelope

from skill_actors.runtime.errors import Reject
from skill_actors.runtime.future import TrioFuture

if TYPE_CHECKING:
    from skill_actors.runtime.cell import Cell

__all__ = ["INLINE_CALLS", "HandedOver", "serve_inline"]

INLINE_CALLS: Final = 32  # then a checkpoint, so that a caller in a loop lets others run


R = TypeVar("R")


@final
class HandedOver(Generic[R]):
    """The actor's task goes on with the message; it will answer `future`."""

    __slots__ = ("future",)

    def __init__(self, future: TrioFuture[R]) -> None:
        self.future = future


def serve_inline(actor: Any, parked: trio.lowlevel.Task, message: Any) -> Any:
    """Handle a message now, in the caller's task, for the TrioActor whose task is `parked`.

    Returns:
        the answer, or a HandedOver.

    Raises:
        Reject: the handler's.

    """
    cell: Cell = actor._cell
    try:
        result = parked.context.run(actor._handle_receive, message)
    except Reject:
        _start_jobs(cell)
        raise
    except BaseException as error:
        try:
            return _hand_over(cell, message, error)
        finally:
            del message  # the traceback reaches this frame: no cycles
    if type(result) is CoroutineType:
        cell.scope, cell.handling = trio.CancelScope(), message
        return _hand_over(cell, message, result)
    _start_jobs(cell)
    return result


def _hand_over(cell: Cell, message: Any, rest: Any) -> HandedOver[Any]:
    future: TrioFuture[Any] = TrioFuture()
    if cell.scope is not None and getattr(message, "cancel_with_caller", False):
        future.on_abandon = cell.scope.cancel
    cell.begun = (Envelope(message, future), rest)
    cell.mailbox.wake()
    return HandedOver(future)


def _start_jobs(cell: Cell) -> None:
    """Have the actor's task begin the jobs that the handler gave it."""
    if cell.jobs is not None:
        cell.mailbox.wake()
