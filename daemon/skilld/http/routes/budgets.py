"""What may be spent: caps, and what is left of them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skilld.http.answer import JsonAnswer
from skilld.http.descent import refuse_own
from skilld.http.route import Call, Parameter, Route

__all__ = ["ROUTES"]

_MAX_NAME: Final = 200


class BudgetRequest(BaseModel):
    """A cap, and the limits of it that are set; null takes one away, and what is not named stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=_MAX_NAME)]
    usd: float | None = None
    tokens: int | None = None
    seconds: float | None = None
    tool_calls: int | None = None

    def changes(self) -> dict[str, Any]:
        """The limits that were named."""
        return self.model_dump(exclude_unset=True, exclude={"name"})


async def listing(call: Call) -> Response:
    found = await call.services.budgets.caps(call.viewer, call.query.get("name"))
    return JsonAnswer({"items": found, "next": None})


async def put(call: Call) -> Response:
    request: BudgetRequest = call.body
    refuse_own(call.peer, "set budgets")
    return JsonAnswer(dict(await call.services.budgets.set_cap(call.viewer, request.name, request.changes())))


async def remove(call: Call) -> Response:
    refuse_own(call.peer, "unset budgets")
    await call.services.budgets.unset_cap(call.viewer, call.params["name"])
    return Response(status_code=204)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/budgets",
        handler=listing,
        permission="read",
        summary="The caps in force that bind one, with the role admin all: their limits, what is used, held and left.",
        parameters=(Parameter(name="name", summary="Only this cap, such as day, user/1000 or session/ses_..."),),
    ),
    Route(
        method="POST",
        path="/v1/budgets",
        handler=put,
        permission="send",
        summary="Set limits of a cap. Needs the role admin, but for a cap of a session of one's own.",
        body=BudgetRequest,
    ),
    Route(
        method="DELETE",
        path="/v1/budgets/{name:path}",
        handler=remove,
        permission="send",
        summary="Take away a cap that was set. Those of the configuration stay.",
        status=204,
    ),
)
