"""Conversations on their way: a word to the turn that runs, holding still, going on."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Route
from skilld.http.routes.messages import turn_accepted
from skilld.http.routes.sessions import IDEMPOTENCY_KEY, idempotency_key, session_id

__all__ = ["ROUTES"]


class SteerRequest(BaseModel):
    """What the model is told with its next call."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str


async def steer(call: Call) -> Response:
    request: SteerRequest = call.body
    accepted = await call.services.sessions.submit(
        session_id(call), call.viewer, request.text, (), idempotency_key(call), mode="steer"
    )
    return turn_accepted(accepted)


async def pause(call: Call) -> Response:
    return JsonAnswer(await call.services.sessions.pause(session_id(call), call.viewer))


async def resume(call: Call) -> Response:
    return JsonAnswer(await call.services.sessions.resume(session_id(call), call.viewer))


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sessions/{id}/steer",
        handler=steer,
        permission="send",
        summary="Say something to the turn that runs; without one it is an ordinary message. `status` says which.",
        body=SteerRequest,
        parameters=(IDEMPOTENCY_KEY,),
        status=202,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{id}/pause",
        handler=pause,
        permission="send",
        summary="Hold a session still, over every restart: messages are taken and wait.",
    ),
    Route(
        method="POST",
        path="/v1/sessions/{id}/resume",
        handler=resume,
        permission="send",
        summary="Let a paused session go on.",
    ),
)
