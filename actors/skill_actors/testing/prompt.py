"""A request as the model reads it: one block after the other, tools, system prompt, messages. Pure.

What a summary of the API replaced is not read any more, and old tool results are cleared where the request asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from skill_actors.testing.tokens import (
    MESSAGE_TOKENS,
    TOOLS_TOKENS,
    block_tokens,
    text_tokens,
    tool_tokens,
)

__all__ = ["Lifetime", "PromptBlock", "prompt_of", "prompt_tokens", "without_compacted"]

Lifetime = Literal["5m", "1h"]

_NOT_MARKED: Final = frozenset({"thinking", "redacted_thinking"})


@dataclass(frozen=True, slots=True)
class PromptBlock:
    """One block. `text` tells it from others; `lifetime` is that of a breakpoint at its end, None where none is."""

    text: str
    tokens: int
    lifetime: Lifetime | None
    markable: bool = True


def prompt_of(body: Mapping[str, Any]) -> list[PromptBlock]:
    """The blocks of a well-formed request. A `cache_control` of the request itself marks the last that can be."""
    blocks = [*_tools(body), *_system(body), *_messages(body)]
    if lifetime := _lifetime(body):
        last = next((number for number in reversed(range(len(blocks))) if blocks[number].markable), None)
        if last is not None:
            blocks[last] = PromptBlock(blocks[last].text, blocks[last].tokens, lifetime)
    return blocks


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of the whole input."""
    return sum(block.tokens for block in prompt_of(body))


def without_compacted(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages from the last summary on. One without content has replaced nothing."""
    for number in reversed(range(len(messages))):
        content = messages[number]["content"]
        for position in reversed(range(len(content) if isinstance(content, list) else 0)):
            if content[position]["type"] == "compaction" and content[position]["content"]:
                return [{**messages[number], "content": content[position:]}, *messages[number + 1 :]]
    return list(messages)


def _tools(body: Mapping[str, Any]) -> Iterator[PromptBlock]:
    overhead = TOOLS_TOKENS
    for tool in body.get("tools") or ():
        if not tool.get("defer_loading"):
            yield PromptBlock(f"tool {_key(tool)}", overhead + tool_tokens(tool), _lifetime(tool))
            overhead = 0


def _system(body: Mapping[str, Any]) -> Iterator[PromptBlock]:
    for block in _blocks(body.get("system") or []):
        yield PromptBlock(f"system {block['text']}", text_tokens(block["text"]), _lifetime(block))


def _messages(body: Mapping[str, Any]) -> Iterator[PromptBlock]:
    # Another choice of tools, or another way of thinking, is another prompt from the first message on.
    start = _key({"tool_choice": body.get("tool_choice"), "thinking": body.get("thinking")})
    for message in body["messages"]:
        overhead = MESSAGE_TOKENS
        for block in _blocks(message["content"]):
            text = f"{start}{message['role'] if overhead else ''} {_block_key(block)}"
            markable = block["type"] not in _NOT_MARKED
            yield PromptBlock(text, overhead + block_tokens(block), _lifetime(block), markable)
            overhead, start = 0, ""


def _blocks(content: str | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _lifetime(block: Mapping[str, Any]) -> Lifetime | None:
    mark = block.get("cache_control")
    if not mark:
        return None
    return "1h" if mark.get("ttl") == "1h" else "5m"


def _block_key(block: Mapping[str, Any]) -> str:
    return f"text {block['text']}" if block.keys() <= {"type", "text", "cache_control"} else _key(block)


def _key(block: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in block.items() if name != "cache_control"}, sort_keys=True)
