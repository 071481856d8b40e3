"""A fake Messages API: a real HTTP server on loopback that answers what a test tells it to.

Each request is checked as the API checks it (key, fields, order of messages, pairs of calls and results), then
answered by the next queued answer, else by `respond`. Whatever happens is recorded. The Skills and Files endpoints
answer by themselves, from what was uploaded and what code in containers made: see `hosted`.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, assert_never

import h11
import trio

from skill_actors.testing.connection import Connection, ConnectionOver
from skill_actors.testing.hosted import FakeHosted
from skill_actors.testing.load_reply import default_reply
from skill_actors.testing.message_events import Event, Fail, Hold, Sleep, error_body, message_of, steps
from skill_actors.testing.metering import BillEntry, Meter
from skill_actors.testing.replies import (
    Answer,
    Cut,
    Failure,
    Garbage,
    HangUp,
    HttpError,
    Reply,
    Respond,
    Stall,
    StreamError,
)
from skill_actors.testing.request_check import check_headers, check_request
from skill_actors.testing.wire import Call, Refusal, Sent, parse_form

__all__ = ["FakeMessagesApi", "RecordedRequest", "open_fake_api", "serve_in_thread"]

_MAX_BODY_BYTES: Final = 32_000_000
_MESSAGES: Final = "/v1/messages"
_COUNT: Final = "/v1/messages/count_tokens"
_HOSTED: Final = ("/v1/skills", "/v1/files")
_NOT_COUNTED: Final = frozenset({"max_tokens", "stream", "container", "metadata", "stop_sequences", "service_tier"})
_SECRET_HEADERS: Final = frozenset({"authorization", "x-api-key"})
_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

Outcome = Literal["open", "complete", "failed", "client_gone"]


@dataclass(slots=True, kw_only=True)
class RecordedRequest:
    """One request and what became of it.

    Args:
        headers: names in lower case; of keys only the last four characters are shown.
        body: parsed JSON, or None if there was none; of a form its fields, and name and file name of each file.
        connection: number of the connection it came on, from 1.
        status: of the answer; 0 before it.
        outcome: "client_gone" means that the client closed the connection before the answer was complete.
        ended_s: time.monotonic() at the outcome.

    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any = None
    connection: int = 0
    status: int = 0
    outcome: Outcome = "open"
    received_s: float = 0.0
    ended_s: float | None = None


