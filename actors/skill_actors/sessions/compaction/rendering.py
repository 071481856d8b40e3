"""A part of a conversation as a text that a model is to summarise: one JSON value a line, so that it stays data. Pure.

Nothing in it can look like the end of it, or like a line of its own: texts are JSON, without line ends, and without
angle brackets. Of what is long the beginning and the end are there, of a result of a tool less than of what somebody
said; and if all together is still too long, less and less, and of the middle nothing at last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from skill_actors.models.base import Block
from skill_actors.sessions.dialogue import Piece

__all__ = ["rendered"]

_SAID_CHARS: Final = (20_000, 6_000, 2_000, 600)
_TOOL_CHARS: Final = (4_000, 1_500, 500, 150)


def rendered(pieces: Sequence[Piece], max_chars: int) -> str:
    """These pieces, in order; at most so many characters."""
    text = ""
    for said_chars, tool_chars in zip(_SAID_CHARS, _TOOL_CHARS, strict=True):
        text = "\n".join(_lines(pieces, said_chars, tool_chars))
        if len(text) <= max_chars:
            return text
    return _cut(text, max_chars)


def _lines(pieces: Iterable[Piece], said_chars: int, tool_chars: int) -> Iterator[str]:
    for piece in pieces:
        who = {"answer": "assistant", "summary": "earlier summary", "note": "note"}.get(piece.kind, "user")
        for block in piece.content:
            told = _told(block, who, said_chars, tool_chars)
            if told is not None:
                yield _line(told)


def _told(block: Block, who: str, said_chars: int, tool_chars: int) -> dict[str, Any] | None:
    match block.get("type"):
        case "text":
            return {who: _cut(str(block.get("text", "")), said_chars)}
        case "tool_use" | "server_tool_use":
            given = json.dumps(block.get("input"), ensure_ascii=False, default=str)
            return {"call": block.get("name"), "input": _cut(given, tool_chars)}
        case "tool_result":
            told = {"result": _cut(_plain(block.get("content")), tool_chars)}
            return {**told, "failed": True} if block.get("is_error") else told
        case "compaction":
            return {"earlier summary": _cut(str(block.get("content") or ""), said_chars)}
        case "image":
            return {who: "(a picture)"}
        case "document":
            return {who: f"(the document {str(block.get('title', ''))[:200]})"}
        case "container_upload":
            return {who: f"(the file {block.get('file_id')})"}
        case "thinking" | "redacted_thinking":
            return None
        case kind:  # results of the API's own tools
            return {str(kind): _cut(json.dumps(block.get("content"), ensure_ascii=False, default=str), tool_chars)}


def _plain(content: Any) -> str:
    if not isinstance(content, list):
        return str(content or "")
    return "\n".join(str(block.get("text", f"({block.get('type')})")) for block in content)


def _cut(text: str, chars: int) -> str:
    """The text, or its beginning and its end with a note between."""
    if len(text) <= chars:
        return text
    note = f" [... {len(text) - chars} characters are left out ...] "
    room = max(0, chars - len(note))
    first = room * 2 // 3
    return (text[:first] + note + text[len(text) - (room - first) :])[:chars]


def _line(value: dict[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")
    return text.encode("utf-8", "replace").decode()  # a lone surrogate, which models do write, is a question mark
