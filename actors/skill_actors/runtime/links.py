"""Links: two monitors and a rule for exits. OTP's, but that a dead actor's own reason counts, not `noproc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skill_actors.runtime.errors import LinkedActorEnded
from skill_actors.runtime.exit import ExitKind, ExitReason
from skill_actors.runtime.messages import Down

if TYPE_CHECKING:
    from skill_actors.runtime.ref import TrioActorRef

__all__ = ["inherited", "link", "unlink"]


def inherited(ended: str, reason: ExitReason) -> ExitReason | None:
    """How an actor ends that is linked to one that ended so; None if it does not."""
    if reason.kind is ExitKind.NORMAL:
        return None
    kind = ExitKind.CRASH if reason.kind is ExitKind.INIT else reason.kind  # this one did start
    return ExitReason(kind, LinkedActorEnded(f"{ended} ended, which it was linked to: {reason}"))


def link(one: TrioActorRef[Any], other: TrioActorRef[Any]) -> None:
    """Have the end of either reach the other. Each stands in the other's monitors, under its own cell as key."""
    if one._cell is other._cell:
        return
    for watched, told in ((one, other), (other, one)):
        _watch(watched, told)


def _watch(watched: TrioActorRef[Any], told: TrioActorRef[Any]) -> None:
    def ended(reason: ExitReason) -> None:
        told._cell.demonitor(watched._cell)
        _tell(told, watched, reason)

    if told._cell.exit_reason is None:
        watched._cell.monitor(told._cell, ended)


def _tell(told: TrioActorRef[Any], ended: TrioActorRef[Any], reason: ExitReason) -> None:
    if getattr(told.actor_class, "trap_exits", False):
        told._cell.mailbox.put_control(Down(ended, reason))
    elif (inherits := inherited(ended.actor_class.__name__, reason)) is not None:
        told._cell.request_stop(inherits, self_bounded=True)


def unlink(one: TrioActorRef[Any], other: TrioActorRef[Any]) -> bool:
    """Take a link back; False if there is none."""
    linked = one._cell.demonitor(other._cell)
    return other._cell.demonitor(one._cell) or linked
