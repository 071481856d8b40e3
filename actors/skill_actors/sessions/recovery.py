"""After a crash: what a turn that was running becomes."""

from __future__ import annotations

from dataclasses import replace

from skill_actors.sessions.events import utc_now
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.store.base import TurnRecord

__all__ = ["close_interrupted"]

_WHY = "the daemon stopped while the turn ran; nothing of it was run again"


async def close_interrupted(log: SessionLog, turn: TurnRecord) -> None:
    """Give a turn that was running its ending, and say that the session was restarted.

    A tool call that was started and has no result is named as ambiguous: it may have taken effect.
    """
    history = await log.load_history()
    data = {
        "text": "",
        "stop_reason": "interrupted",
        "usage": None,
        "cost_usd": None,
        "duration_ms": None,
        "ambiguous": list(history.ambiguous()),
        "error": {"code": "interrupted", "message": _WHY},
    }
    ended = replace(turn, status="interrupted", updated=utc_now(), result=data)
    await log.append(
        [Draft("session.restarted", None), Draft("turn.interrupted", turn.id, data)],
        turns=[ended],
    )
