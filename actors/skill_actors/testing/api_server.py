"""A fake Messages API: a real HTTP server on loopback that answers what a test tells it to.

Each request is checked as the API checks it (key, fields, order of messages, pairs of calls and results), then
answered by the next queued answer, else by `respond`. Whatever happens is recorded. The Skills and Files endpoints
answer by themselves, from what was uploaded and what code in containers made: see `hosted`.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, assert_never

import trio

from skill_actors.testing.connection import Connection, ConnectionOver, sse
from skill_actors.testing.hosted import FakeHosted
from skill_actors.testing.load_reply import default_reply
from skill_actors.testing.message_events import Fail, Hold, Sleep, error_body, message_of, steps
from skill_actors.testing.metering import BillEntry, Meter
from skill_actors.testing.replies import Answer, HangUp, HttpError, Reply, Respond
from skill_actors.testing.request_check import check_headers, check_request
from skill_actors.testing.server import FakeServer, RecordedRequest
from skill_actors.testing.wire import Call, Refusal, Sent, parse_form

__all__ = ["FakeMessagesApi", "open_fake_api"]

_MAX_BODY_BYTES: Final = 32_000_000
_MESSAGES: Final = "/v1/messages"
_COUNT: Final = "/v1/messages/count_tokens"
_HOSTED: Final = ("/v1/skills", "/v1/files")
_NOT_COUNTED: Final = frozenset({"max_tokens", "stream", "container", "metadata", "stop_sequences", "service_tier"})
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


class FakeMessagesApi(FakeServer[Answer | Sent]):
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
        super().__init__(respond, api_keys)
        self.hosted = hosted or FakeHosted()
        self.meter = meter or Meter()
        self._interruptions: list[_Interruption] = []
        self.enqueue(*answers)

    @property
    def base_url(self) -> str:
        """For `base_url` of a client; valid once it is served."""
        return self._origin

    @property
    def bill(self) -> Sequence[BillEntry]:
        """What was billed so far: every answer that was generated, also those whose client was gone."""
        return self.meter.bill

    @property
    def billed_nanousd(self) -> int:
        """The sum of the bill, in billionths of a dollar."""
        return self.meter.billed_nanousd

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

    def _refusal(self, record: RecordedRequest, key: str | None, body_bytes: int) -> HttpError | None:
        path = record.resource
        is_message = path in (_MESSAGES, _COUNT)
        if not is_message and not path.startswith(_HOSTED):
            return HttpError(404, message=f"no such path: {record.path}")
        if is_message and record.method != "POST":
            return HttpError(405, "invalid_request_error", "Method Not Allowed")
        if not self._takes(key):
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

    def _answer(self, record: RecordedRequest, headers: Mapping[str, str], content: bytes) -> Answer | Sent:
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ") or None
        return self._refusal(record, key, len(content)) or self._taken(record, content)

    def _taken(self, record: RecordedRequest, content: bytes) -> Answer | Sent:
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
                await connection.send_error(answer, _error_of(answer))
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
                await connection.break_stream(failure, cut, lambda error: error_body(error.type, error.message))
                return
            case _:
                text = sse(step)
                await connection.send_text(text.replace("@NOW@", str(time.monotonic_ns())) if reply.stamped else text)
    await connection.end_stream()


def _is_count(record: RecordedRequest) -> bool:
    return record.resource == _COUNT


def _error_of(error: HttpError) -> dict[str, Any]:
    kind = error.type or _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    body = error_body(kind, error.message)
    if details := {name: value for name, value in error.details.items() if value is not None}:
        body["error"]["details"] = details
    return body


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
