"""What a model is to a session: a request in, a stream of typed events out.

Messages and content blocks keep the shapes of Anthropic's Messages API (JSON-ready dicts), since every
compatible server speaks them and thinking blocks must go back unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

__all__ = [
    "BATCH",
    "FAST",
    "US",
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

_BEGUN: Final = 200  # the status of a stream that failed after it had begun
# Of whoever stands before the API, and has passed the request on: nobody can tell how far it came.
_GIVEN_UP: Final = frozenset({502, 504, 520, 524})

BATCH: Final = "batch"
US: Final = "us"
FAST: Final = "fast"
_USAGE_WORDS: Final = ("service_tier", "inference_geo", "speed")

Block = dict[str, Any]
Message = dict[str, Any]  # {"role": "user"|"assistant", "content": [Block, ...]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or more model calls. All input is the sum of the three input counts and cache_write_1h.

    `service_tier`, `inference_geo` and `speed` are there where they change the price: BATCH, US and FAST.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_search_requests: int = 0
    code_execution_requests: int = 0
    service_tier: str = ""
    inference_geo: str = ""
    speed: str = ""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_5m_tokens=self.cache_write_5m_tokens + other.cache_write_5m_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            web_search_requests=self.web_search_requests + other.web_search_requests,
            code_execution_requests=self.code_execution_requests + other.code_execution_requests,
            # Of calls that differ the dearer.
            service_tier=self.service_tier if self.service_tier == other.service_tier else "",
            inference_geo=self.inference_geo or other.inference_geo,
            speed=self.speed or other.speed,
        )

    @property
    def prompt_tokens(self) -> int:
        """All input, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def total_tokens(self) -> int:
        """All input and output."""
        return self.prompt_tokens + self.output_tokens

    def to_dict(self) -> dict[str, Any]:
        words = {name: word for name in _USAGE_WORDS if (word := getattr(self, name))}
        return {name: getattr(self, name) for name in self.__slots__ if name not in _USAGE_WORDS} | words

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Usage:
        values: dict[str, Any] = {name: str(data.get(name) or "") for name in _USAGE_WORDS}
        values |= {name: int(data.get(name) or 0) for name in cls.__slots__ if name not in values}
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillHint:
    """What a model without language understanding needs of a skill: the offline model chooses by it."""

    name: str
    description: str
    entry: tuple[str, ...] | None  # argv of the entry command, absolute; None if the skill has none


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call of a model. `system` already holds the catalogue of skills.

    `extra`: further fields of the request, sent as they are. `betas`: features of the API that are asked for by name.
    `cache`: prefixes of the prompt that a next call shares are kept by the API for some minutes; see `caching`.
    """

    model: str
    messages: Sequence[Message]
    system: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    max_tokens: int = 8192
    skills: Sequence[SkillHint] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    betas: tuple[str, ...] = ()
    cache: bool = False


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
    what it says: two answers that differ in nothing else are equal. `context_tokens`: how much of the model's window
    the conversation fills with this answer, less than `usage` where the API compacted it meanwhile; 0: not known.
    """

    model: str
    stop_reason: str
    content: Sequence[Block]
    usage: Usage
    container: str | None = None
    stop_details: Mapping[str, Any] | None = None
    id: str | None = field(default=None, compare=False)
    context_tokens: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class UsageSoFar:
    """What the server has counted by now of this call; all that is known of one that is cut."""

    usage: Usage


ModelEvent = UsageSoFar | BlockStart | BlockDelta | BlockDone | MessageDone


class ModelError(Exception):
    """A model call failed. Nothing it streamed before is a complete message.

    Args:
        code: stable word: "authentication", "invalid_request", "rate_limited", "overloaded", "timeout", "connection",
            "server", "not_found", "too_large", "billing", "permission", "not_configured", "protocol", "circuit_open",
            "context_exceeded" (the prompt does not fit into the model's window).
        retryable: whether the same request may succeed later.
        retry_after_s: what the server asked for, in seconds.
        status: HTTP status, where there was one.
        usage: what the server had reported before the failure.
        sent: whether the request may have reached the server.

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
        sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.status = status
        self.usage = usage
        self.sent = sent

    @property
    def may_be_billed(self) -> bool:
        """Whether the call may cost something: a refusal of the API by its HTTP status does not."""
        return self.sent and (self.status is None or self.status == _BEGUN or self.status in _GIVEN_UP)


class Model(Protocol):
    """A source of answers. One instance serves many sessions at once."""

    @property
    def provider(self) -> str:
        """ "anthropic", "offline", "scripted", ..."""

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """Call the model. The iterator ends after exactly one MessageDone, or raises ModelError.

        Leaving the context early (or being cancelled) closes the connection at once.
        """

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """Tokens of the request's input as the provider counts them; None if it does not count for others.

        Costs nothing. Raises ModelError.
        """

    async def aclose(self) -> None:
        """Close what is held open. May be called twice."""
