"""What a hook is told, made of what the bus tells. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.models.base import Usage
from skill_actors.telemetry import Measurements, Metadata

__all__ = ["BUS_EVENTS", "Notice", "notice_of"]

BUS_EVENTS: Final = ("approval.requested", "approval.resolved", "budget.exceeded", "budget.warning", "turn.stop")
"""What has to be listened to."""

_MAX_CHARS: Final = 200  # of a name that a client or a model server has chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One event for a hook: `body` is the JSON object that it gets, in UTF-8."""

    event: str
    session: str
    turn: str
    body: bytes


def notice_of(name: str, facts: Measurements, meta: Metadata, time: str) -> Notice:
    """The notice of an event of the bus, one of BUS_EVENTS.

    Args:
        time: RFC 3339.

    """
    if name in ("approval.requested", "approval.resolved"):
        return _approval_notice(name, meta, time)
    if name in ("budget.exceeded", "budget.warning"):
        return _budget_notice(name, facts, meta, time)
    event = f"turn.{meta['outcome']}"
    return _notice(event, meta, time, event, _ending(facts, meta))


def _approval_notice(name: str, meta: Metadata, time: str) -> Notice:
    """Which call waits for somebody's word, or what became of it."""
    asked = name == "approval.requested"
    event, id = "approval.needed" if asked else name, _short(meta["id"])
    facts = {"approval": id, "tool": _short(meta["tool"]), "call": _short(meta["call"])}
    return _notice(event, meta, time, f"{event}:{id}", facts if asked else {**facts, "status": _short(meta["status"])})


def _budget_notice(name: str, facts: Measurements, meta: Metadata, time: str) -> Notice:
    """Which limit of which cap: one that refuses a call, or one of which a share is used."""
    cap, unit = _short(meta["cap"]), _short(meta["unit"])
    figures = {key: facts.get(key) for key in ("used", "limit", "share" if name == "budget.warning" else "wanted")}
    what = f"{name}:{cap}:{unit}" + (f":{facts['share']:g}" if name == "budget.warning" else "")
    return _notice(name, meta, time, what, {"cap": cap, "unit": unit, **figures})


def _notice(event: str, meta: Metadata, time: str, what: str, more: Mapping[str, Any]) -> Notice:
    session, turn = str(meta["session"]), str(meta["turn"])
    body = {"event": event, "id": f"{turn}:{what}", "time": time, "session": session, "turn": turn, **more}
    return Notice(event=event, session=session, turn=turn, body=json.dumps(body).encode())


def _ending(facts: Measurements, meta: Metadata) -> dict[str, Any]:
    duration_s = facts.get("duration")
    return {
        "stop_reason": _short(meta["stop_reason"]),
        "code": _short(meta["code"]) or None,
        "model": _short(meta["model"]) or None,
        "duration_ms": None if duration_s is None else round(duration_s * 1000),
        "cost_usd": facts.get("cost_usd"),
        "usage": {key: int(facts.get(key, 0)) for key in Usage().to_dict()},
    }


def _short(value: object) -> str:
    return str(value)[:_MAX_CHARS]
