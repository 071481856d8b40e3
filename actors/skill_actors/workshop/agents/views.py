"""Agents and what they have spent, as clients see them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from skill_actors.store.ledger import Amounts, Sums
from skill_actors.workshop.agents.record import AgentRecord

__all__ = ["agent_view", "cost_view", "is_good", "sum_of", "text_of"]

_STATUS: Final[Mapping[str, str]] = {"queued": "working", "running": "working"}


def agent_view(
    record: AgentRecord, session: Mapping[str, Any] | None, open_turns: int, cost: Mapping[str, Any]
) -> dict[str, Any]:
    """An agent's JSON form.

    Args:
        session: its conversation's; None where that was deleted.
        open_turns: that run or wait in it.
        cost: what it has spent ever; see `cost_view`.

    """
    settings = record.settings
    found = session or {}
    status: str = record.state
    if status == "live":
        status = str(found.get("status", "idle"))
        status = _STATUS.get(status, status)
    runs = found.get("status") in ("running", "waiting")
    return {
        "name": record.name,
        "owner_uid": record.owner_uid,
        "status": status,
        "role": settings.role,
        "backend": settings.backend,
        "backends": found.get("backends"),
        "model": settings.model,
        "profile": settings.profile,
        "session": None if session is None else record.session,
        "before": list(record.before),
        "queue_depth": max(0, open_turns - 1) if runs or open_turns else 0,
        "queue": settings.queue,
        "turns": record.turns,
        "last_turn": record.last,
        **cost,
        "max_cost_usd": settings.max_cost_usd,
        "timeout_s": settings.timeout_s,
        "crashes": _crashes(record),
        "created": record.created,
        "updated": record.updated,
    }


def _crashes(record: AgentRecord) -> dict[str, Any]:
    times = record.crashes.times
    last = None
    if times:
        last = datetime.fromtimestamp(times[-1], UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"recent": len(times), "in_a_row": record.crashes.in_a_row, "last": last, "why": record.crashes.why}


def cost_view(sums: Sums) -> dict[str, Any]:
    """What was spent; the money is null where some of it is not known, and `known_usd` is the rest."""
    known_usd = sums.used.nanousd / 10**9
    return {
        "cost_usd": None if sums.unpriced else known_usd,
        "known_usd": known_usd,
        "tokens": sums.used.tokens,
        "seconds": sums.used.millis / 1000,
        "tool_calls": sums.used.tool_calls,
    }


def sum_of(sums: Iterable[Sums]) -> Sums:
    """All of them together."""
    used, unpriced = Amounts(), 0
    for each in sums:
        used, unpriced = used + each.used, unpriced + each.unpriced
    return Sums(used=used, unpriced=unpriced)


def is_good(turn: Mapping[str, Any]) -> bool:
    """Whether a turn has ended with a result: what failed, was cancelled or says that it is an error has none."""
    result = turn.get("result") or {}
    return turn.get("status") == "finished" and not result.get("error")


def text_of(turn: Mapping[str, Any]) -> str:
    """What a turn has said, also one that was cut short."""
    return str((turn.get("result") or {}).get("text") or "")
