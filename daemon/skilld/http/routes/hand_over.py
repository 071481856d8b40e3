"""Files of a session from one of its places to another."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Route
from skilld.http.routes.sessions import session_id

__all__ = ["ROUTES"]


class HandOverRequest(BaseModel):
    """Which file, and the names of the places it goes from and to."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    source: str = Field(alias="from")
    target: str = Field(alias="to")


async def hand_over(call: Call) -> Response:
    request: HandOverRequest = call.body
    asked = {"name": request.name, "from": request.source, "to": request.target}
    return JsonAnswer(await call.services.hand_overs.hand_over(session_id(call), call.viewer, asked))


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sessions/{id}/hand-over",
        handler=hand_over,
        permission="send",
        summary="Copy a file from one place of a session to another, under the same name.",
        body=HandOverRequest,
    ),
)
