"""A fake Responses API: a real HTTP server on loopback that answers the `codex` program what a test tells it to.

Replies are written as for the fake Messages API; parts of a reply become items of a response:

    Text("done")                                  an assistant's message, streamed by deltas
    Thinking("let me see")                        a reasoning item with that as its summary
    ToolUse("exec_command", {"cmd": "ls"})        a function call, which the program then really makes
    ToolUse("mcp__board/claim_work", {...})       a call in a namespace, as tools of MCP servers are called
    Whole({"type": "web_search_call", ...})       any other item, in one piece

Each request is checked (key, path, fields, results without a call), then answered by the next queued answer, else by
`respond`. Usage that a reply does not state is counted from the texts. Every request is recorded.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, assert_never

import trio

from skill_actors.models.base import Usage
from skill_actors.testing.connection import Connection, ConnectionOver, sse
from skill_actors.testing.replies import (
    Answer,
    HangUp,
    HttpError,
    Part,
    Reply,
    Respond,
    StreamError,
    Text,
    Thinking,
    ToolUse,
    Whole,
)
from skill_actors.testing.server import FakeServer, RecordedRequest

__all__ = ["FakeResponsesApi", "echo_reply", "open_fake_responses"]

_PATH: Final = "/v1/responses"
_CHARS_PER_TOKEN: Final = 4
_RESULTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_CALLS: Final = frozenset({"function_call", "custom_tool_call", "local_shell_call"})

Event = dict[str, Any]


def echo_reply(body: Mapping[str, Any]) -> Reply:
    """Says what the newest item of the input is: the user's words again, or the result of a call."""
    last = body["input"][-1]
    if last.get("type") in _RESULTS:
        return Reply([Text(f"result: {_text_of(last.get('output'))}")])
    return Reply([Text(f"you said: {_text_of(last.get('content'))}")])


class FakeResponsesApi(FakeServer[Answer]):
    """Serve it with `open_fake_responses`, `serve_in_thread`, or `serve` in a nursery of yours.

    Args:
        answers: given in order to the first valid requests.
        respond: asked when no answer is queued.
        api_keys: keys that are accepted; None for any.

    Raises:
        ValueError: an answer has a part that only the Messages API has.

    """

    def __init__(
        self,
        answers: Iterable[Answer] = (),
        *,
        respond: Respond = echo_reply,
        api_keys: Collection[str] | None = None,
    ) -> None:
        super().__init__(respond, api_keys)
        self.enqueue(*answers)

    @property
    def base_url(self) -> str:
        """For a provider's `base_url`; valid once it is served."""
        return f"{self._origin}/v1"

    @property
    def bodies(self) -> list[Any]:
        """The bodies of the requests for a response so far."""
        return [request.body for request in self.requests if request.resource == _PATH]

    def enqueue(self, *answers: Answer) -> None:
        """Append answers to the queue; from any thread. Raises ValueError for a part that is of the other API only."""
        for answer in answers:
            if isinstance(answer, Reply):
                for part in answer.blocks:
                    _item(part, "")
        super().enqueue(*answers)

    def _answer(self, record: RecordedRequest, headers: Mapping[str, str], content: bytes) -> Answer:
        key = headers.get("authorization", "").removeprefix("Bearer ") or None
        return self._refusal(record, key) or self._next(record.body)

    def _refusal(self, record: RecordedRequest, key: str | None) -> HttpError | None:
        if record.resource != _PATH:
            return HttpError(404, message=f"no such path: {record.path}")
        if record.method != "POST":
            return HttpError(405, "invalid_request_error", "Method Not Allowed")
        if not self._takes(key):
            return HttpError(401, message="Incorrect API key provided" if key else "Missing bearer authentication")
        problem = _problem(record.body)
        return HttpError(400, message=problem) if problem else None

    async def _send(self, connection: Connection, record: RecordedRequest, answer: Answer) -> None:
        match answer:
            case HangUp():
                raise ConnectionOver
            case HttpError():
                record.status = answer.status
                await connection.send_error(answer, _error_of(answer))
            case Reply():
                record.status = 200
                await _stream(connection, answer, record.body, connection.request_id.replace("req", "resp"))
            case _:
                assert_never(answer)


def _problem(body: Any) -> str | None:
    """What the API would refuse in a request; None if it is well formed."""
    if not isinstance(body, dict):
        return "The request body is not valid JSON"
    if not isinstance(body.get("model"), str):
        return "Missing required parameter: 'model'."
    items = body.get("input")
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        return "Invalid type for 'input': expected a list of items."
    if body.get("stream") is not True:
        return "This server streams only."
    called = {item.get("call_id") for item in items if item.get("type") in _CALLS}
    for item in items:
        if item.get("type") in _RESULTS and item.get("call_id") not in called:
            return f"No tool call found for function call output with call_id {item.get('call_id')}."
    return None


