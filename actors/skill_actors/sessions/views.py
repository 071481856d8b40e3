"""Sessions and turns as clients see them, and the sums they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skill_actors.models.base import Usage
from skill_actors.store.base import SessionRecord, TurnRecord
from skill_actors.telemetry import Bus

__all__ = ["CrashFacts", "ending_view", "session_view", "sum_totals", "tell_turn_stop", "turn_view"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashFacts:
    """Crashes of the session's actor within a short time, and until when (RFC 3339) messages are refused for them."""

    crashes: int = 0
    poisoned_until: str | None = None


def session_view(
    record: SessionRecord, status: str, default_backends: tuple[str, ...], crashed: CrashFacts = CrashFacts()
) -> dict[str, Any]:
    """A session's JSON form. `skills` is null where the session may use all."""
    settings, totals = record.settings, record.totals
    return {
        "id": record.id,
        "title": settings.get("title", ""),
        "status": status,
        "model": settings.get("model"),
        "backends": list(settings.get("backends", default_backends)),
        "skills": settings.get("skills"),
        "owner_uid": record.owner_uid,
        "created": record.created,
        "updated": record.updated,
        "turns": totals.get("turns", 0),
        "usage": totals.get("usage", Usage().to_dict()),
        "cost_usd": totals.get("cost_usd", 0.0),
        "context": totals.get("context"),
        "labels": settings.get("labels", {}),
        "cwd": settings.get("cwd"),
        "limits": settings.get("limits", {}),
        "budget": settings.get("budget"),
        "policy": settings.get("policy"),
        "mcp": settings.get("mcp"),
        "on_disconnect": settings.get("on_disconnect", "continue"),
        "forked_from": settings.get("forked_from"),
        "parents": list(settings.get("parents", ())),
        "last_seq": record.last_seq,
        "crashes": crashed.crashes,
        "poisoned_until": crashed.poisoned_until,
    }


def turn_view(turn: TurnRecord) -> dict[str, Any]:
    """A turn's JSON form; `result` is the ending event's data, null while it has none."""
    return {
        "turn": turn.id,
        "session": turn.session,
        "seq": turn.seq,
        "status": turn.status,
        "created": turn.created,
        "updated": turn.updated,
        "result": None if turn.result is None else dict(turn.result),
    }


def ending_view(
    *,
    text: str = "",
    stop_reason: str,
    usage: Usage,
    cost_usd: float | None,
    duration_ms: int | None = None,
    model: str | None = None,
    iterations: int = 0,
    error: Mapping[str, str] | None = None,
    ambiguous: Sequence[str] = (),
) -> dict[str, Any]:
    """Data of a turn's ending, the same for all four kinds.

    Args:
        cost_usd: null where a price is unknown, or where a call was cut and the server had not told its usage.
        duration_ms: null where nobody was there to measure it.
        ambiguous: ids of tool calls that may have taken effect.

    """
    data: dict[str, Any] = {
        "text": text,
        "stop_reason": stop_reason,
        "usage": usage.to_dict(),
        "cost_usd": None if cost_usd is None else round(cost_usd, 9),
        "duration_ms": duration_ms,
        "model": model,
        "iterations": iterations,
    }
    if error is not None:
        data["error"] = dict(error)
    if ambiguous:
        data["ambiguous"] = list(ambiguous)
    return data


def tell_turn_stop(bus: Bus, ended: TurnRecord, ending: Mapping[str, Any]) -> None:
    """Tell of a turn's ending, whatever kind: what is not known of it is absent, not zero."""
    facts: dict[str, float] = dict(ending["usage"])
    if ending["duration_ms"] is not None:
        facts["duration"] = ending["duration_ms"] / 1000
    if ending["cost_usd"] is not None:
        facts["cost_usd"] = ending["cost_usd"]
    meta = {
        "outcome": ended.status,
        "stop_reason": ending["stop_reason"],
        "code": ending["error"]["code"] if "error" in ending else "",
        "model": ending["model"] or "",
        "session": ended.session,
        "turn": ended.id,
    }
    bus.emit("turn.stop", facts, meta)


def sum_totals(
    totals: Mapping[str, Any], usage: Usage, cost_usd: float | None, *, context: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A session's sums after one more turn.

    Args:
        cost_usd: None is an unknown price: the sum then stays unknown.
        context: how much of the model's window the conversation took last; None: as it was before.

    """
    before = totals.get("cost_usd", 0.0)
    known = cost_usd is not None and before is not None
    context = totals.get("context") if context is None else context
    return {
        **({} if context is None else {"context": dict(context)}),
        "turns": int(totals.get("turns", 0)) + 1,
        "usage": (Usage.from_dict(totals.get("usage", {})) + usage).to_dict(),
        "cost_usd": round(before + cost_usd, 9) if known else None,
    }
