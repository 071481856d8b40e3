"""Conversations from conversations: forked, begun anew, written to a file and read from one."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skilld.http.answer import JsonAnswer
from skilld.http.lines import LineStream
from skilld.http.route import Call, Route
from skilld.http.routes.sessions import IDEMPOTENCY_KEY, idempotency_key, session_id
from skilld.http.sse import JSON_LINES

__all__ = ["ROUTES"]


class ForkRequest(BaseModel):
    """Where the new session leaves the old one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    after: Annotated[int, Field(ge=0)] | None = None
    title: str | None = None


class ResetRequest(BaseModel):
    """Whether the files go too."""

    model_config = ConfigDict(extra="forbid", strict=True)

    workspace: bool = False


async def fork(call: Call) -> Response:
    request: ForkRequest = call.body
    made = await call.services.sessions.fork(
        session_id(call), call.viewer, after=request.after, title=request.title, idempotency_key=idempotency_key(call)
    )
    return JsonAnswer(made, status_code=201, headers={"location": f"/v1/sessions/{made['id']}"})


async def reset(call: Call) -> Response:
    request: ResetRequest = call.body
    return JsonAnswer(await call.services.sessions.reset(session_id(call), call.viewer, workspace=request.workspace))


async def export(call: Call) -> Response:
    session = session_id(call)
    await call.services.sessions.get(session, call.viewer)  # refuses before the answer begins
    lines = call.services.sessions.export(session, call.viewer)
    return LineStream(lines, media_type=JSON_LINES, filename=f"{session}.jsonl")


async def take_in(call: Call) -> Response:
    raw: bytes = call.body
    made = await call.services.sessions.import_session(call.peer.uid, raw, idempotency_key(call))
    return JsonAnswer(made, status_code=201, headers={"location": f"/v1/sessions/{made['id']}"})


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sessions/{id}/fork",
        handler=fork,
        permission="send",
        summary="Make a session that goes on from a copy of this one, from its last ended turn or an earlier one.",
        body=ForkRequest,
        optional_body=True,
        parameters=(IDEMPOTENCY_KEY,),
        status=201,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{id}/reset",
        handler=reset,
        permission="send",
        summary="Cancel what runs and begin the conversation anew; with workspace, without its files.",
        body=ResetRequest,
        optional_body=True,
    ),
    Route(
        method="GET",
        path="/v1/sessions/{id}/export",
        handler=export,
        permission="read",
        summary="The session's settings and events as lines of JSON, for an import.",
        media=(JSON_LINES,),
    ),
    Route(
        method="POST",
        path="/v1/sessions/import",
        handler=take_in,
        permission="send",
        summary="Make a session from an exported one.",
        raw_body=JSON_LINES,
        parameters=(IDEMPOTENCY_KEY,),
        status=201,
    ),
)
