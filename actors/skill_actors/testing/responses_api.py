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
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, assert_never

import h11
import trio

from skill_actors.models.base import Usage
from skill_actors.testing.api_server import Outcome, RecordedRequest
from skill_actors.testing.connection import Connection, ConnectionOver
from skill_actors.testing.replies import (
    Answer,
    Cut,
    Failure,
    Garbage,
    HangUp,
    HttpError,
    Part,
    Reply,
    Respond,
    Stall,
    StreamError,
    Text,
    Thinking,
    ToolUse,
    Whole,
)

__all__ = ["FakeResponsesApi", "echo_reply", "open_fake_responses", "serve_responses_in_thread"]

_PATH: Final = "/v1/responses"
_SECRET: Final = "authorization"
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


class FakeResponsesApi:
    """Serve it with `open_fake_responses`, `serve_responses_in_thread`, or `serve` in a nursery of yours.

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
        self.requests: list[RecordedRequest] = []
        self.port = 0
        self._answers: deque[Answer] = deque()
        self._respond = respond
        self._api_keys = api_keys
        self._changed = trio.Event()
        self._connections = 0
        self.enqueue(*answers)

    @property
    def base_url(self) -> str:
        """For a provider's `base_url`; valid once it is served."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def bodies(self) -> list[Any]:
        """The bodies of the requests for a response so far."""
        return [request.body for request in self.requests if request.path == _PATH]

    def enqueue(self, *answers: Answer) -> None:
        """Append answers to the queue; from any thread. Raises ValueError for a part that is of the other API only."""
        for answer in answers:
            if isinstance(answer, Reply):
                for part in answer.blocks:
                    _item(part, "")
        self._answers.extend(answers)

    def forget_answers(self) -> None:
        """Drop those that no request has been given yet; from any thread."""
        self._answers.clear()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, looking again at whatever happens to a request. In the server's own loop."""
        while not condition():
            await self._changed.wait()

    async def serve(self, *, port: int = 0, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on loopback until cancelled; port 0 takes a free one. Started once connections are taken.

        Raises:
            OSError: it cannot listen there.

        """
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._serve_connection, listeners)
            task_status.started()

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        connection = Connection(stream, self._connections)
        try:
            async with stream:
                while (request := await connection.receive()) is not None:
                    await self._serve_request(connection, request)
        except (ConnectionOver, h11.ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # of one client; recorded with its request where there was one

    async def _serve_request(self, connection: Connection, received: tuple[h11.Request, bytes]) -> None:
        record, key = _record(*received)
        record.connection = connection.number
        self.requests.append(record)
        self._notify()
        number = len(self.requests)
        connection.request_id = f"req_fake_{number:06}"
        outcome: Outcome = "failed"
        try:
            answer = self._refusal(record, key) or self._next(record.body)
            if await connection.watch(_send, connection, record, answer, number):
                outcome = "client_gone"
                raise ConnectionOver
            outcome = "complete"
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            outcome = "client_gone"
            raise
        finally:
            record.outcome, record.ended_s = outcome, time.monotonic()
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _refusal(self, record: RecordedRequest, key: str | None) -> HttpError | None:
        if record.path != _PATH:
            return HttpError(404, message=f"no such path: {record.path}")
        if record.method != "POST":
            return HttpError(405, "invalid_request_error", "Method Not Allowed")
        if key is None or (self._api_keys is not None and key not in self._api_keys):
            return HttpError(401, message="Incorrect API key provided" if key else "Missing bearer authentication")
        problem = _problem(record.body)
        return HttpError(400, message=problem) if problem else None

    def _next(self, body: Mapping[str, Any]) -> Answer:
        return self._answers.popleft() if self._answers else self._respond(body)


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


async def _send(connection: Connection, record: RecordedRequest, answer: Answer, number: int) -> None:
    match answer:
        case HangUp():
            raise ConnectionOver
        case HttpError():
            record.status = answer.status
            await trio.sleep(answer.delay_s)
            wait = {"retry-after": f"{answer.retry_after_s:g}"} if answer.retry_after_s is not None else {}
            await connection.send_whole(answer.status, *_error_content(answer), {**wait, **answer.headers})
        case Reply():
            record.status = 200
            await _stream(connection, answer, record.body, f"resp_fake_{number:06}")
        case _:
            assert_never(answer)


async def _stream(connection: Connection, reply: Reply, body: Mapping[str, Any], response: str) -> None:
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
                return await _fail(connection, reply.fail, event, response)
            if hold := reply.holds.get(deltas):
                await hold.wait()
            await trio.sleep(reply.delay_s)
            await _event(connection, event)
            deltas += 1
        await _event(connection, {"type": "response.output_item.done", "output_index": index, "item": item})
    if reply.fail is not None:
        return await _fail(connection, reply.fail, _completed(reply, body, response), response)
    await _event(connection, _completed(reply, body, response))
    await connection.end_stream()


async def _fail(connection: Connection, failure: Failure, cut: Event, response: str) -> None:
    match failure:
        case StreamError():
            error = {"code": failure.type, "message": failure.message}
            failed = {"id": response, "status": "failed", "error": error}
            await _event(connection, {"type": "response.failed", "response": failed})
        case Stall():
            await trio.sleep_forever()
        case Cut():
            if failure.mid_event:
                await connection.send_text(_sse(cut)[: len(_sse(cut)) // 2])
            raise ConnectionOver
        case Garbage():
            await connection.send_text(failure.text)
        case _:
            assert_never(failure)
    await connection.end_stream()


async def _event(connection: Connection, event: Event) -> None:
    await connection.send_text(_sse(event))


def _sse(event: Event) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


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


def _record(head: h11.Request, content: bytes) -> tuple[RecordedRequest, str | None]:
    """What is kept of a request, and its key, which is not."""
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    record = RecordedRequest(
        method=head.method.decode("ascii"),
        path=head.target.decode("ascii", "replace").partition("?")[0],
        headers={name: f"***{value[-4:]}" if name == _SECRET else value for name, value in headers.items()},
        body=body,
        received_s=time.monotonic(),
    )
    return record, headers.get(_SECRET, "").removeprefix("Bearer ") or None


def _error_content(error: HttpError) -> tuple[str, bytes]:
    if error.text is not None:
        return "text/html", error.text.encode()
    kind = error.type or ("server_error" if error.status >= 500 else "invalid_request_error")
    body = {"error": {"message": error.message, "type": kind, "param": None, "code": None, **error.details}}
    return "application/json", json.dumps(body).encode()


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


@contextmanager
def serve_responses_in_thread(api: FakeResponsesApi) -> Iterator[FakeResponsesApi]:
    """Serve `api` in a thread of its own while the block runs: for tests that start the daemon.

    Raises:
        RuntimeError: if it does not take connections within 10 s.

    """
    ready = threading.Event()
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: api.serve(task_status=task_status))
            stop.append(lambda: token.run_sync_soon(nursery.cancel_scope.cancel))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,), name="fake-responses-api", daemon=True)
    thread.start()
    if not ready.wait(10):
        raise RuntimeError("the fake Responses API did not start within 10 s")
    try:
        yield api
    finally:
        stop[0]()
        thread.join(10)
