"""What a turn is, however the program is run: it can be interrupted, ended, and always says what it took."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import trio

from skill_actors.backends.agents.base import AgentError, AgentErrorCode, AgentEvent, AgentRequest, AgentResult, Watch
from skill_actors.backends.agents.codex.outcome import code_of_error
from skill_actors.backends.agents.codex.reading import Reading

__all__ = ["Turn"]

_T = TypeVar("_T")
# Such a request was not answered, and costs nothing.
_FREE: Final = frozenset({"auth", "binary_not_found", "overloaded", "session_lost", "version_mismatch"})


class Turn(ABC):
    """One message on its way.

    Args:
        reading: what its events add up to.

    """

    counts = True  # each answer of the model is told of as it is spent

    def __init__(self, reading: Reading, request: AgentRequest, watch: Watch) -> None:
        self.reading = reading
        self.request = request
        self.watch = watch
        self.over = trio.Event()
        self.interrupted = False
        self.closed = False
        self._scope: trio.CancelScope | None = None

    async def perform(self) -> AgentResult:
        """Perform it. Raises AgentError, with all that is known of the turn."""
        try:
            await self._perform()
        except AgentError as error:
            raise self._complete(error) from error
        if self.interrupted or self.reading.interrupted:
            raise self._complete(AgentError("interrupted", "the turn was interrupted"))
        if self.reading.failure is not None:
            failure = self.reading.failure
            words = str(failure.get("message") or "it does not say why")
            raise self._complete(AgentError(code_of_error(failure), f"codex failed: {words[:2000]}"))
        return self._result()

    async def interrupt(self) -> None:
        """Ask it to end. Returns at once."""
        self.interrupted = True
        self._give_up()
        await self._ask_end()

    async def end(self) -> None:
        """End its program, whatever it does; returns when nothing of it is left."""
        self._give_up()
        await self._end()

    @abstractmethod
    async def _perform(self) -> None:
        """Until the reading has the end of the turn. Raises AgentError."""

    @abstractmethod
    async def _ask_end(self) -> None:
        """Tell the program to end the turn, if there is one."""

    @abstractmethod
    async def _end(self) -> None:
        """As `end`."""

    async def _unless_given_up(self, wait: Callable[[], Awaitable[_T]]) -> _T:
        """Wait for something that the end of the turn makes useless. Raises AgentError "interrupted"."""
        with trio.CancelScope() as self._scope:
            if self.interrupted or self.closed:
                self._scope.cancel()
            return await wait()
        raise AgentError("interrupted", "the turn was interrupted before it had begun")

    def _give_up(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _tell(self, events: Sequence[AgentEvent]) -> None:
        for event in events:
            await self.watch.event(event)

    def _complete(self, error: AgentError) -> AgentError:
        code, message = error.code, error.message
        if self.closed:
            code, message = "closed", "the session was stopped"
        elif self.interrupted:
            code, message = "interrupted", "the turn was interrupted"
        meter, said = self.reading.meter, self.reading.partial
        free = code in _FREE and not said and not self.reading.acted
        return AgentError(
            code,
            message,
            partial=said,
            session_id=self.reading.thread,
            usage=meter.usage,
            by_model=meter.by_model,
            cost_usd=meter.cost_usd if meter.answers or free else None,
            # Not every call is told of: one may have been in each answer.
            acted=self.reading.acted or bool(meter.answers) or not (self.counts or free),
            retry_after_s=self._retry_after_s(code),
        )

    def _retry_after_s(self, code: AgentErrorCode) -> float | None:
        """How long a limit of the account holds, where that is the error."""
        until_s = self.reading.limited_until_s
        return None if code != "overloaded" or until_s is None else max(0.0, until_s - time.time())

    def _result(self) -> AgentResult:
        meter = self.reading.meter
        return AgentResult(
            result=self.reading.text,
            session_id=self.reading.thread,
            cost_usd=meter.cost_usd if meter.answers else None,
            duration_ms=self.reading.duration_ms,
            num_turns=meter.answers or None,
            usage=meter.usage,
            by_model=meter.by_model,
            model=meter.model,
            stop_reason="end_turn",
            denials=tuple(self.reading.denials),
            structured_output=_parsed(self.reading.text) if self.request.schema is not None else None,
        )


def _parsed(text: str) -> Any:
    """The answer as data; None where it is none after all."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
