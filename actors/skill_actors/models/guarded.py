"""A model behind a circuit breaker: an endpoint that does not answer is not asked by everybody all the time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from skill_actors.models.base import MessageDone, Model, ModelError, ModelEvent, ModelRequest
from skill_actors.models.breaker import Breaker, CircuitState, Permit
from skill_actors.models.retry import CIRCUIT_OPEN

__all__ = ["GuardedModel", "endpoint_name"]

# What says that the endpoint is not well. A refusal of this request, a limit of this account's rate, or a missing key
# are none of it.
_ILL: Final = frozenset({"connection", "overloaded", "server", "timeout"})


def endpoint_name(url: str) -> str:
    """Scheme, host and port of a URL, for people to read: nothing that could be a credential."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


class GuardedModel:
    """Passes calls on while the circuit lets them, and watches how they end. One for each endpoint.

    Args:
        endpoint: what the breaker is about, in errors and in the status.
        on_change: called with the new state when the circuit changes it.

    """

    def __init__(
        self,
        model: Model,
        breaker: Breaker,
        *,
        endpoint: str,
        on_change: Callable[[CircuitState], None] = lambda _state: None,
    ) -> None:
        self._model = model
        self._breaker = breaker
        self._seen = breaker.state
        self.endpoint = endpoint
        self.on_change = on_change

    @property
    def provider(self) -> str:
        return self._model.provider

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """Call the model; see Model.stream.

        Raises:
            ModelError: "circuit_open" with the seconds to wait, before anything is sent; and what the model raises.

        """
        return self._stream(request)

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """Count; see Model.count_tokens. The circuit holds for it, too, and learns from its failures.

        A count that succeeds does not make up for answers that failed: it needs no model.

        Raises:
            ModelError: "circuit_open" before anything is sent; and what the model raises.

        """
        permit = self._begin()
        try:
            count = await self._model.count_tokens(request)
            self._breaker.answered(permit)
        except ModelError as error:
            self._learn(permit, error)
            raise
        finally:
            self._breaker.abandoned(permit)  # does nothing where something was learnt
            self._tell()
        return count

    async def aclose(self) -> None:
        """Close what the model holds open."""
        await self._model.aclose()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: endpoint, state, failures in a row, and for how many seconds calls are refused."""
        return {
            "endpoint": self.endpoint,
            "state": self._breaker.state.value,
            "failures": self._breaker.failures,
            "retry_in_s": round(self._breaker.retry_in_s(trio.current_time()), 1),
        }

    @asynccontextmanager
    async def _stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        permit = self._begin()
        call = _Watched(permit, self)
        try:
            async with self._model.stream(request) as events, aclosing(call.events(events)) as watched:
                yield watched
        except ModelError as error:
            self._learn(permit, error)
            raise
        finally:
            if not call.done:
                self._breaker.abandoned(permit)  # does nothing where something was learnt
            self._tell()

    def _begin(self) -> Permit:
        permit = self._breaker.begin(trio.current_time())
        self._tell()
        if isinstance(permit, Permit):
            return permit
        raise ModelError(
            f"the model API at {self.endpoint} failed {self._breaker.failures} times in a row and is left alone; "
            f"the next call may be made in {max(1, round(permit))} s",
            code=CIRCUIT_OPEN,
            retryable=True,
            sent=False,
            retry_after_s=permit,
        )

    def _learn(self, permit: Permit, error: ModelError) -> None:
        if error.code in _ILL:
            self._breaker.failed(permit, trio.current_time(), error.retry_after_s)
        elif error.status is not None:
            self._breaker.succeeded(permit)

    def note(self, permit: Permit, event: ModelEvent) -> None:
        """Take in what the endpoint said."""
        if isinstance(event, MessageDone):
            self._breaker.succeeded(permit)
        else:
            self._breaker.answered(permit)
        self._tell()

    def _tell(self) -> None:
        if self._breaker.state is not self._seen:
            self._seen = self._breaker.state
            self.on_change(self._seen)


class _Watched:
    """The events of one call, looked at as they pass."""

    def __init__(self, permit: Permit, guard: GuardedModel) -> None:
        self._permit = permit
        self._guard = guard
        self._answered = False
        self.done = False

    async def events(self, events: AsyncIterator[ModelEvent]) -> AsyncGenerator[ModelEvent, None]:
        async for event in events:
            if not self._answered or isinstance(event, MessageDone):
                self._answered = True
                self.done = self.done or isinstance(event, MessageDone)
                self._guard.note(self._permit, event)
            yield event
