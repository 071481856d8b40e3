"""What was spent."""

from __future__ import annotations

from datetime import date
from typing import Final, get_args

from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.store.ledger import UsageBy
from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Parameter, Route

__all__ = ["ROUTES"]

_BY: Final[tuple[UsageBy, ...]] = get_args(UsageBy)


async def usage(call: Call) -> Response:
    by = call.query.get("by", "day")
    if by not in _BY:
        raise Refused("bad_request", f"by={by[:40]!a}: expected one of {', '.join(_BY)}")
    since, until = _day(call, "since"), _day(call, "until")
    if since is not None and until is not None and since > until:
        raise Refused("bad_request", f"since={since} is after until={until}")
    return JsonAnswer(dict(await call.services.budgets.usage(call.viewer, by, since, until)))


def _day(call: Call, name: str) -> date | None:
    text = call.query.get(name)
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Refused("bad_request", f"{name}={text[:40]!a}: expected a day such as 2026-01-15") from error


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/usage",
        handler=usage,
        permission="read",
        summary="What was spent, in dollars, tokens, seconds and tool calls: one's own, and with the role admin all.",
        parameters=(
            Parameter(name="by", summary="What it is added up by: session, user, model or day, which is the default."),
            Parameter(name="since", summary="The first day that counts, in UTC, such as 2026-01-15."),
            Parameter(name="until", summary="The last day that counts."),
        ),
    ),
)
