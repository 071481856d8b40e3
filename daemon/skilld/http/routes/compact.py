"""Making a conversation shorter when somebody asks for it."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from skilld.http.route import Call, Route
from skilld.http.routes.messages import turn_accepted
from skilld.http.routes.sessions import IDEMPOTENCY_KEY, idempotency_key, session_id

__all__ = ["ROUTES"]


async def compact(call: Call) -> Response:
    accepted = await call.services.sessions.submit(
        session_id(call), call.viewer, "", (), idempotency_key(call), compact=True
    )
    return turn_accepted(accepted)


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sessions/{id}/compact",
        handler=compact,
        permission="send",
        summary="Put a summary in the place of the session's earlier part, in a turn behind those that wait.",
        parameters=(IDEMPOTENCY_KEY,),
        status=202,
    ),
)
