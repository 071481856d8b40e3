"""What agents may cost and have cost."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.workshop.workflows.runs import stamp_now
from skilld.http.answer import JsonAnswer
from skilld.http.descent import refuse_own
from skilld.http.route import Call, Route
from skilld.http.routes.workshop.places import OWNER, owner_of

__all__ = ["ROUTES"]


class LimitRequest(BaseModel):
    """A cap in dollars, null for none: of `agent`, or without one of all agents together."""

    model_config = ConfigDict(extra="forbid", strict=True)

    usd: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None
    agent: str | None = None


async def show(call: Call) -> Response:
    return JsonAnswer(await call.services.workshop().agents.budgets.show(owner_of(call)))


async def set_limit(call: Call) -> Response:
    refuse_own(call.peer, "set budgets")
    request: LimitRequest = call.body
    budgets = call.services.workshop().agents.budgets
    return JsonAnswer(await budgets.set_limit(call.viewer.uid, request.agent, request.usd))


async def reset(call: Call) -> Response:
    refuse_own(call.peer, "reset budgets")
    return JsonAnswer(await call.services.workshop().agents.budgets.reset(call.viewer.uid, stamp_now()))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/workshop/budget",
        handler=show,
        permission="read",
        summary="What your agents may cost, have cost, and have left: each, and all together.",
        parameters=(OWNER,),
    ),
    Route(
        method="PATCH",
        path="/v1/workshop/budget",
        handler=set_limit,
        permission="send",
        summary="Cap an agent, or all together, while they go on; null takes a cap away.",
        body=LimitRequest,
    ),
    Route(
        method="POST",
        path="/v1/workshop/budget/reset",
        handler=reset,
        permission="send",
        summary="Let what is shown as spent begin anew. Caps stay, and what they count.",
    ),
)
