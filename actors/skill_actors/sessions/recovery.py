"""After a crash: what a turn that was running becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from skill_actors.models.base import Usage
from skill_actors.sessions.bill import Bill, stored_bill
from skill_actors.sessions.events import Event, utc_now
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.place_check import is_agents
from skill_actors.sessions.poison import POISONED, POISONED_WHY
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.views import ending_view, sum_totals, tell_turn_stop
from skill_actors.store.base import Journal, TurnRecord

__all__ = ["asked_calls", "close_interrupted", "close_poisoned", "close_waiting", "events_of", "is_resumable"]

_WHY = "the daemon stopped while the turn ran; nothing of it was run again"
_PAGE_EVENTS = 1000
_MAX_ASKED = 1000  # newest first: those that wait are among them


async def close_interrupted(log: SessionLog, turn: TurnRecord, env: Surroundings) -> None:
    """Give a turn that was running its ending, and say that the session was restarted.

    A tool call that was started and has no result is named as ambiguous: it may have taken effect.

    Raises: what `SessionLog.append` raises.
    """
    history = await log.load_history()
    bill = stored_bill(await events_of(env.journal, turn), turn.id, env.price_usd)
    data = ending_view(
        stop_reason="interrupted",
        usage=bill.usage,
        cost_usd=bill.cost_usd,
        error={"code": "interrupted", "message": _WHY},
        ambiguous=history.ambiguous(),
    )
    ended = replace(turn, status="interrupted", updated=utc_now(), result=data)
    await log.append(
        [Draft("session.restarted", None), Draft("turn.interrupted", turn.id, data)],
        turns=[ended],
        totals=sum_totals(log.record.totals, bill.usage, bill.known_usd),
    )
    tell_turn_stop(env.bus, ended, data)


async def is_resumable(log: SessionLog, turn: TurnRecord, env: Surroundings) -> bool:
    """Whether a turn that was running waited for nothing but approvals, so that it can go on where it was.

    Raises: what reading the store raises.
    """
    if env.approvals is None or is_agents(env, log.record.settings):  # an agent that waited is gone
        return False
    history = await log.load_history()
    return history.waits and bool(await asked_calls(log, turn, env))


async def asked_calls(log: SessionLog, turn: TurnRecord, env: Surroundings) -> frozenset[str]:
    """Ids of the turn's calls that have no result, and that somebody was asked about.

    Raises: what reading the store raises.
    """
    waiting = {call.id for call in (await log.load_history()).open_calls()}
    asked = await env.journal.list_approvals(status=None, turn=turn.id, limit=_MAX_ASKED)
    return frozenset(record.call for record in asked.items if record.call in waiting and record.status != "cancelled")


async def close_poisoned(log: SessionLog, turn: TurnRecord, env: Surroundings) -> None:
    """End a turn that was running as failed without looking at its history, which may be what ends the daemon.

    Raises: what `SessionLog.append` raises.
    """
    error = {"code": POISONED, "message": POISONED_WHY}
    data = ending_view(stop_reason=POISONED, usage=Usage(), cost_usd=None, error=error)
    ended = replace(turn, status="failed", updated=utc_now(), result=data)
    await log.append(
        [Draft("session.restarted", None), Draft("turn.failed", turn.id, data)],
        turns=[ended],
        totals=sum_totals(log.record.totals, Usage(), None),
    )
    tell_turn_stop(env.bus, ended, data)


async def close_waiting(
    log: SessionLog,
    turn: TurnRecord,
    env: Surroundings,
    *,
    status: Literal["cancelled", "failed"],
    code: str,
    why: str,
    resumed: bool = False,
) -> None:
    """End a turn that waits. One that had begun before the daemon did has its part in the session's sums.

    Raises: what reading the store raises, and what `SessionLog.append` raises; nothing was changed then.
    """
    bill = stored_bill(await events_of(env.journal, turn), turn.id, env.price_usd) if resumed else Bill(env.price_usd)
    error = {"code": code, "message": why}
    data = ending_view(stop_reason=code, usage=bill.usage, cost_usd=bill.cost_usd, error=error)
    ended = replace(turn, status=status, updated=utc_now(), result=data)
    totals = sum_totals(log.record.totals, bill.usage, bill.known_usd) if resumed else None
    await log.append([Draft(f"turn.{status}", turn.id, data)], turns=[ended], totals=totals)
    tell_turn_stop(env.bus, ended, data)


async def events_of(journal: Journal, turn: TurnRecord) -> Sequence[Event]:
    """All stored events from the turn's message on."""
    events: list[Event] = []
    after = turn.seq - 1
    while page := await journal.read_events(turn.session, after=after, limit=_PAGE_EVENTS):
        events.extend(page)
        after = page[-1].seq
    return events
