"""How many tokens something takes, roughly: enough to choose what stays, and never what a bill is made of. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from skill_actors.models.base import Block
from skill_actors.sessions.dialogue import Piece

__all__ = ["CHARS_PER_TOKEN", "tokens_of", "tokens_of_text"]

CHARS_PER_TOKEN: Final = 4
_IMAGE_TOKENS: Final = 1_600
_DOCUMENT_TOKENS: Final = 20_000


def tokens_of(pieces: Iterable[Piece]) -> int:
    """Of all of these together."""
    return sum(_of_block(block) for piece in pieces for block in piece.content)


def tokens_of_text(text: str) -> int:
    """Of a text: four of its characters, or of its bytes where it is not Latin, are one."""
    return -(-max(len(text), len(text.encode("utf-8", "replace")) // 2) // CHARS_PER_TOKEN)


def _of_block(block: Block) -> int:
    match block.get("type"):
        case "image":
            return _IMAGE_TOKENS
        case "document":
            return _DOCUMENT_TOKENS
        case "text":
            return tokens_of_text(str(block.get("text", "")))
        case "tool_result":
            return _of_content(block.get("content"))
        case _:
            return tokens_of_text(json.dumps(block, ensure_ascii=False, default=str))


def _of_content(content: Any) -> int:
    if isinstance(content, list):
        return sum(_of_block(block) for block in content)
    return tokens_of_text(str(content or ""))
