"""Pictures and documents in a conversation: as events hold them, as the API takes them, and no more than it takes.

A request may have 32 MB, and pictures in it, if there are many, only 2,000 pixels a side; documents have their pages
counted together. So of all of them the latest are sent; where an earlier one was, a text says so, and the model may
look again.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from typing import Final

from skill_actors.backends.images import recognise, why_not
from skill_actors.models.base import Block, Message

__all__ = [
    "MAX_DOCUMENTS",
    "MAX_IMAGES",
    "MAX_IMAGES_CHARS",
    "document_block",
    "image_block",
    "is_image",
    "is_shown",
    "with_few_images",
]

MAX_IMAGES: Final = 20
MAX_DOCUMENTS: Final = 5  # of up to a hundred pages each
MAX_IMAGES_CHARS: Final = 12 << 20  # of base64, in one request
_GONE: Final = "[a picture was shown here; it is not sent any more: view it again if you need it]"
_DOCUMENT_GONE: Final = "[the document {title!r} was shown here; it is not sent any more: read its file if you need it]"


def image_block(media_type: str, base64: str) -> Block:
    """A picture for the model."""
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": base64}}


def document_block(name: str, base64: str) -> Block:
    """A PDF document for the model."""
    source = {"type": "base64", "media_type": "application/pdf", "data": base64}
    return {"type": "document", "source": source, "title": name}


def is_shown(block: Block) -> bool:
    """Whether a block is a picture or a document."""
    return block.get("type") in ("image", "document")


def is_image(value: object) -> bool:
    """Whether this is a picture as events hold them, which the API takes."""
    if not isinstance(value, dict) or not isinstance(value.get("base64"), str):
        return False
    try:
        data = b64decode(value["base64"], validate=True)
    except (binascii.Error, ValueError):
        return False
    found = recognise(data)
    return found is not None and found[0] == value.get("media_type") and why_not(data, *found) is None


def with_few_images(messages: Sequence[Message], *, sees: bool = True) -> list[Message]:
    """The same messages with the latest pictures and documents only. What was passed is not changed.

    Args:
        sees: whether the model takes any at all.

    """
    room = _Room(MAX_IMAGES if sees else 0, MAX_DOCUMENTS if sees else 0)
    sent = [
        {**message, "content": [room.admit(block) for block in reversed(message["content"])][::-1]}
        for message in reversed(messages)
    ]
    return sent[::-1]


class _Room:
    """Counts pictures and documents, the latest first."""

    def __init__(self, images: int, documents: int) -> None:
        self._left = {"image": images, "document": documents}
        self._chars = 0

    def admit(self, block: Block) -> Block:
        content = block.get("content")
        if block.get("type") == "tool_result" and isinstance(content, list):
            return {**block, "content": [self.admit(part) for part in reversed(content)][::-1]}
        if not is_shown(block):
            return block
        kind = block["type"]
        self._left[kind] -= 1
        self._chars += len(block["source"]["data"])
        if self._left[kind] >= 0 and self._chars <= MAX_IMAGES_CHARS:
            return block
        text = _GONE if kind == "image" else _DOCUMENT_GONE.format(title=block.get("title", ""))
        return {"type": "text", "text": text}
