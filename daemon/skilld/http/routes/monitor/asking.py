"""What questions about reported events have in common. All raise Refused for what is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from skill_actors.errors import Refused
from skilld.http.route import Call
from skilld.monitor.batch import LEVELS, STATUSES

__all__ = ["asked_id", "asked_level", "asked_status", "asked_text", "asked_time_us", "asked_uid"]

_MAX_ID: Final = float(1 << 53)
_MAX_TEXT_CHARS: Final = 500


def asked_uid(call: Call) -> int | None:
    """Whose events may be seen: one's own; None for everybody's, with the role admin."""
    return None if call.viewer.admin else call.viewer.uid


def asked_id(call: Call, name: str) -> int | None:
    return int(call.number(name, 0, low=0, high=_MAX_ID)) if name in call.query else None


def asked_level(call: Call, name: str) -> str | None:
    level = call.query.get(name)
    if level is not None and level.upper() not in LEVELS:
        raise Refused("bad_request", f"{name}={level[:40]!a}: expected one of {', '.join(LEVELS)}")
    return None if level is None else level.upper()


def asked_status(call: Call) -> str | None:
    status = call.query.get("status")
    if status is not None and status not in STATUSES:
        raise Refused("bad_request", f"status={status[:40]!a}: expected one of {', '.join(STATUSES)}")
    return status


def asked_text(call: Call) -> str | None:
    text = call.query.get("text")
    if text is not None and not (text.replace('"', " ").strip() and len(text) <= _MAX_TEXT_CHARS):
        raise Refused("bad_request", f"text: expected words, at most {_MAX_TEXT_CHARS} characters of them")
    return text


def asked_time_us(call: Call, name: str) -> int | None:
    text = call.query.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise Refused("bad_request", f"{name}={text[:40]!a}: expected a time such as 2026-01-15T09:30:00Z") from error
