"""What other programs reported."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from starlette.responses import Response

from skill_actors.errors import Refused
from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Parameter, Route
from skilld.monitor.batch import LEVELS
from skilld.monitor.questions import MAX_PAGE, Wanted

__all__ = ["ROUTES"]

_MAX_WAIT_S: Final = 60.0
_MAX_ID: Final = float(1 << 53)
_MAX_TEXT_CHARS: Final = 500


async def events(call: Call) -> Response:
    limit = int(call.number("limit", 100, low=1, high=MAX_PAGE))
    after, before = _id(call, "after"), _id(call, "before")
    wait_s = call.number("wait", 0, low=0, high=_MAX_WAIT_S)
    if wait_s and after is None:
        raise Refused("bad_request", "wait goes with after: there is nothing to wait for in the past")
    wanted = Wanted(
        uid=None if call.viewer.admin else call.viewer.uid,
        **{name: call.query.get(name) for name in ("agent", "name", "channel", "trace")},
        level=_level(call),
        text=_text(call),
        since_us=_time_us(call, "since"),
        until_us=_time_us(call, "until"),
        after=after,
        before=before,
        limit=limit,
    )
    return JsonAnswer({"items": await call.services.monitor().events(wanted, wait_s)})


async def stats(call: Call) -> Response:
    return JsonAnswer(await call.services.monitor().totals(call.viewer))


def _id(call: Call, name: str) -> int | None:
    return int(call.number(name, 0, low=0, high=_MAX_ID)) if name in call.query else None


def _level(call: Call) -> str | None:
    level = call.query.get("level")
    if level is not None and level.upper() not in LEVELS:
        raise Refused("bad_request", f"level={level[:40]!a}: expected one of {', '.join(LEVELS)}")
    return None if level is None else level.upper()


def _text(call: Call) -> str | None:
    text = call.query.get("text")
    if text is not None and not (text.replace('"', " ").strip() and len(text) <= _MAX_TEXT_CHARS):
        raise Refused("bad_request", f"text: expected words, at most {_MAX_TEXT_CHARS} characters of them")
    return text


def _time_us(call: Call, name: str) -> int | None:
    text = call.query.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise Refused("bad_request", f"{name}={text[:40]!a}: expected a time such as 2026-01-15T09:30:00Z") from error


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/monitor/events",
        handler=events,
        permission="read",
        summary="What one's programs reported, the newest first; with the role admin what everybody's did.",
        parameters=(
            Parameter(name="agent", summary="Only what this agent reported."),
            Parameter(name="name", summary="Only events and spans of this name."),
            Parameter(name="channel", summary="Only those of this channel."),
            Parameter(name="level", summary="Only those of this level or a worse one: DEBUG to CRITICAL."),
            Parameter(name="trace", summary="Only those of this trace."),
            Parameter(name="text", summary="Only those whose name or data have all of these words."),
            Parameter(name="since", summary="Only those from this time on, such as 2026-01-15T09:30:00Z."),
            Parameter(name="until", summary="Only those before this time."),
            Parameter(name="after", summary="Only those that came after this id, the oldest first."),
            Parameter(name="before", summary="Only those that came before this id: the next page."),
            Parameter(name="wait", summary="With after: wait up to so many seconds for the first."),
            Parameter(name="limit", summary="How many at most; 100 without it, 1000 are the most."),
        ),
    ),
    Route(
        method="GET",
        path="/v1/monitor/stats",
        handler=stats,
        permission="read",
        summary="How much one's programs reported, by agent, channel and level; with the role admin everybody's.",
    ),
)
