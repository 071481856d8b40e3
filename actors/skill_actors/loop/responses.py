"""What a model answered, in the JSON of the Messages API: read strictly, and acted on.

A response is taken whole or refused whole. Half a tool call that is passed over would leave an id without a result,
and the API refuses every later request of such a conversation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.backends import ToolCall, ToolResult
from skill_actors.loop.context import ExecutionContext
from skill_actors.loop.execution import Watchers, result_block, run_calls
from skill_actors.models.assembly import count_usage
from skill_actors.models.base import Block, MessageDone, Usage
from skill_actors.sessions.engine import CallModel, Ending, RunTools, TurnEngine, TurnLimits, Unrun, text_of

__all__ = ["Processed", "Response", "ResponseError", "not_run", "parse_response", "process_response"]

_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,256}")


class ResponseError(Exception):
    """What came back is no answer. `code` is `api_error` if it is the API's own error, else `invalid_response`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer of a model; `message` has its content, stop reason, model and usage. `id` is the API's."""

    message: MessageDone
    id: str | None = None

    @property
    def stop_reason(self) -> str:
        return self.message.stop_reason

    @property
    def text_blocks(self) -> tuple[str, ...]:
        return tuple(block["text"] for block in self.message.content if block["type"] == "text")

    @property
    def text(self) -> str:
        """All it says, joined as it came."""
        return text_of(self.message.content)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            ToolCall(id=block["id"], name=block["name"], input=block["input"])
            for block in self.message.content
            if block["type"] == "tool_use"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """What follows from one answer.

    Args:
        done: whether the turn has ended; else `results` go to the model (nothing, after a pause), and it is asked on.
        text: what it said.
        stop_reason: as the API gave it, or the code of `error`.
        results: content of the next user message: one block for each call of the answer, in the order of the calls.
        error: code and message, if it ended badly.

    """

    done: bool
    text: str
    stop_reason: str
    results: tuple[Block, ...] = ()
    error: Mapping[str, str] | None = None


def parse_response(response: object, *, used_ids: Collection[str] = ()) -> Response:
    """The answer in a body of the Messages API (a mapping, or an object of its SDK).

    Args:
        response: with `content` and `stop_reason`; `id`, `model`, `usage`, `container` and `stop_details` are kept.
        used_ids: of earlier tool calls of the conversation; none may come again.

    Raises:
        ResponseError: it is an error of the API, or not a whole message.

    """
    body = _mapping(response)
    _refuse_error(body)
    if body.get("role", "assistant") != "assistant":
        raise _invalid(f"its role is {body['role']!r:.80}, not 'assistant'")
    stop_reason = body.get("stop_reason")
    if not isinstance(stop_reason, str) or not stop_reason:
        raise _invalid("it has no stop_reason, so nobody can tell whether it is whole")
    content = body.get("content")
    if not isinstance(content, list | tuple):
        raise _invalid("its content is not a list of blocks")
    details, id = body.get("stop_details"), body.get("id")
    container = body.get("container")
    message = MessageDone(
        model=str(body.get("model") or ""),
        stop_reason=stop_reason,
        content=_blocks(content, used_ids),
        usage=_usage(body.get("usage")),
        container=str(container["id"]) if isinstance(container, Mapping) and "id" in container else None,
        stop_details=dict(details) if isinstance(details, Mapping) else None,
    )
    return Response(message=message, id=str(id) if id is not None else None)


async def process_response(response: object, context: ExecutionContext) -> Processed:
    """Run what one answer of a model asks for; every call in it has its result, also where it was not run.

    Raises:
        ResponseError: as `parse_response`; then nothing was run.

    """
    parsed = parse_response(response)
    engine = TurnEngine(TurnLimits(iterations=2))  # this answer, and room for one more: the bound is the caller's
    engine.begin()
    step = engine.model_answered(parsed.message)
    match step.do:
        case RunTools(calls):
            done: dict[str, ToolResult] = {}
            await run_calls(calls, context, done, Watchers())
            results = tuple(result_block(call.id, done[call.id]) for call in calls)
            return Processed(done=False, text=parsed.text, stop_reason=parsed.stop_reason, results=results)
        case CallModel():
            return Processed(done=False, text=parsed.text, stop_reason=parsed.stop_reason)
        case Ending() as ending:
            return Processed(
                done=True,
                text=ending.text,
                stop_reason=ending.stop_reason,
                results=not_run(step.unrun),
                error=ending.error,
            )


def not_run(unrun: Sequence[Unrun]) -> tuple[Block, ...]:
    """Results of calls that never ran."""
    return tuple(
        result_block(each.call_id, ToolResult(content=each.reason, outcome="error"))  # the API wants an answer to each
        for each in unrun
    )


def _mapping(response: object) -> Mapping[str, Any]:
    dump = getattr(response, "model_dump", None)  # of the anthropic SDK's messages
    body = dump(mode="json", exclude_none=True) if callable(dump) else response
    if not isinstance(body, Mapping):
        raise _invalid(f"it is {type(response).__name__}, not an object")
    return body


def _refuse_error(body: Mapping[str, Any]) -> None:
    error = body.get("error")
    if body.get("type") != "error" and error is None:
        return
    told = error if isinstance(error, Mapping) else {"message": error}
    raise ResponseError("api_error", f"the API answered with {told.get('type') or 'an error'}: {told.get('message')}")


def _blocks(content: Sequence[object], used_ids: Collection[str]) -> list[Block]:
    blocks: list[Block] = []
    seen = set(used_ids)
    for number, block in enumerate(content):
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            raise _invalid(f"block {number} of its content has no type")
        if block["type"] == "text" and not isinstance(block.get("text"), str):
            raise _invalid(f"block {number} of its content is a text without text")
        if block["type"] == "tool_use":
            _check_call(number, block, seen)
            seen.add(block["id"])
        blocks.append(dict(block))
    return blocks


def _check_call(number: int, block: Mapping[str, Any], seen: Collection[str]) -> None:
    id, name = block.get("id"), block.get("name")
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise _invalid(f"block {number} of its content is a tool call without a usable id")
    if id in seen:
        raise _invalid(f"block {number} of its content repeats the id {id} of another tool call")
    if not isinstance(name, str) or not name:
        raise _invalid(f"the tool call {id} names no tool")
    if not isinstance(block.get("input"), Mapping):
        raise _invalid(f"the input of the tool call {id} is no object")


def _usage(reported: object) -> Usage:
    try:
        return count_usage(reported, Usage())
    except (TypeError, ValueError, AttributeError) as error:
        raise _invalid(str(error)) from None


def _invalid(why: str) -> ResponseError:
    return ResponseError("invalid_response", f"the model's answer cannot be used: {why}")
