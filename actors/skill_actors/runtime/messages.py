"""Messages: `Ask[R]` for callers, `Down` from monitors, and what travels on the control lane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

if TYPE_CHECKING:
    from skill_actors.runtime.exit import ExitReason
    from skill_actors.runtime.ref import TrioActorRef

__all__ = ["Ask", "Control", "Down", "Ping", "Stop"]

R = TypeVar("R")


class Ask(Generic[R]):
    """Base of messages that are answered with an `R`: `await ref.call(message)` is then typed.

    `cancel_with_caller`: whether the running handler is cancelled when its caller goes away or times out. A
    message that is still queued when its caller goes away is never handled, whatever this says.
    """

    __slots__ = ()

    cancel_with_caller: ClassVar[bool] = False


class Ping(Ask[None]):
    """Answered by supervisors when its turn comes in their mailbox: what they were doing before is done."""

    __slots__ = ()


class Control:
    """Base of messages on the control lane: unbounded, and always taken before ordinary messages."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Stop(Control):
    """End the actor now, before what is queued."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Down(Control):
    """An actor watched with `monitor` has ended."""

    ref: TrioActorRef[Any]
    reason: ExitReason
