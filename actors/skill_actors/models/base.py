"""What a model is to a session: a request in, a stream of typed events out.

Messages and content blocks keep the shapes of Anthropic's Messages API (JSON-ready dicts), since every
compatible server speaks them and thinking blocks must go back unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

__all__ = [
    "Block",
    "BlockDelta",
    "BlockDone",
    "BlockStart",
    "Message",
    "MessageDone",
    "Model",
    "ModelError",
    "ModelEvent",
    "ModelRequest",
    "SkillHint",
    "Usage",
    "UsageSoFar",
]

Block = dict[str, Any]
Message = dict[str, Any]  # {"role": "user"|"assistant", "content": [Block, ...]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or more model calls. All input is the sum of the three input counts and cache_write_1h."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_search_requests: int = 0
    code_execution_requests: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_5m_tokens=self.cache_write_5m_tokens + other.cache_write_5m_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            web_search_requests=self.web_search_requests + other.web_search_requests,
            code_execution_requests=self.code_execution_requests + other.code_execution_requests,
        )

    def to_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Usage:
        return cls(**{name: int(data.get(name) or 0) for name in cls.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillHint:
    """What a model without language understanding needs of a skill: the offline model chooses by it."""

    name: str
    description: str
    entry: tuple[str, ...] | None  # argv of the entry command, absolute; None if the skill has none


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call of a model. `system` already holds the catalogue of skills."""

    model: str
    messages: Sequence[Message]
    system: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    max_tokens: int = 8192
    skills: Sequence[SkillHint] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)  # further fields of the request, sent as they are


@dataclass(frozen=True, slots=True)
class BlockStart:
    """The model begins a block: text, thinking, tool_use or another kind of the API."""

    index: int
    kind: str


@dataclass(frozen=True, slots=True)
class BlockDelta:
    """More of a block: text of a text or thinking block. Tool input is not streamed to listeners."""

    index: int
    kind: Literal["text", "thinking"]
    text: str


@dataclass(frozen=True, slots=True)
class BlockDone:
    """A block is complete; `block` is what goes into the history."""

    index: int
    block: Block


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDone:
    """The model has ended its message. `model` is the one that answered; `usage` covers this call only.

    `stop_details` says more about a refusal, as the API gives it. `id` is the API's name for the answer, and no part of
    what it says: two answers that differ in nothing else are equal.
    """

    model: str
    stop_reason: str
    content: Sequence[Block]
    usage: Usage
    container: str | None = None
    stop_details: Mapping[str, Any] | None = None
    id: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class UsageSoFar:
    """What the server has counted by now of this call; all that is known of one that is cut."""

    usage: Usage


ModelEvent = UsageSoFar | BlockStart | BlockDelta | BlockDone | MessageDone


class ModelError(Exception):
    """A model call failed. Nothing it streamed before is a complete message.

    Args:
        code: stable word: "authentication", "invalid_request", "rate_limited", "overloaded", "timeout", "connection",
            "server", "not_found", "too_large", "billing", "permission", "not_configured", "protocol", "circuit_open".
        retryable: whether the same request may succeed later.
        retry_after_s: what the server asked for, in seconds.
        status: HTTP status, where there was one.
        usage: what the server had reported before the failure.

    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retryable: bool = False,
        retry_after_s: float | None = None,
        status: int | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.status = status
        self.usage = usage


class Model(Protocol):
    """A source of answers. One instance serves many sessions at once."""

    @property
    def provider(self) -> str:
        """ "anthropic", "offline", "scripted", ..."""

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """Call the model. The iterator ends after exactly one MessageDone, or raises ModelError.

        Leaving the context early (or being cancelled) closes the connection at once.
        """

    async def aclose(self) -> None:
        """Close what is held open. May be called twice."""
