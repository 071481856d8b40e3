"""How many tokens the fake API counts: like a tokenizer, the same each time, and never more than what bounds them.

A word of up to seven letters, three digits, a run of blanks, or one other sign is a token; beyond ASCII, each two
further bytes of UTF-8 are another. So a text never has more tokens than bytes. To texts come, as constants, what the
API adds for messages and for tools. Images count by their size and pages of PDFs each, whatever they show.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = [
    "MAX_IMAGE_TOKENS",
    "MESSAGE_TOKENS",
    "PDF_PAGE_TOKENS",
    "TOOLS_TOKENS",
    "block_tokens",
    "image_size",
    "text_tokens",
    "tool_tokens",
]

MESSAGE_TOKENS: Final = 4
"""For each message, beside its content."""
TOOLS_TOKENS: Final = 346
"""Once, where a request has tools: what the API tells the model about them."""
MAX_IMAGE_TOKENS: Final = 4784
"""A larger image is made smaller before the model sees it."""
PDF_PAGE_TOKENS: Final = 3000
"""For a page: its text and its picture."""

_PATCH_PX: Final = 28
_PIECE: Final = re.compile(r" ?[A-Za-z]{1,7}| ?[0-9]{1,3}|\s+|.", re.DOTALL)
_PAGE: Final = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
_SHORT_CHARS: Final = 256
_MAX_KNOWN: Final = 50_000
_JPEG_SIZES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_known: dict[bytes, int] = {}  # texts come again with each request of a conversation


def text_tokens(text: str) -> int:
    """Tokens of a text."""
    if len(text) <= _SHORT_CHARS:
        return _counted(text, len(text.encode("utf-8", "replace")))
    content = text.encode("utf-8", "replace")
    key = hashlib.blake2b(content, digest_size=16).digest()
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        found = _known[key] = _counted(text, len(content))
    return found


def block_tokens(block: Mapping[str, Any]) -> int:
    """Tokens of a block of a message, as input and as output."""
    match block.get("type"):
        case "text":
            return text_tokens(str(block["text"]))
        case "thinking":
            return text_tokens(str(block["thinking"]))
        case "redacted_thinking":
            return text_tokens(str(block["data"]))
        case "compaction":
            return text_tokens(str(block["content"] or ""))
        case "image":
            return _image_tokens(block["source"])
        case "document":
            return _document_tokens(block)
        case "tool_result":
            return text_tokens(str(block["tool_use_id"])) + _content_tokens(block.get("content", ""))
        case _:
            return text_tokens(_json({name: value for name, value in block.items() if name != "cache_control"}))


def tool_tokens(tool: Mapping[str, Any]) -> int:
    """Tokens of the definition of a tool."""
    return text_tokens(_json({name: value for name, value in tool.items() if name != "cache_control"}))


def image_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, GIF, JPEG or WebP image, from its head; None for anything else."""
    try:
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return _unpack(">II", content, 16)
        if content.startswith((b"GIF87a", b"GIF89a")):
            return _unpack("<HH", content, 6)
        if content.startswith(b"\xff\xd8"):
            return _jpeg_size(content)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _webp_size(content)
    except (struct.error, IndexError):
        return None
    return None


def _counted(text: str, size_bytes: int) -> int:
    return len(_PIECE.findall(text)) + max(0, size_bytes - len(text)) // 2


def _content_tokens(content: str | Iterable[Mapping[str, Any]]) -> int:
    return text_tokens(content) if isinstance(content, str) else sum(block_tokens(block) for block in content)


def _image_tokens(source: Mapping[str, Any]) -> int:
    size = image_size(_head(source)) if source.get("type") == "base64" else None
    if size is None:
        return MAX_IMAGE_TOKENS
    width, height = size
    return max(1, min(MAX_IMAGE_TOKENS, math.ceil(width / _PATCH_PX) * math.ceil(height / _PATCH_PX)))


def _document_tokens(block: Mapping[str, Any]) -> int:
    source = block["source"]
    told = text_tokens(f"{block.get('title') or ''}{block.get('context') or ''}")
    match source.get("type"):
        case "text":
            return told + text_tokens(str(source["data"]))
        case "content":
            return told + _content_tokens(source["content"])
        case "base64":
            return told + PDF_PAGE_TOKENS * max(1, len(_PAGE.findall(_bytes(source))))
        case _:
            return told + PDF_PAGE_TOKENS


def _head(source: Mapping[str, Any]) -> bytes:
    """Enough of an image to know its size; in a JPEG other things may come before it."""
    return _bytes({"data": str(source.get("data", ""))[: 4 * 64_000]})


def _bytes(source: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(source.get("data", "")))
    except ValueError:
        return b""


def _unpack(layout: str, content: bytes, start: int) -> tuple[int, int]:
    first, second = struct.unpack_from(layout, content, start)
    return int(first), int(second)


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    at = 2
    while content[at] == 0xFF:
        if content[at + 1] in _JPEG_SIZES:
            height, width = _unpack(">HH", content, at + 5)
            return width, height
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None


def _webp_size(content: bytes) -> tuple[int, int] | None:
    match content[12:16]:
        case b"VP8 ":
            width, height = _unpack("<HH", content, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(content[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return (
                int.from_bytes(content[24:27], "little") + 1,
                int.from_bytes(content[27:30], "little") + 1,
            )
    return None


def _json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
