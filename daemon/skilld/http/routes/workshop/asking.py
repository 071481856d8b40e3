"""What is said to agents: one asked, told, waited for; one's result handed on; several told the same."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.workshop.agents.asking import Message
from skill_actors.workshop.agents.gathering import Gather
from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Route
from skilld.http.routes.messages import MessageFile, MessageOptions, content_of
from skilld.http.routes.sessions import IDEMPOTENCY_KEY, idempotency_key
from skilld.http.routes.workshop.agents import desk_of

__all__ = ["ROUTES"]

_MAX_WAIT_S: Final = 600.0
_MAX_TIMEOUT_S: Final = 7 * 86_400.0

Timeout = Annotated[float, Field(ge=0.1, le=_MAX_TIMEOUT_S, allow_inf_nan=False)]
Wait = Annotated[float, Field(ge=0, le=_MAX_WAIT_S, allow_inf_nan=False)]


class _Said(BaseModel):
    """A message. `timeout_s`: the turn is cancelled then; `force`: also if the agent crashed under it before."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str
    timeout_s: Timeout | None = None
    options: MessageOptions | None = None
    answer_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    files: list[MessageFile] = []
    force: bool = False

    def message(self, key: str | None) -> Message:
        """As the desk takes it."""
        return Message(
            text=self.text,
            key=key,
            timeout_s=self.timeout_s,
            options=None if self.options is None else self.options.model_dump(exclude_unset=True),
            schema=self.answer_schema,
            files=[(file.name, content_of(file)) for file in self.files],
            force=self.force,
        )


class CastRequest(_Said):
    """What an agent is told."""

    agent: str


class AskRequest(CastRequest):
    """What an agent is asked. `wait_s`: the answer is as things are then; the turn goes on."""

    wait_s: Wait = _MAX_WAIT_S


class AwaitRequest(BaseModel):
    """A turn to wait for, or agents until they have nothing to do; without either all of one's own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    turn: str | None = None
    agents: list[str] | None = None
    wait_s: Wait = _MAX_WAIT_S


class PipeRequest(BaseModel):
    """Whose last result goes to whom. A `template` has {result}, {message} and {from}."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    message: str | None = None
    template: str | None = None
    timeout_s: Timeout | None = None


class FanRequest(_Said):
    """What several agents are told, and how many of their answers are wanted."""

    agents: list[str]
    gather: Literal["none", "all", "quorum", "first", "best"] = "all"
    quorum: int | None = None
    judge: str | None = None
    criterion: str | None = None


async def ask(call: Call) -> Response:
    request: AskRequest = call.body
    message = request.message(idempotency_key(call))
    found = await desk_of(call).asking.ask(call.peer.uid, request.agent, message, wait_s=request.wait_s)
    return JsonAnswer(found)


async def cast(call: Call) -> Response:
    request: CastRequest = call.body
    sent = await desk_of(call).asking.cast(call.peer.uid, request.agent, request.message(idempotency_key(call)))
    return JsonAnswer(sent.to_dict(), status_code=202, headers={"location": f"/v1/turns/{sent.turn}"})


async def await_(call: Call) -> Response:
    request: AwaitRequest = call.body
    asking = desk_of(call).asking
    if request.turn is not None:
        if request.agents is not None:
            raise Refused("bad_request", "turn and agents: one of them, not both")
        return JsonAnswer(await asking.await_turn(call.peer.uid, request.turn, wait_s=request.wait_s))
    found = await asking.await_all(call.peer.uid, request.agents, wait_s=request.wait_s)
    return JsonAnswer({"items": list(found), "idle": all(item["idle"] for item in found)})


async def pipe(call: Call) -> Response:
    request: PipeRequest = call.body
    found = await desk_of(call).handing_on.pipe(
        call.peer.uid,
        request.source,
        request.target,
        message=request.message,
        template=request.template,
        timeout_s=request.timeout_s,
        key=idempotency_key(call),
    )
    return JsonAnswer(found)


async def fan(call: Call) -> Response:
    request: FanRequest = call.body
    gather = Gather.of_request(request.gather, request.quorum, request.judge, request.agents)
    found = await desk_of(call).handing_on.fan(
        call.peer.uid,
        request.agents,
        request.message(idempotency_key(call)),
        gather,
        judge=request.judge,
        criterion=request.criterion,
    )
    return JsonAnswer(found)


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/workshop/ask",
        handler=ask,
        permission="send",
        summary="Ask an agent: its turn once it has ended, or as it is after wait_s.",
        body=AskRequest,
        parameters=(IDEMPOTENCY_KEY,),
    ),
    Route(
        method="POST",
        path="/v1/workshop/cast",
        handler=cast,
        permission="send",
        summary="Tell an agent something. 202 once it is durable; its queue is bounded.",
        body=CastRequest,
        parameters=(IDEMPOTENCY_KEY,),
        status=202,
    ),
    Route(
        method="POST",
        path="/v1/workshop/await",
        handler=await_,
        permission="read",
        summary="Wait for the end of a turn, or until agents have nothing to do.",
        body=AwaitRequest,
        optional_body=True,
    ),
    Route(
        method="POST",
        path="/v1/workshop/pipe",
        handler=pipe,
        permission="send",
        summary="Wait for an agent and ask another about its result; an error of the first is the answer.",
        body=PipeRequest,
        parameters=(IDEMPOTENCY_KEY,),
    ),
    Route(
        method="POST",
        path="/v1/workshop/fan",
        handler=fan,
        permission="send",
        summary="Tell several agents the same and gather their answers: all, a quorum, the first, or the best one.",
        body=FanRequest,
        parameters=(IDEMPOTENCY_KEY,),
    ),
)
