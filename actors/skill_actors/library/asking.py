"""How a turn asks its model: a `Model` by name, or a function of the program that takes messages or whole requests.

A function whose first parameter is called `request` gets the body of a Messages API request, as a mapping; one of two
parameters gets the messages and that body; any other gets the messages alone. With these alone a function cannot know
the tools, the system prompt or the container that belong to the conversation; where code is hosted it is refused,
since its calls would reach another container.

An async function is awaited. A plain one runs in a thread; if the turn is cancelled meanwhile nobody waits for it, and
what it answers is dropped.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import trio

from skill_actors.backends.anthropic import (
    HostedClient,
    HostedError,
    HostedSkill,
    code_execution_tool,
    container_config,
)
from skill_actors.backends.anthropic.turn import is_container_lost
from skill_actors.library.errors import SkillError
from skill_actors.loop import Response, parse_response
from skill_actors.models.base import Message, MessageDone, Model, ModelError, ModelRequest, SkillHint
from skill_actors.models.request import request_body
from skill_actors.sessions.answer_schema import output_config

__all__ = ["AskModel", "Asking", "Hosting", "as_caller", "check_model", "encodable", "in_thread", "is_async"]

AskModel = Callable[..., object] | Model | HostedClient
"""A function, plain or async, or a Model, or a client of the API, which is asked for whole answers."""


@dataclass(slots=True)
class Hosting:
    """Code that the provider runs: what belongs to each request of the conversation, and which container it has.

    Args:
        skills: by type, id and version.
        container: id of the last one that an answer named; kept until another is.
        replaced: whether the container of the conversation was gone in this turn.

    """

    skills: Sequence[HostedSkill] = ()
    container: str | None = None
    replaced: bool = False

    def extra(self) -> dict[str, Any]:
        """Fields of the request."""
        config = container_config(self.skills, self.container)
        return {"container": config} if config else {}


@dataclass(slots=True, kw_only=True)
class Asking:
    """Asks the model of one turn. To be called with the messages so far.

    Args:
        model: checked by `check_model`.
        name: of the model, as its provider knows it.
        system: the system prompt.
        tools: of the client, for the request.
        max_tokens: of one answer.
        schema: that the answer has to keep to; None for text.
        hosting: what runs at the provider; None if nothing does.
        answered: awaited with each answer.
        hints: of skills, for a model that understands no language.

    """

    model: Callable[..., object] | Model
    name: str
    system: str
    tools: Sequence[Mapping[str, Any]]
    max_tokens: int
    hosting: Hosting | None
    schema: Mapping[str, Any] | None
    answered: Callable[[Response], Awaitable[None]]
    hints: Sequence[SkillHint] = field(default=())

    async def __call__(self, messages: Sequence[Message]) -> object:
        """The answer. Raises what the model raises, and ResponseError for what is no answer."""
        await trio.lowlevel.checkpoint_if_cancelled()  # a function of the program need not do so before it asks
        answer = await self._ask_with_container(messages)
        response = _response(answer)
        if self.hosting is not None and response.message.container is not None:
            self.hosting.container = response.message.container
        await self.answered(response)
        return answer

    async def _ask_with_container(self, messages: Sequence[Message]) -> object:
        try:
            return await self._ask(messages)
        except Exception as error:
            if self.hosting is None or self.hosting.container is None or not _is_lost(error, self.hosting.container):
                raise
            gone = self.hosting.container
            if messages[-1]["role"] == "assistant":  # a call of hosted code is unfinished in there
                self.hosting.container = None
                raise SkillError(
                    "container_not_found",
                    f"the container {gone} is gone in the middle of the turn; send a further message to go on",
                    details={"container_id": gone},
                ) from error
        self.hosting.container = None
        self.hosting.replaced = True
        return await self._ask(messages)

    async def _ask(self, messages: Sequence[Message]) -> object:
        request = ModelRequest(
            model=self.name,
            messages=messages,
            system=self.system,
            tools=self._tools(),
            max_tokens=self.max_tokens,
            skills=self.hints,
            extra={**output_config(self.schema), **({} if self.hosting is None else self.hosting.extra())},
        )
        if not callable(self.model):
            return await _streamed(self.model, request)
        match _wants(self.model):
            case "request":
                return await _called(self.model, encodable(request_body(request)))
            case "both":
                return await _called(self.model, encodable(messages), encodable(request_body(request)))
            case "messages":
                return await _called(self.model, encodable(messages))

    def _tools(self) -> list[Mapping[str, Any]]:
        return [*([] if self.hosting is None else [code_execution_tool()]), *self.tools]


def check_model(model: object, *, name: str, hosted: bool) -> Callable[..., object] | Model:
    """The model of a turn, before anything is said in it.

    Raises:
        SkillError: "missing_api_callback": there is none, or it cannot be asked in this conversation.

    """
    if isinstance(model, HostedClient):
        model, needs_name = model.ask, True
    else:
        needs_name = not callable(model) and getattr(model, "provider", "offline") != "offline"
    if needs_name and not name:
        raise SkillError("missing_api_callback", "which model is to answer? Give model_name, here or to the session")
    if callable(model):
        if hosted and _wants(model) == "messages":
            raise SkillError(
                "missing_api_callback",
                "where code is hosted the function has to send whole requests, with tools and container: write a "
                "function whose parameter is called request, or give a Model",
            )
        return model
    if not hasattr(model, "stream"):
        raise SkillError("missing_api_callback", f"{type(model).__name__} is no model: give a function, or a Model")
    return cast("Model", model)


def _wants(function: Callable[..., object]) -> Literal["messages", "request", "both"]:
    """What it is to be given."""
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):  # of a builtin
        return "messages"
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each for each in parameters if each.kind in plain and each.default is inspect.Parameter.empty]
    if parameters and parameters[0].name == "request":
        return "request"
    has_both = len(needed) == 2 or any(each.name == "request" and each.kind in plain for each in parameters[1:2])
    return "both" if has_both else "messages"


def encodable(value: Any) -> Any:
    """The same JSON as text that UTF-8 can carry.

    Half a surrogate pair, which models and users do write, becomes U+FFFD: an SDK cannot send it, so that each further
    turn of the conversation would fail.
    """
    try:  # in C, since histories are long
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, TypeError):
        return _mended(value)
    return value


def _mended(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        case Mapping():
            return {key: _mended(each) for key, each in value.items()}
        case list() | tuple():
            return [_mended(each) for each in value]
        case _:
            return value


def as_caller(model: AskModel) -> Any:
    """A function of messages for a backend that awaits what it asks. Whatever else it is, the backend gets as it is."""
    if not callable(model) or is_async(model) or _wants(model) != "messages":
        return model
    function = model

    async def call(messages: Sequence[Message]) -> object:
        return await _called(function, messages)

    return call


async def _called(function: Callable[..., object], *given: object) -> object:
    if is_async(function):
        awaited: Any = function(*given)
        return await awaited
    answer = await in_thread(function, *given)
    return await answer if inspect.isawaitable(answer) else answer


async def in_thread(function: Callable[..., object], *given: object) -> object:
    """What a plain function of the program gives, from a thread; if this is cancelled, nobody waits for it.

    The thread is under no limit that others share: functions that never end must not keep others from running, nor
    what else here runs in threads.
    """

    def held() -> list[object]:  # in a list, since a thread may not give back what is to be awaited
        return [function(*given)]

    [answer] = await trio.to_thread.run_sync(held, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
    return answer


async def _streamed(model: Model, request: ModelRequest) -> MessageDone:
    answer: MessageDone | None = None
    async with model.stream(request) as events:
        async for event in events:
            if isinstance(event, MessageDone):
                answer = event
    if answer is None:
        raise ModelError("the model ended without a message", code="protocol")
    return answer


def _response(answer: object) -> Response:
    if isinstance(answer, MessageDone):
        return Response(message=answer, id=answer.id)
    return parse_response(answer)


def _is_lost(error: Exception, container: str) -> bool:
    """Whether the API says that it does not have this container (any more)."""
    if isinstance(error, HostedError):
        return is_container_lost(error, container)
    status = error.status if isinstance(error, ModelError) else getattr(error, "status_code", None)
    told = HostedError("anthropic_api_error", str(error), details={"status": status})
    return is_container_lost(told, container)


def is_async(function: Any) -> bool:
    """Whether calling it gives what is to be awaited; of an object that can be called, its `__call__` tells."""
    while isinstance(function, functools.partial):
        function = function.func
    plain = function if inspect.isroutine(function) or inspect.isclass(function) else function.__call__
    return inspect.iscoroutinefunction(plain)
