"""What the events of other programs add up to."""

from __future__ import annotations

from functools import partial
from typing import Final

from starlette.responses import Response

from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.monitor.asking import asked_time_us, asked_uid
from skilld.monitor.questions import MAX_PAGE
from skilld.monitor.totals import TotalsWanted, find_sessions, totals

__all__ = ["ROUTES"]


async def stats(call: Call) -> Response:
    return JsonAnswer(dict(await call.services.monitor().ask(partial(totals, wanted=_wanted(call)))))


async def sessions(call: Call) -> Response:
    limit = int(call.number("limit", 100, low=1, high=MAX_PAGE))
    found = await call.services.monitor().ask(partial(find_sessions, wanted=_wanted(call), limit=limit))
    return JsonAnswer({"items": found})


def _wanted(call: Call) -> TotalsWanted:
    return TotalsWanted(
        uid=asked_uid(call),
        agent=call.query.get("agent"),
        session=call.query.get("session"),
        since_us=asked_time_us(call, "since"),
        until_us=asked_time_us(call, "until"),
    )


_PARAMETERS: Final = (
    Parameter(name="agent", summary="Only what this agent reported."),
    Parameter(name="session", summary="Only what belongs to this conversation of the program."),
    Parameter(name="since", summary="Only what is from this time on, such as 2026-01-15T09:30:00Z."),
    Parameter(name="until", summary="Only what was before this time."),
)

ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/monitor/sessions",
        handler=sessions,
        permission="read",
        summary="The conversations that one's programs named, the latest first: calls, tokens, cost, errors.",
        parameters=(
            *_PARAMETERS,
            Parameter(name="limit", summary="How many at most; 100 without it, 1000 are the most."),
        ),
    ),
    Route(
        method="GET",
        path="/v1/monitor/stats",
        handler=stats,
        permission="read",
        summary="How much one's programs reported, and what their models used; with the role admin everybody's.",
        parameters=_PARAMETERS,
    ),
)
