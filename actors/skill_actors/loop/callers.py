"""What asks the model: a function of yours, or one made of a `Model`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from skill_actors.models.base import Message, MessageDone, Model, ModelError, ModelRequest

__all__ = ["CallModel", "model_caller"]

CallModel = Callable[[Sequence[Message]], Awaitable[object]]
"""Takes the messages so far; answers with a body of the Messages API, or raises."""


def model_caller(
    model: Model,
    *,
    name: str,
    system: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
    max_tokens: int = 8192,
    extra: Mapping[str, Any] | None = None,
) -> CallModel:
    """A function that asks `model`, for `run_loop`.

    Args:
        model: an `AnthropicModel`, or another one.
        name: of the model, as its provider knows it.
        system: the system prompt, with the skills in it.
        tools: definitions; those of the context.
        max_tokens: of one answer.
        extra: further fields of the request, such as `container`.

    """

    async def call(messages: Sequence[Message]) -> object:
        request = ModelRequest(
            model=name, messages=messages, system=system, tools=tools, max_tokens=max_tokens, extra=dict(extra or {})
        )
        answer: MessageDone | None = None
        async with model.stream(request) as events:
            async for event in events:
                if isinstance(event, MessageDone):
                    answer = event
        if answer is None:
            raise ModelError("the model ended without a message", code="protocol")
        return answer

    return call
