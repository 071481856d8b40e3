"""Turns that end the daemon: how often one may be taken up again, counted where a crash does not erase it.

A turn that was running when the daemon died is never run again, but its end has to be written, and a turn that only
waited is run. Either may be what kills the process (a history too large for its memory, say), and would kill it at
every start. So each attempt after the first is counted in the session's totals before anything is done for it, and
when they are used up the turn is ended as failed, unread. The count goes with the turn's ending.
"""

from __future__ import annotations

from typing import Final

from skill_actors.sessions.log import SessionLog

__all__ = ["ATTEMPTS", "POISONED", "POISONED_WHY", "forget_attempts", "try_again"]

ATTEMPTS: Final = 3
POISONED: Final = "poisoned"
POISONED_WHY: Final = (
    f"the daemon stopped each of the {ATTEMPTS + 1} times that it took this turn up; it is given up and not run again"
)


async def try_again(log: SessionLog, turn: str) -> bool:
    """Count one more attempt durably; False if there were ATTEMPTS already.

    Raises: what `SessionLog.append` raises.
    """
    counts = dict(log.record.totals.get("attempts", {}))
    if counts.get(turn, 0) >= ATTEMPTS:
        return False
    counts[turn] = counts.get(turn, 0) + 1
    await log.append([], totals={**log.record.totals, "attempts": counts})
    return True


async def forget_attempts(log: SessionLog, turn: str) -> None:
    """The turn was taken up and has not ended the daemon: what comes now counts anew.

    Raises: what `SessionLog.append` raises.
    """
    counts = dict(log.record.totals.get("attempts", {}))
    if counts.pop(turn, None) is not None:
        await log.append([], totals={**log.record.totals, "attempts": counts})
