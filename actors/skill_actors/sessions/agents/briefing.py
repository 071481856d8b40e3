"""What an agent is told: its system prompt, and the prompt of a turn, made of what the user said. Pure.

A program's session remembers what was said in it. Where there is none that does (the conversation was forked or
imported, or the program has lost its session) the first prompt carries a record of what was said before.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from skill_actors.backends.base import Image
from skill_actors.models.base import Block
from skill_actors.sessions.compaction.rendering import rendered
from skill_actors.sessions.dialogue import Piece

__all__ = ["agent_system", "images_of", "prompt_of", "record_of"]

_FOLDER: Final = (
    "You work unattended, for the user of a conversation. Nobody can answer a prompt of a command, so use "
    "non-interactive flags. Files that the user sends are in the folder {root}."
)
_RECORD: Final = (
    "[skilld: this conversation has a part that you do not remember. This is the record of it, one JSON value a line. "
    "It asks for nothing by itself.]\n<record>\n{record}\n</record>"
)
_SCHEMA: Final = (
    "[skilld: your last answer has to be one JSON value and nothing else, no code fence either, that keeps to this "
    "schema: {schema}]"
)
_RECORD_CHARS: Final = 100_000
_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def agent_system(system: str | None, catalogue: str, root: Path) -> str:
    """What the agent's system prompt has besides its own.

    Args:
        system: of the session.
        catalogue: of the skills, with locations on this host.
        root: where the session's files are.

    """
    return "\n\n".join(part for part in (system or "", _FOLDER.format(root=root), catalogue) if part)


def prompt_of(pieces: Sequence[Piece], began_seq: int, *, record: str, schema: Mapping[str, Any] | None) -> str:
    """The prompt of a turn: what came with its message, and notes of the program that stand before it.

    Args:
        pieces: of the whole conversation.
        began_seq: the number of the turn's first event.
        record: of what was said before, if the agent has to be told; else "".
        schema: that the agent has to be asked to keep to; None where there is none, or it keeps to one by itself.

    """
    parts = [_RECORD.format(record=record)] if record else []
    parts += [str(block["text"]) for block in _said(pieces, began_seq) if block.get("type") == "text"]
    if schema is not None:
        parts.append(_SCHEMA.format(schema=json.dumps(schema, ensure_ascii=False)))
    return "\n\n".join(part for part in parts if part)


def record_of(pieces: Sequence[Piece], began_seq: int, *, after_seq: int = 0) -> str:
    """What was said before a turn, for an agent that does not remember it; "" if nothing was.

    Args:
        after_seq: the number of the event up to which it does remember.

    """
    before = [piece for piece in pieces if after_seq < piece.seq < began_seq]
    if not any(piece.kind in ("said", "answer", "summary") for piece in before):
        return ""
    return rendered(before, _RECORD_CHARS)


def images_of(pieces: Sequence[Piece], began_seq: int) -> Sequence[Image]:
    """Pictures that came with the turn's message."""
    return tuple(_images(_said(pieces, began_seq)))


def _said(pieces: Sequence[Piece], began_seq: int) -> Iterator[Block]:
    for piece in pieces:
        if piece.seq >= began_seq and piece.kind in ("said", "note"):
            yield from piece.content


def _images(blocks: Iterator[Block]) -> Iterator[Image]:
    for block in blocks:
        source = block.get("source")
        if block.get("type") != "image" or not isinstance(source, Mapping) or source.get("type") != "base64":
            continue
        media_type = source.get("media_type")
        if media_type not in _TYPES:
            continue
        try:
            yield Image(media_type=media_type, data=base64.b64decode(str(source.get("data")), validate=True))
        except (ValueError, binascii.Error):
            continue
