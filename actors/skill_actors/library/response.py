"""What a turn came to: the model's last answer in the shape of the Messages API, and what the turn took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skill_actors.loop import LoopResult
from skill_actors.models.base import Block, Usage

__all__ = ["ChatResponse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse:
    """The answer to one message.

    Args:
        id: the API's, of the last answer; None where the model gave none.
        model: that answered.
        content: blocks of the last answer.
        stop_reason: as the API gave it: "end_turn", but also "max_tokens" or "refusal".
        usage: tokens of all answers of the turn.
        text: what it said since the last tool result.
        iterations: model calls of the turn.
        stop_details: more about a refusal.
        container: id of the container that hosted code ran in.
        container_replaced: the conversation's container was gone, and this is another, without its files.

    """

    id: str | None
    model: str
    content: Sequence[Block]
    stop_reason: str
    usage: Usage
    text: str
    iterations: int
    stop_details: Mapping[str, Any] | None = None
    container: str | None = None
    container_replaced: bool = False

    @property
    def role(self) -> str:
        """Always "assistant"."""
        return "assistant"

    @classmethod
    def of(cls, result: LoopResult, *, container: str | None, replaced: bool) -> ChatResponse:
        """The response of a loop that has finished."""
        if result.response is None:
            raise ValueError("the loop ended without an answer")
        message = result.response.message
        return cls(
            id=result.response.id,
            model=message.model,
            content=message.content,
            stop_reason=result.stop_reason,
            usage=result.usage,
            text=result.text,
            iterations=result.iterations,
            stop_details=message.stop_details,
            container=container,
            container_replaced=replaced,
        )

    def to_dict(self) -> dict[str, Any]:
        """As the Messages API writes it; the usage is that of the whole turn."""
        body: dict[str, Any] = {
            "id": self.id,
            "type": "message",
            "role": self.role,
            "model": self.model,
            "content": [dict(block) for block in self.content],
            "stop_reason": self.stop_reason,
            "usage": {
                "input_tokens": self.usage.input_tokens,
                "output_tokens": self.usage.output_tokens,
                "cache_read_input_tokens": self.usage.cache_read_tokens,
                "cache_creation_input_tokens": self.usage.cache_write_5m_tokens + self.usage.cache_write_1h_tokens,
            },
        }
        if self.stop_details is not None:
            body["stop_details"] = dict(self.stop_details)
        if self.container is not None:
            body["container"] = {"id": self.container}
        return body
