"""Pictures and documents in a conversation: as events hold them, as the API takes them, and no more than it takes.

A request may have 32 MB, and pictures in it, if there are many, only 2,000 pixels a side; documents have their pages
counted together. So of all of them the latest are sent; where an earlier one was, a text says so, and the model may
look again.
"""

from __future__ import annotations

import binascii
import itertools
from base64 import b64decode
from collections.abc import Collection, Iterator, Sequence
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
    "not_sent",
    "parts_of",
    "with_few_images",
]

MAX_IMAGES: Final = 20
MAX_DOCUMENTS: Final = 5  # of up to a hundred pages each
MAX_IMAGES_CHARS: Final = 12 << 20  # of base64, in one request
_MOST: Final = {"image": MAX_IMAGES, "document": MAX_DOCUMENTS}
_KEPT_PART: Final = 2  # a half of them stays where earlier ones have to go
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


def parts_of(block: Block) -> Sequence[Block]:
    """The block, and what it holds where it is a result."""
    inner = block.get("content")
    return [block, *inner] if block.get("type") == "tool_result" and isinstance(inner, list) else [block]


def with_few_images(messages: Sequence[Message], *, sees: bool = True) -> list[Message]:
    """The same messages with the latest pictures and documents only. What was passed is not changed.

    With one too many, earlier ones go until half of what is allowed is left. So the beginning of a request stays the
    same for many calls and is read from the API's cache; else each further picture would make it another one.

    Args:
        sees: whether the model takes any at all.

    """
    room = _Room()
    for number, message in enumerate(messages if sees else ()):
        room.admit(number, [part for block in message["content"] for part in parts_of(block) if is_shown(part)])
    sent: list[Message] = []
    for number, message in enumerate(messages):
        places = itertools.count()
        sent.append({**message, "content": [_told(block, number, places, room.sent) for block in message["content"]]})
    return sent


def not_sent(block: Block) -> Block:
    """What stands where a picture or a document was."""
    text = _GONE if block["type"] == "image" else _DOCUMENT_GONE.format(title=block.get("title", ""))
    return {"type": "text", "text": text}


def _told(block: Block, number: int, places: Iterator[int], sent: Collection[tuple[int, int]]) -> Block:
    """The block, with a text in the place of what is shown in it and not sent."""
    if is_shown(block):
        return block if (number, next(places)) in sent else not_sent(block)
    inner = block.get("content")
    if block.get("type") == "tool_result" and isinstance(inner, list):
        return {**block, "content": [_told(part, number, places, sent) for part in inner]}
    return block


class _Room:
    """What is sent of all that messages show: `sent` has it by message and place in it, the first first."""

    def __init__(self) -> None:
        self.sent: dict[tuple[int, int], Block] = {}

    def admit(self, number: int, shown: Sequence[Block]) -> None:
        """The next message shows these. Of what it shows itself something goes only if that alone is too much."""
        self.sent |= {(number, place): block for place, block in enumerate(shown)}
        if not self._excess(1):
            return
        for key, block in list(self.sent.items()):
            if block["type"] in self._excess(1 if key[0] == number else _KEPT_PART):
                del self.sent[key]

    def _excess(self, part: int) -> Collection[str]:
        """Of which kinds there is more than this part of what is allowed."""
        kinds = [str(block["type"]) for block in self.sent.values()]
        if sum(len(block["source"]["data"]) for block in self.sent.values()) * part > MAX_IMAGES_CHARS:
            return kinds
        return [kind for kind, most in _MOST.items() if kinds.count(kind) * part > most]