class FakeMessagesApi:
    """Serve it with `open_fake_api`, `serve_in_thread`, or `serve` in a nursery of yours.

    Args:
        answers: given in order to the first valid requests.
        respond: asked when no answer is queued.
        api_keys: keys that are accepted; None for any.
        hosted: containers, skills and files; new and empty by default.
        meter: counts tokens, simulates the prompt cache and has the bill; a new one by default.

    """

    def __init__(
        self,
        answers: Iterable[Answer] = (),
        *,
        respond: Respond = default_reply,
        api_keys: Collection[str] | None = None,
        hosted: FakeHosted | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.hosted = hosted or FakeHosted()
        self.meter = meter or Meter()
        self.requests: list[RecordedRequest] = []
        self.port = 0
        self._answers = deque(answers)
        self._respond = respond
        self._api_keys = api_keys
        self._interruptions: list[_Interruption] = []
        self._changed = trio.Event()
        self._connections = 0

    @property
    def base_url(self) -> str:
        """For `base_url` of a client; valid once it is served."""
        return f"http://127.0.0.1:{self.port}" if self.port else "http://localhost"

    @property
    def bill(self) -> Sequence[BillEntry]:
        """What was billed so far: every answer that was generated, also those whose client was gone."""
        return self.meter.bill

    @property
    def billed_nanousd(self) -> int:
        """The sum of the bill, in billionths of a dollar."""
        return self.meter.billed_nanousd

    def enqueue(self, *answers: Answer) -> None:
        """Append answers to the queue; from any thread."""
        self._answers.extend(answers)

    def forget_answers(self) -> None:
        """Drop those that no request has been given yet; from any thread."""
        self._answers.clear()

    def interrupt(self, method: str, path: str, answer: HttpError | HangUp, *, after: bool = False) -> None:
        """Let the next request of this method, whose path begins so, end like this; `after` it has taken effect."""
        self._interruptions.append(_Interruption(method, path, answer, after))

    @property
    def interruptions(self) -> int:
        """How many have not met their request yet."""
        return len(self._interruptions)

    @property
    def bodies(self) -> list[Any]:
        """The bodies of all requests so far."""
        return [request.body for request in self.requests]

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, looking again at whatever happens to a request. In the server's own loop."""
        while not condition():
            await self._changed.wait()

    async def serve(
        self,
        *,
        port: int = 0,
        socket: Path | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen on loopback until cancelled; port 0 takes a free one. Started once connections are taken.

        Args:
            socket: a path, where nothing may be yet, to listen at instead; the base URL then is http://localhost.

        Raises:
            OSError: it cannot listen there.

        """
        if socket is not None:
            listeners = [_unix_listener(socket)]
        else:
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
        head, content = received
        record, key = _record(head, content)
        record.connection = connection.number
        self.requests.append(record)
        self._notify()
        connection.request_id = f"req_fake_{len(self.requests):06}"
        outcome: Outcome = "failed"
        try:
            answer = self._refusal(record, key, len(content)) or self._answer(record, content)
            if await connection.watch(self._send, connection, record, answer):
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

    def _refusal(self, record: RecordedRequest, key: str | None, body_bytes: int) -> HttpError | None:
        path = record.path.partition("?")[0]
        is_message = path in (_MESSAGES, _COUNT)
        if not is_message and not path.startswith(_HOSTED):
            return HttpError(404, message=f"no such path: {record.path}")
        if is_message and record.method != "POST":
            return HttpError(405, "invalid_request_error", "Method Not Allowed")
        if key is None or (self._api_keys is not None and key not in self._api_keys):
            return HttpError(401, message="invalid x-api-key" if key else "x-api-key header is required")
        if is_message and body_bytes > _MAX_BODY_BYTES:
            return HttpError(413, message="Request exceeds the maximum size")
        if problem := check_headers(record.headers):
            return HttpError(400, message=problem)
        return self._message_refusal(record) if is_message else None

    def _message_refusal(self, record: RecordedRequest) -> HttpError | None:
        if record.body is None:
            return HttpError(400, message="The request body is not valid JSON")
        body = record.body
        if _is_count(record) and isinstance(body, dict):
            if odd := sorted(_NOT_COUNTED & body.keys()):
                return HttpError(400, message=f"{odd[0]}: Extra inputs are not permitted")
            body = {**body, "max_tokens": 1}
        problem = check_request(body, self.hosted.paused, version=record.headers["anthropic-version"])
        if problem:
            return HttpError(400, message=problem)
        if refusal := None if _is_count(record) else self.hosted.refusal(body):
            return refusal
        betas = [beta.strip() for beta in record.headers.get("anthropic-beta", "").split(",")]
        problem = self.meter.refusal(body, betas)
        return HttpError(400, message=problem) if problem else None

    def _answer(self, record: RecordedRequest, content: bytes) -> Answer | Sent:
        interruption = next((each for each in self._interruptions if each.meets(record)), None)
        if interruption is not None:
            self._interruptions.remove(interruption)
            if interruption.after:
                self._effect(record, content, billed=isinstance(interruption.answer, HangUp))
            return interruption.answer
        return self._effect(record, content)

    def _effect(self, record: RecordedRequest, content: bytes, *, billed: bool = True) -> Answer | Sent:
        if record.path.startswith(_HOSTED):
            return self._endpoint(record, content)
        if _is_count(record):
            return Sent(body=self.meter.count(record.body))
        answer = Reply() if self.meter.pauses(record.body) else self._next(record.body)
        if not isinstance(answer, Reply):
            return answer
        played = self.meter.metered(self.hosted.play(answer, record.body), record.body)
        if billed:  # an error of the API costs nothing, whatever had happened before it
            self.meter.charge(played, record.body, f"req_fake_{len(self.requests):06}")
        if played.stop_reason == "pause_turn":
            message = message_of(played, record.body)
            self.hosted.remember(message["content"], record.body, (message["container"] or {}).get("id"))
        return played

    def _next(self, body: Mapping[str, Any]) -> Answer:
        return self._answers.popleft() if self._answers else self._respond(body)

    def _endpoint(self, record: RecordedRequest, content: bytes) -> HttpError | Sent:
        call = Call.of(record.method, record.path, record.headers, content)
        try:
            if record.headers.get("content-type", "").startswith("multipart/"):
                record.body = parse_form(record.headers, content).summary()
            return self.hosted.answer(call)
        except Refusal as refusal:
            return HttpError(refusal.status, refusal.type, refusal.message, details={"error_code": refusal.error_code})

    async def _send(self, connection: Connection, record: RecordedRequest, answer: Answer | Sent) -> None:
        match answer:
            case Sent():
                record.status = 200
                await connection.send_whole(200, answer.content_type, answer.bytes, answer.headers)
            case HangUp():
                raise ConnectionOver
            case HttpError():
                record.status = answer.status
                await trio.sleep(answer.delay_s)
                await connection.send_whole(answer.status, *_error_content(answer), _error_headers(answer))
            case Reply() if record.body.get("stream"):
                record.status = 200
                await _stream_reply(connection, answer, record.body)
            case Reply():
                record.status = 200
                await trio.sleep(answer.first_delay_s)
                body = json.dumps(message_of(answer, record.body)).encode()
                await connection.send_whole(200, "application/json", body)
            case _:
                assert_never(answer)


@dataclass(frozen=True, slots=True)
class _Interruption:
    method: str
    path: str
    answer: HttpError | HangUp
    after: bool

    def meets(self, record: RecordedRequest) -> bool:
        return record.method == self.method and record.path.startswith(self.path)


async def _stream_reply(connection: Connection, reply: Reply, body: Mapping[str, Any]) -> None:
    await connection.begin_stream()
    for step in steps(reply, body):
        match step:
            case Sleep(delay_s):
                await trio.sleep(delay_s)
            case Hold(until):
                await until.wait()
            case Fail(failure, cut):
                await _fail(connection, failure, cut)
                return
            case _:
                text = _sse(step)
                await connection.send_text(text.replace("@NOW@", str(time.monotonic_ns())) if reply.stamped else text)
    await connection.end_stream()


async def _fail(connection: Connection, failure: Failure, cut: Event) -> None:
    match failure:
        case StreamError():
            await connection.send_text(_sse(error_body(failure.type, failure.message)))
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


def _sse(event: Event) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _is_count(record: RecordedRequest) -> bool:
    return record.path.partition("?")[0] == _COUNT


def _record(head: h11.Request, content: bytes) -> tuple[RecordedRequest, str | None]:
    """What is kept of a request, and its key, which is not."""
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    record = RecordedRequest(
        method=head.method.decode("ascii"),
        path=head.target.decode("ascii", "replace"),
        headers={name: f"***{value[-4:]}" if name in _SECRET_HEADERS else value for name, value in headers.items()},
        body=body,
        received_s=time.monotonic(),
    )
    return record, headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ") or None


def _error_content(error: HttpError) -> tuple[str, bytes]:
    if error.text is not None:
        return "text/html", error.text.encode()
    kind = error.type or _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    body = error_body(kind, error.message)
    if details := {name: value for name, value in error.details.items() if value is not None}:
        body["error"]["details"] = details
    return "application/json", json.dumps(body).encode()


def _error_headers(error: HttpError) -> Mapping[str, str]:
    wait = {"retry-after": f"{error.retry_after_s:g}"} if error.retry_after_s is not None else {}
    return {**wait, **error.headers}


def _unix_listener(path: Path) -> trio.SocketListener:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(str(path))
        made.listen(128)
        return trio.SocketListener(trio.socket.from_stdlib_socket(made))
    except BaseException:
        made.close()
        raise


@asynccontextmanager
async def open_fake_api(
    answers: Iterable[Answer] = (),
    *,
    respond: Respond = default_reply,
    api_keys: Collection[str] | None = None,
    hosted: FakeHosted | None = None,
    meter: Meter | None = None,
    socket: Path | None = None,
) -> AsyncIterator[FakeMessagesApi]:
    """Serve a fake API while the block runs, in the same loop."""
    api = FakeMessagesApi(answers, respond=respond, api_keys=api_keys, hosted=hosted, meter=meter)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: api.serve(socket=socket, task_status=task_status))
        yield api
        nursery.cancel_scope.cancel()


@contextmanager
def serve_in_thread(api: FakeMessagesApi, *, socket: Path | None = None) -> Iterator[FakeMessagesApi]:
    """Serve `api` in a thread of its own while the block runs: for tests that start real processes.

    Raises:
        RuntimeError: if it does not take connections within 10 s.

    """
    ready = threading.Event()
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: api.serve(socket=socket, task_status=task_status))
            stop.append(lambda: token.run_sync_soon(nursery.cancel_scope.cancel))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,), name="fake-messages-api", daemon=True)
    thread.start()
    if not ready.wait(10):
        raise RuntimeError("the fake Messages API did not start within 10 s")
    try:
        yield api
    finally:
        stop[0]()
        thread.join(10)
