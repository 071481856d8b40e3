"""A model without HTTP: the same answers as the fake API's, at once or when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, assert_never

import trio

from skill_actors.models.assembly import MessageAssembly
from skill_actors.models.base import ModelEvent, ModelRequest
from skill_actors.models.failures import api_failure, connection_failure, protocol_failure, stall_failure
from skill_actors.models.request import count_body, request_body
from skill_actors.testing.hosted import FakeHosted
from skill_actors.testing.message_events import Fail, Hold, Sleep, error_body, message_of, steps
from skill_actors.testing.metering import Meter
from skill_actors.testing.replies import Answer, Cut, Failure, Garbage, HangUp, HttpError, Reply, Stall, StreamError
from skill_actors.testing.request_check import check_request

__all__ = ["ScriptedModel"]


class ScriptedModel:
    """A Model that gives the answers of a test, in order, and then those of `respond`.

    Requests are checked like those to the fake API: a history that the API would refuse is a ModelError here, too.
    Time is trio's, so that delays and stalls pass at once on a virtual clock.

    Args:
        answers: given in order.
        respond: asked with the request's JSON when no answer is queued; None means that this is an error.
        stall_timeout_s: after it a Stall becomes a time-out.
        meter: a new one by default.

    Attributes:
        hosted: containers, skills and files, as the fake API has them.
        meter: counts tokens, as the fake API does, and has the bill.
        requests: all requests so far.
        running: streams that are open now.

    """

    def __init__(
        self,
        answers: Iterable[Answer] = (),
        *,
        respond: Callable[[Mapping[str, Any]], Answer] | None = None,
        stall_timeout_s: float = 120.0,
        meter: Meter | None = None,
    ) -> None:
        self.hosted = FakeHosted()
        self.meter = meter or Meter()
        self.requests: list[ModelRequest] = []
        self.running = 0
        self._answers = deque(answers)
        self._respond = respond
        self._stall_timeout_s = stall_timeout_s

    @property
    def provider(self) -> str:
        return "scripted"

    def enqueue(self, *answers: Answer) -> None:
        """Append answers to the queue."""
        self._answers.extend(answers)

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Answer; see Model.stream.

        Raises:
            ModelError: as scripted, or for a request that the API would refuse.
            LookupError: if the script has no further answer.

        """
        self.requests.append(request)
        body = request_body(request)
        self._check(body, request.betas)
        answer = self._next(body)
        self.running += 1
        try:
            await trio.lowlevel.checkpoint()
            match answer:
                case HangUp():
                    raise connection_failure("it was closed without an answer")
                case HttpError():
                    await trio.sleep(answer.delay_s)
                    raise _http_failure(answer)
                case Reply():
                    async with aclosing(self._events(answer, body)) as events:
                        yield events
                case _:
                    assert_never(answer)
        finally:
            self.running -= 1

    async def count_tokens(self, request: ModelRequest) -> int:
        """Count, as the fake API does. Takes no answer out of the script.

        Raises:
            ModelError: for a request that the API would refuse.

        """
        await trio.lowlevel.checkpoint()
        body = count_body(request)
        self._check({**body, "max_tokens": 1}, request.betas)
        return int(self.meter.count(body)["input_tokens"])

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _check(self, body: Mapping[str, Any], betas: Sequence[str]) -> None:
        if problem := check_request(body, self.hosted.paused):
            raise api_failure(400, {}, error_body("invalid_request_error", problem))
        if refusal := self.hosted.refusal(body):
            raise _http_failure(refusal)
        if problem := self.meter.refusal(body, betas):
            raise api_failure(400, {}, error_body("invalid_request_error", problem))

    def _next(self, body: Mapping[str, Any]) -> Answer:
        if self.meter.pauses(body):
            answer: Answer = Reply()
        elif self._answers:
            answer = self._answers.popleft()
        elif self._respond is not None:
            answer = self._respond(body)
        else:
            raise LookupError(f"the script has no answer to request {len(self.requests)}")
        if not isinstance(answer, Reply):
            return answer
        played = self.meter.metered(self.hosted.play(answer, body), body)
        self.meter.charge(played, body, f"req_scripted_{len(self.requests):06}")
        if played.stop_reason == "pause_turn":
            message = message_of(played, body)
            self.hosted.remember(message["content"], body, (message["container"] or {}).get("id"))
        return played

    async def _events(self, reply: Reply, body: Mapping[str, Any]) -> AsyncGenerator[ModelEvent, None]:
        assembly = MessageAssembly()
        for step in steps(reply, body):
            match step:
                case Sleep(delay_s):
                    await trio.sleep(delay_s)
                case Hold(until):
                    await until.wait()
                case Fail(failure):
                    await self._fail(failure, assembly)
                case _:
                    await trio.lowlevel.checkpoint()
                    for event in assembly.feed(step):
                        yield event

    async def _fail(self, failure: Failure, assembly: MessageAssembly) -> None:
        match failure:
            case StreamError():
                assembly.feed(error_body(failure.type, failure.message))
            case Stall():
                await trio.sleep(self._stall_timeout_s)
                raise stall_failure(self._stall_timeout_s, assembly.usage)
            case Cut():
                raise assembly.cut()
            case Garbage():
                raise protocol_failure(f"the stream holds {failure.text!r}", assembly.usage)
            case _:
                assert_never(failure)


def _http_failure(error: HttpError) -> Exception:
    wait = {"retry-after": str(error.retry_after_s)} if error.retry_after_s is not None else {}
    body = error.text if error.text is not None else error_body(error.type or "", error.message)
    return api_failure(error.status, {**wait, **error.headers}, body)