async def _stream(connection: Connection, reply: Reply, body: Mapping[str, Any], response: str) -> None:
    told = partial(_failed, response=response)
    await connection.begin_stream()
    await trio.sleep(reply.first_delay_s)
    await _event(connection, {"type": "response.created", "response": {"id": response, "status": "in_progress"}})
    deltas = 0
    for index, part in enumerate(reply.blocks):
        item = _item(part, f"{response}_{index}")
        await _event(connection, {"type": "response.output_item.added", "output_index": index, "item": _empty(item)})
        for delta in _deltas(part, reply.chunk_chars):
            event = {"type": "response.output_text.delta", "item_id": item["id"], "output_index": index, "delta": delta}
            if reply.fail is not None and deltas == reply.fail.after:
                return await connection.break_stream(reply.fail, event, told)
            if hold := reply.holds.get(deltas):
                await hold.wait()
            await trio.sleep(reply.delay_s)
            await _event(connection, event)
            deltas += 1
        await _event(connection, {"type": "response.output_item.done", "output_index": index, "item": item})
    if reply.fail is not None:
        return await connection.break_stream(reply.fail, _completed(reply, body, response), told)
    await _event(connection, _completed(reply, body, response))
    await connection.end_stream()


def _failed(error: StreamError, response: str) -> Event:
    told = {"code": error.type, "message": error.message}
    return {"type": "response.failed", "response": {"id": response, "status": "failed", "error": told}}


async def _event(connection: Connection, event: Event) -> None:
    await connection.send_text(sse(event))


def _item(part: Part, id_: str) -> dict[str, Any]:
    """The whole item of the response that a part stands for.

    Raises:
        ValueError: for a part that only the Messages API has.

    """
    match part:
        case Text(text):
            content = [{"type": "output_text", "text": text, "annotations": []}]
            return {"type": "message", "id": f"msg_{id_}", "role": "assistant", "content": content}
        case Thinking(thinking):
            summary = [{"type": "summary_text", "text": thinking}]
            return {"type": "reasoning", "id": f"rs_{id_}", "summary": summary, "encrypted_content": ""}
        case ToolUse():
            namespace, _, name = part.name.rpartition("/")
            text = part.raw_json if part.raw_json is not None else json.dumps(dict(part.input))
            call = {"type": "function_call", "id": f"fc_{id_}", "call_id": part.id or f"call_{id_}"}
            return {**call, **({"namespace": namespace} if namespace else {}), "name": name, "arguments": text}
        case Whole(block):
            return {"id": f"it_{id_}", **block}
        case _:
            raise ValueError(f"the Responses API has no item for {type(part).__name__}")


def _empty(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item as it is when it begins."""
    blank: dict[str, Any] = {"content": [], "summary": [], "arguments": ""}
    return {name: blank.get(name, value) for name, value in item.items()}


def _deltas(part: Part, chars: int) -> Sequence[str]:
    if not isinstance(part, Text):
        return ()
    return [part.text[start : start + chars] for start in range(0, len(part.text), chars)]


def _completed(reply: Reply, body: Mapping[str, Any], response: str) -> Event:
    usage = reply.usage or _counted(reply, body)
    counts = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
    return {"type": "response.completed", "response": {"id": response, "status": "completed", "usage": counts}}


def _counted(reply: Reply, body: Mapping[str, Any]) -> Usage:
    said = sum(len(json.dumps(_item(part, ""))) for part in reply.blocks)
    return Usage(
        input_tokens=len(json.dumps(body["input"])) // _CHARS_PER_TOKEN, output_tokens=said // _CHARS_PER_TOKEN
    )


def _text_of(value: Any) -> str:
    """The text in an item's content or output: itself, or that of its parts."""
    if isinstance(value, list):
        return "".join(str(part.get("text") or "") for part in value if isinstance(part, dict))
    return str(value)


def _error_of(error: HttpError) -> dict[str, Any]:
    kind = error.type or ("server_error" if error.status >= 500 else "invalid_request_error")
    return {"error": {"message": error.message, "type": kind, "param": None, "code": None, **error.details}}


@asynccontextmanager
async def open_fake_responses(
    answers: Iterable[Answer] = (), *, respond: Respond = echo_reply, api_keys: Collection[str] | None = None
) -> AsyncIterator[FakeResponsesApi]:
    """Serve a fake API while the block runs, in the same loop."""
    api = FakeResponsesApi(answers, respond=respond, api_keys=api_keys)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: api.serve(task_status=task_status))
        yield api
        nursery.cancel_scope.cancel()
