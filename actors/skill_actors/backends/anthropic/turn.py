"""One hosted turn: ask, and go on as long as the API pauses, in one container, until the answer is whole. Rules:

- what the API said before a pause goes back to it unchanged, joined with what follows into one message;
- the container of the last answer that named one is used for the next request, of this turn and of later ones;
- a container that is gone is replaced once, by a new one, and the caller is told; in the middle of a pause it cannot
  be, since the work that waits is in it;
- a callback that raises never ends the turn.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from skill_actors.backends.anthropic.client import api_error
from skill_actors.backends.anthropic.container import with_container_id
from skill_actors.backends.anthropic.errors import HostedError
from skill_actors.backends.anthropic.messages import HostedResponse, parse_response
from skill_actors.backends.anthropic.results import CreatedFile, extract_text, without_pending
from skill_actors.models.base import Block, Message, ModelError, Usage
from skill_actors.models.request import sendable_messages

__all__ = ["MAX_PAUSES", "AskHosted", "HostedTurn", "HostedTurnError", "continue_", "is_container_lost", "run_turn"]

MAX_PAUSES: Final = 10

AskHosted = Callable[[Sequence[Message], Mapping[str, Any]], Awaitable[object]]
"""Takes the messages and the `container` of the request; answers in a form that `parse_response` takes, or raises."""

_GONE: Final = re.compile(
    r"container\b(?!\.skills)[^.]{0,120}?\b(not found|expired|does not exist|no longer)", re.I | re.S
)
_GONE_CODES: Final = frozenset({"container_expired", "container_not_found"})
_GONE_STATUS: Final = frozenset({400, 404, 410, None})
_DOUBT_WAIT_S: Final = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedTurn:
    """What a turn came to.

    Args:
        text: all it said, before and after pauses.
        stop_reason: of the last answer.
        messages: the conversation with it, ready for the next message of the user.
        response: the last answer; None if there was none.
        container: the configuration for the next request, with the container's id.
        files: made in this turn, each once.
        usage: of all answers.
        server_tool_calls: of the API's own tools, by name.
        iterations: requests that were answered.
        lost_container: id of one that was gone and was replaced by a new one.

    """

    text: str
    stop_reason: str
    messages: Sequence[Message]
    response: HostedResponse | None
    container: Mapping[str, Any]
    files: Sequence[CreatedFile] = ()
    usage: Usage = field(default_factory=Usage)
    server_tool_calls: Mapping[str, int] = field(default_factory=dict)
    iterations: int = 0
    lost_container: str | None = None

    @property
    def container_id(self) -> str | None:
        """Of the container that the next turn goes on in."""
        id = self.container.get("id")
        return str(id) if id else None


class HostedTurnError(HostedError):
    """A turn came to no end. `turn` has what was said and done until then, and a conversation can go on from it."""

    def __init__(self, below: HostedError, turn: HostedTurn) -> None:
        super().__init__(
            below.code,
            below.message,
            details=below.details,
            retryable=below.retryable,
            retry_after_s=below.retry_after_s,
        )
        self.turn = turn


async def run_turn(
    messages: Sequence[Message],
    ask: AskHosted,
    *,
    container: Mapping[str, Any] | None = None,
    max_pauses: int = MAX_PAUSES,
    on_response: Callable[[HostedResponse], object] | None = None,
    on_pause: Callable[[HostedResponse, int], object] | None = None,
    on_container_lost: Callable[[str], object] | None = None,
) -> HostedTurn:
    """Ask until the answer is whole.

    Args:
        messages: up to and with the user's; they are not changed.
        container: of `container_config`; with the id of the last turn's to go on in its container.
        max_pauses: how often the API may be asked to go on.
        on_response: called with every answer; what it returns is awaited, if it can be.
        on_pause: called after it with an answer that pauses, and how many have, from 1.
        on_container_lost: called with the id of a container that is gone, when a new one has taken its place.

    Raises:
        HostedTurnError: "anthropic_api_error", "pause_turn_max_exceeded", "container_not_found".
        ValueError: there is no message, or max_pauses is negative.

    """
    if max_pauses < 0 or not messages:
        raise ValueError(f"there must be a message, and max_pauses be at least 0, got {max_pauses!r}")
    watchers = _Watchers(on_response, on_pause, on_container_lost)
    return await _Turn(messages, ask, dict(container or {}), max_pauses, watchers).run()


async def continue_(turn: HostedTurn, more_messages: Sequence[Message], ask: AskHosted, **options: Any) -> HostedTurn:
    """A further turn of the same conversation, in the same container. The options are those of `run_turn`."""
    return await run_turn([*turn.messages, *more_messages], ask, **{"container": turn.container, **options})


def is_container_lost(error: HostedError, container_id: str) -> bool:
    """Whether a request failed since this container is not there any more."""
    if error.code == "container_not_found" or error.details.get("error_code") in _GONE_CODES:
        return True
    if error.details.get("status") not in _GONE_STATUS:
        return False
    return bool(_GONE.search(error.message.replace(container_id, "container")))


@dataclass(frozen=True, slots=True)
class _Watchers:
    on_response: Callable[[HostedResponse], object] | None
    on_pause: Callable[[HostedResponse, int], object] | None
    on_container_lost: Callable[[str], object] | None

    async def tell(self, what: Callable[..., object] | None, *arguments: object) -> None:
        if what is None:
            return
        try:
            result = what(*arguments)
            if inspect.isawaitable(result):
                await result
        except Exception:
            _log.exception("a function around a hosted turn failed; the turn goes on")


class _Turn:
    """One turn while it runs."""

    def __init__(
        self,
        messages: Sequence[Message],
        ask: AskHosted,
        container: dict[str, Any],
        max_pauses: int,
        watchers: _Watchers,
    ) -> None:
        self._messages = list(messages)
        self._ask = ask
        self._container = container
        self._max_pauses = max_pauses
        self._watchers = watchers
        self._content: list[Block] = []  # of the answer, over pauses
        self._files: dict[str, CreatedFile] = {}
        self._usage = Usage()
        self._calls: Counter[str] = Counter()
        self._response: HostedResponse | None = None
        self._iterations = 0
        self._lost: str | None = None
        self._doubted = False

    async def run(self) -> HostedTurn:
        pauses = 0
        while True:
            response = await self._answered()
            await self._take(response)
            if not response.is_paused:
                return self._come_to(response.stop_reason, response.stop_reason == "tool_use")
            pauses += 1
            if pauses > self._max_pauses:
                raise self._failed(_too_many(self._iterations, self._max_pauses))
            await self._watchers.tell(self._watchers.on_pause, response, pauses)

    async def _answered(self) -> HostedResponse:
        while True:
            try:
                return parse_response(await self._ask(self._asked(), dict(self._container)))
            except (HostedError, ModelError) as error:
                failure = error if isinstance(error, HostedError) else api_error(error)
                if isinstance(error, ModelError):
                    self._usage += error.usage or Usage()
                if not await self._mended(failure):
                    raise self._failed(failure) from error

    def _asked(self) -> list[Message]:
        said: list[Message] = [{"role": "assistant", "content": list(self._content)}] if self._content else []
        return sendable_messages([*self._messages, *said])

    async def _mended(self, error: HostedError) -> bool:
        """Whether the same request can be made again, the failure being that of its container."""
        id = self._container.get("id")
        if not isinstance(id, str):
            return False
        if error.details.get("status") == 500 and not self._content:
            # Containers that are gone have been refused with a 500 that says nothing: twice the same is no accident.
            if not self._doubted:
                self._doubted = True
                await trio.sleep(_DOUBT_WAIT_S)
                return True
        elif not is_container_lost(error, id):
            return False
        elif self._content:
            raise self._failed(_not_found(id, error)) from error
        self._lost = id
        self._container = with_container_id(self._container, None)
        return True

    async def _take(self, response: HostedResponse) -> None:
        if self._lost is not None and not self._iterations:
            await self._watchers.tell(self._watchers.on_container_lost, self._lost)
        self._response = response
        self._iterations += 1
        self._content += response.content
        self._usage += response.usage
        self._calls.update(response.server_tool_calls)
        for file in response.files:
            self._files.setdefault(file.file_id, file)
        if response.container_id is not None:
            self._container = with_container_id(self._container, response.container_id)
        await self._watchers.tell(self._watchers.on_response, response)

    def _come_to(self, stop_reason: str, waits: bool) -> HostedTurn:
        """The turn as it is. `waits` tells that calls of the API's own tools go on after those of the client."""
        content = list(self._content) if waits else without_pending(self._content)
        said: list[Message] = [{"role": "assistant", "content": content}] if content else []
        return HostedTurn(
            text=extract_text(self._content),
            stop_reason=stop_reason,
            messages=[*self._messages, *said],
            response=self._response,
            container=dict(self._container),
            files=tuple(self._files.values()),
            usage=self._usage,
            server_tool_calls=dict(self._calls),
            iterations=self._iterations,
            lost_container=self._lost,
        )

    def _failed(self, error: HostedError) -> HostedTurnError:
        if self._lost is not None and not self._iterations:
            # No new container answered either, so that the old one may be there after all.
            self._container, self._lost = with_container_id(self._container, self._lost), None
        return HostedTurnError(error, self._come_to(error.code, False))


def _too_many(iterations: int, allowed: int) -> HostedError:
    return HostedError(
        "pause_turn_max_exceeded",
        f"the API paused the turn more than {allowed} times: allow more, or ask for less at once",
        details={"iterations": iterations, "max": allowed},
    )


def _not_found(id: str, error: HostedError) -> HostedError:
    return HostedError(
        "container_not_found",
        f"the container {id} is gone, and with it the work of the paused turn: send the message again",
        details={"container_id": id, "reason": error.message},
        retryable=True,
    )
