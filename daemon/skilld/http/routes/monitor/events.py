"""Events that other programs reported."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from skill_actors.errors import Refused
from skilld.http.answer import large_answer
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.monitor.asking import asked_id, asked_level, asked_status, asked_text, asked_time_us, asked_uid
from skilld.monitor.questions import MAX_PAGE, Wanted

__all__ = ["ROUTES"]

_MAX_WAIT_S: Final = 60.0
_MAX_DURATION_MS: Final = 1e12
_WORDS: Final = ("agent", "name", "channel", "trace", "session", "user", "tag", "model", "run")


async def events(call: Call) -> Response:
    limit = int(call.number("limit", 100, low=1, high=MAX_PAGE))
    after, before = asked_id(call, "after"), asked_id(call, "before")
    wait_s = call.number("wait", 0, low=0, high=_MAX_WAIT_S)
    if wait_s and after is None:
        raise Refused("bad_request", "wait goes with after: there is nothing to wait for in the past")
    wanted = Wanted(
        uid=asked_uid(call),
        **{name: call.query.get(name) for name in _WORDS},
        level=asked_level(call, "level"),
        level_is=asked_level(call, "level_is"),
        status=asked_status(call),
        pid=asked_id(call, "pid"),
        min_duration_us=_min_duration_us(call),
        text=asked_text(call),
        since_us=asked_time_us(call, "since"),
        until_us=asked_time_us(call, "until"),
        after=after,
        before=before,
        limit=limit,
    )
    return await large_answer({"items": await call.services.monitor().events(wanted, wait_s)})


def _min_duration_us(call: Call) -> int | None:
    least_ms = call.number("min_duration_ms", 0, low=0, high=_MAX_DURATION_MS)
    return round(least_ms * 1000) if "min_duration_ms" in call.query else None


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
            Parameter(name="level_is", summary="Only those of exactly this level."),
            Parameter(name="session", summary="Only those of this conversation of the program."),
            Parameter(name="user", summary="Only those of this user of the program."),
            Parameter(name="tag", summary="Only those with this tag."),
            Parameter(name="model", summary="Only calls of this model."),
            Parameter(name="run", summary="Only those of this run of a program."),
            Parameter(name="pid", summary="Only those of the process with this number, by its own word."),
            Parameter(name="status", summary="Only spans that ended so: ok, error, cancelled, closed, abandoned."),
            Parameter(name="min_duration_ms", summary="Only spans that took so long or longer."),
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
)
