"""Messages and the turns they begin."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.ids import is_id
from skill_actors.sessions.events import Position
from skilld.http.agents_rights import check_child
from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.sessions import (
    IDEMPOTENCY_KEY,
    ArtifactSetting,
    BudgetSetting,
    Name,
    idempotency_key,
    session_id,
)
from skilld.http.services import Accepted
from skilld.http.sse import JSON_LINES, SSE, EventStream

__all__ = ["ROUTES", "turn_accepted"]

_MAX_WAIT_S: Final = 600.0


class MessageFile(BaseModel):
    """A file that comes with a message, for the session's workspace."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    content_base64: str


class MessageOptions(BaseModel):
    """What differs in the message's own turn from the rest of its session."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Name | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: list[Name] | None = None
    timeout_s: Annotated[float, Field(ge=0.1, le=604_800)] | None = None
    budget: BudgetSetting | None = None


class MessageRequest(BaseModel):
    """What a user says. A `schema` of null is none, also where the session has one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str
    files: list[MessageFile] = []
    artifacts: list[ArtifactSetting] = []
    answer_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    options: MessageOptions | None = None
    mode: Literal["follow_up", "steer", "interrupt"] = "follow_up"
    pinned: bool = False

    @property
    def asked_schema(self) -> dict[str, Any] | Literal[False] | None:
        """As the session manager takes it."""
        return False if self.answer_schema is None and "answer_schema" in self.model_fields_set else self.answer_schema


async def submit(call: Call) -> Response:
    session = session_id(call)
    await check_child(call, session)
    request: MessageRequest = call.body
    files = [(file.name, content_of(file)) for file in request.files]
    artifacts = [artifact.model_dump(exclude_unset=True) for artifact in request.artifacts]
    accepted = await call.services.sessions.submit(
        session,
        call.viewer,
        request.text,
        files,
        idempotency_key(call),
        artifacts,
        request.asked_schema,
        options=None if request.options is None else request.options.model_dump(exclude_unset=True),
        mode=request.mode,
        pinned=request.pinned,
    )
    if call.accepts(SSE):
        return _turn_stream(call, accepted, sse=True)
    if call.accepts(JSON_LINES):
        return _turn_stream(call, accepted, sse=False)
    return turn_accepted(accepted)


def turn_accepted(accepted: Accepted) -> Response:
    """The answer to what a turn will be made of, or is given: it is durable, and there it is looked after."""
    return JsonAnswer(accepted.to_dict(), status_code=202, headers={"location": f"/v1/turns/{accepted.turn}"})


def _turn_stream(call: Call, accepted: Accepted, *, sse: bool) -> Response:
    sessions = call.services.sessions

    async def on_disconnect() -> None:
        session = await sessions.get(accepted.session, call.viewer)
        if session.get("on_disconnect") == "cancel":
            await sessions.cancel_turn(accepted.turn, call.viewer)

    after = Position(accepted.seq - 1)
    opened = sessions.follow(accepted.session, call.viewer, after=after, turn=accepted.turn, live=True)
    return EventStream(opened, sse=sse, on_disconnect=on_disconnect)


def content_of(file: MessageFile) -> bytes:
    """What it holds. Raises Refused("bad_request")."""
    try:
        return base64.b64decode(file.content_base64, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("bad_request", f"files: content_base64 of {file.name[:80]!a} is not base64") from error


def _turn_id(call: Call) -> str:
    value = call.params["id"]
    if not is_id(value, "trn"):
        raise Refused("not_found", f"no turn {value[:60]!a}")
    return value


async def show_turn(call: Call) -> Response:
    turn = _turn_id(call)
    wait_s = call.number("wait", 0.0, low=0.0, high=_MAX_WAIT_S)
    return JsonAnswer(await call.services.sessions.get_turn(turn, call.viewer, wait_s=wait_s))


async def cancel_turn(call: Call) -> Response:
    return JsonAnswer(await call.services.sessions.cancel_turn(_turn_id(call), call.viewer))


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sessions/{id}/messages",
        handler=submit,
        permission="send",
        summary="Say something. 202 once it is durable; as a stream, 200 with the turn's events until its ending.",
        body=MessageRequest,
        parameters=(IDEMPOTENCY_KEY,),
        status=202,
        media=("application/json", SSE, JSON_LINES),
    ),
    Route(
        method="GET",
        path="/v1/turns/{id}",
        handler=show_turn,
        permission="read",
        summary="A turn and, once it has ended, its result.",
        parameters=(Parameter(name="wait", summary=f"Seconds to wait for its end, at most {_MAX_WAIT_S:g}."),),
    ),
    Route(
        method="POST",
        path="/v1/turns/{id}/cancel",
        handler=cancel_turn,
        permission="send",
        summary="Cancel one turn, waiting or running.",
    ),
)
