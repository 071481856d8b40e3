"""How any supervisor runs and ends one child task. The decisions are elsewhere.

Ending a child: ask (control lane, so that a full mailbox cannot refuse), wait until its limit, kill, wait KILL_GRACE_S,
report it as unkillable. A nursery cannot end before such a task does; what bounds that is the process's watchdog.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import trio

from skill_actors.runtime.actor import TrioActor
from skill_actors.runtime.cell import Cell, Phase
from skill_actors.runtime.context import Context
from skill_actors.runtime.exit import ExitKind, ExitReason, drop_frames
from skill_actors.runtime.ref import TrioActorRef
from skill_actors.runtime.report import ReportEvent
from skill_actors.runtime.thread import ThreadActor

__all__ = ["KILL_GRACE_S", "SHUTDOWN", "AnyActor", "check_actor", "end_child", "run_child"]

KILL_GRACE_S: Final = 1.0
SHUTDOWN: Final = ExitReason(ExitKind.SHUTDOWN)

AnyActor = TrioActor | ThreadActor
Report = Callable[[ReportEvent, ExitReason | None], None]


def check_actor(made: Any) -> AnyActor:
    """`made`, if a supervisor can start it.

    Raises:
        TypeError: if it is no TrioActor and no ThreadActor, lacks `super().__init__()`, or has been started before.

    """
    if not isinstance(made, TrioActor | ThreadActor):
        raise TypeError(f"a factory must make a TrioActor or a ThreadActor, not {made!r}")
    cell = getattr(made, "_cell", None)
    if not isinstance(cell, Cell):
        raise TypeError(f"{type(made).__name__}.__init__ does not call super().__init__()")
    if cell.phase is not Phase.NEW or cell.context is not None:
        raise TypeError(f"this {type(made).__name__} was started before; a factory must make a new one each time")
    return made


async def run_child(
    actor: AnyActor,
    context: Context,
    start_timeout_s: float,
    shutdown_s: float,
    ended: Callable[[TrioActorRef[Any], ExitReason], None],
) -> None:
    """The task of one child. Calls `ended` exactly once; raises only cancellation."""
    cell, ref = actor._cell, actor.actor_ref
    try:
        await actor._runtime_live(start_timeout_s, shutdown_s)
    finally:
        reason = cell.exit_reason or ExitReason(ExitKind.KILLED)
        ended(ref, reason)
        if reason.error is not None and not isinstance(reason.error, Exception):
            context.abort(reason.error)
        drop_frames(reason.error)


async def end_child(cell: Cell, limit_s: float | None, report: Report) -> bool:
    """End a child and wait for it; False if it cannot be killed. `limit_s` None means kill at once."""
    if limit_s is not None:
        cell.request_stop(SHUTDOWN)
        if not math.isinf(limit_s):
            with trio.move_on_after(max(limit_s, 0.0)):
                await cell.wait_exit()
        else:
            await cell.wait_exit()
        if cell.exit_reason is not None:
            return True
        report(ReportEvent.KILLED, None)
    cell.kill()
    with trio.move_on_after(KILL_GRACE_S):
        await cell.wait_exit()
    if cell.exit_reason is not None:
        return True
    report(ReportEvent.UNKILLABLE, None)
    return False
