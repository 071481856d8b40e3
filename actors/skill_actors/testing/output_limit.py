"""Where an answer of the fake API has to end: at `max_tokens`, or at the end of the model's window. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from skill_actors.testing.message_events import blocks_of
from skill_actors.testing.replies import Part, Reply, Text, Thinking, ToolUse
from skill_actors.testing.tokens import block_tokens, text_tokens

__all__ = ["fitted", "output_tokens"]

_ANSWER_TOKENS: Final = 2
"""For an answer, beside its blocks; one without any text has some, too."""


def output_tokens(reply: Reply, body: Mapping[str, Any]) -> int:
    """Tokens of an answer, never more than it may have."""
    blocks = zip(reply.blocks, blocks_of(reply), strict=True)
    return min(int(body["max_tokens"]), _ANSWER_TOKENS + sum(_part_tokens(part, block) for part, block in blocks))


def fitted(reply: Reply, body: Mapping[str, Any], *, window_left: int) -> Reply:
    """The answer as far as it goes, with the reason why it ends there; unchanged if it fits, or says why it ends.

    Args:
        window_left: tokens of the model's window that the prompt leaves.

    """
    limit = int(body["max_tokens"])
    left = min(limit, window_left) - _ANSWER_TOKENS
    kept: list[Part] = []
    for part, block in zip(reply.blocks, blocks_of(reply), strict=True):
        tokens = _part_tokens(part, block)
        if tokens > left and reply.stop_reason is None:
            cut = _cut(part, max(0, left))
            reason = "max_tokens" if limit <= window_left else "model_context_window_exceeded"
            return replace(reply, blocks=[*kept, *([cut] if cut is not None else [])], stop_reason=reason)
        kept.append(part)
        left -= tokens
    return reply


def _part_tokens(part: Part, block: Mapping[str, Any]) -> int:
    if isinstance(part, ToolUse) and part.raw_json is not None:
        return text_tokens(part.name + part.raw_json)
    return 0 if str(block["type"]).endswith("_tool_result") else block_tokens(block)  # those the model does not write


def _cut(part: Part, tokens: int) -> Part | None:
    """The beginning of a part that is too long; None where nothing of it can be given."""
    match part:
        case Text(text):
            return Text(said) if (said := _longest(text, lambda start: text_tokens(start) <= tokens)).strip() else None
        case Thinking(thinking):
            said = _longest(thinking, lambda start: text_tokens(start) <= tokens)
            return Thinking(said) if said.strip() else None
        case ToolUse():
            raw = part.raw_json if part.raw_json is not None else json.dumps(dict(part.input))
            said = _longest(raw, lambda start: text_tokens(part.name + start) <= tokens)
            # Never the whole: what is cut is not the call that it looks like.
            return replace(part, input={}, raw_json=said[:-1]) if len(said) > 1 else None
        case _:
            return None


def _longest(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning that fits, found by halving."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle - 1)
    return text[:low]
