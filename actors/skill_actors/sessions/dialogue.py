"""What was said, in order: pieces of messages with where they came from, and the messages made of them. Pure.

A piece is what one event has said. The API wants roles to alternate, so neighbours of one role become one message when
messages are asked for and not before: whoever shortens a conversation cuts between pieces, and a cut never parts the
results of tools from the calls that they answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from skill_actors.models.base import Block, Message
from skill_actors.sessions.shown_images import not_sent

__all__ = ["MAX_PINNED_BYTES", "Dialogue", "Kind", "Piece", "call_ids", "first_to_keep", "parted", "text_block"]

MAX_PINNED_BYTES: Final = 100_000  # of messages that stay whole; about 25,000 tokens
_IMAGE_BYTES: Final = 6_400  # a picture is as much as such a text

# said: by a user. results: of tools. answer: of a model. note: told by the program. summary: stands for what was cut.
Kind = Literal["said", "results", "answer", "note", "summary"]

_NOTHING_BEFORE: Final = "[skilld: what was said before this is not shown.]"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message, all of one role. `content` is not changed any more.

    Args:
        seq: the number of the event with which it came into the conversation; it rises, or stays, from piece to piece,
            but for a summary, which comes later than what it stands before.
        turn: whose it is.
        pinned: whether it stays when the conversation is shortened.

    """

    seq: int
    kind: Kind
    content: Sequence[Block]
    turn: str | None = None
    pinned: bool = False

    @property
    def role(self) -> Literal["user", "assistant"]:
        return "assistant" if self.kind == "answer" else "user"


@dataclass(slots=True)
class Dialogue:
    """Pieces in the order in which a model reads them."""

    pieces: list[Piece] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """Add it, if it says anything."""
        if piece.content:
            self.pieces.append(piece)

    @property
    def last_role(self) -> Literal["user", "assistant"] | None:
        """Who spoke last; None before anybody did."""
        return self.pieces[-1].role if self.pieces else None

    def messages(self) -> list[Message]:
        """With roles that alternate, a user's first. The list is the caller's; its messages are not to be changed."""
        messages: list[Message] = []
        if self.pieces and self.pieces[0].role == "assistant":
            messages.append({"role": "user", "content": [text_block(_NOTHING_BEFORE)]})
        for piece in self.pieces:
            if messages and messages[-1]["role"] == piece.role:
                messages[-1]["content"] += piece.content  # a list that was made here
            else:
                messages.append({"role": piece.role, "content": list(piece.content)})
        return messages

    def keep_uploads(self, kept: Collection[str]) -> None:
        """Take files for the container out, but for those of these ids."""
        self.pieces = [
            replace(piece, content=content)
            for piece in self.pieces
            if (content := [block for block in piece.content if not _gives_other(block, kept)])
        ]

    def shorten(self, first: int, summary: Sequence[Block], *, seq: int, running: str | None) -> None:
        """Put a summary in the place of the pieces before `first`, and of an earlier summary.

        Of that stays what `parted` says: what is pinned, and what a model still has to answer.

        Args:
            first: as `first_to_keep` gives it.
            seq: of the event that says so.
            running: the turn.

        """
        _, staying = parted(self.pieces[:first], running)
        self.pieces = [*staying, *(piece for piece in self.pieces[first:] if piece.kind != "summary")]
        if summary:
            self.pieces.insert(0, Piece(seq, "summary", summary))


def first_to_keep(pieces: Sequence[Piece], from_seq: int, *, open_answer: bool) -> int:
    """The index of the first piece that stays if those from an event on are to stay; it may be the number of pieces.

    Args:
        open_answer: whether the last answer is still being worked on: calls without results, or a pause.

    """
    later = (index for index, piece in enumerate(pieces) if piece.seq >= from_seq and piece.kind != "summary")
    first = next(later, len(pieces))
    if open_answer:
        answers = [index for index, piece in enumerate(pieces) if piece.kind == "answer"]
        first = min([first, *answers[-1:]])
    while 0 < first < len(pieces) and pieces[first].kind == "results":
        first -= 1
    return first


def call_ids(pieces: Sequence[Piece]) -> set[str]:
    """Of all calls of tools that answers among these have made."""
    return {
        str(block["id"])
        for piece in pieces
        if piece.kind == "answer"
        for block in piece.content
        if block.get("type") == "tool_use"
    }


def text_block(text: str) -> Block:
    """A text as the API has it."""
    return {"type": "text", "text": text}


def parted(pieces: Sequence[Piece], running: str | None) -> tuple[Sequence[Piece], Sequence[Piece]]:
    """What goes of pieces that are to be cut, and what stays of them whatever is cut.

    That is what the user has said in the turn that runs, and what is pinned, the latest first, within its bound: what
    stays for ever must leave a window room for the rest. Documents of pinned messages are named only.
    """
    staying: dict[int, Piece] = {}
    room_bytes = MAX_PINNED_BYTES
    for index in range(len(pieces) - 1, -1, -1):
        piece = pieces[index]
        if piece.kind != "said":
            continue
        if running is not None and piece.turn == running:
            staying[index] = piece
        elif piece.pinned:
            short = replace(piece, content=[_named(block) for block in piece.content])
            size_bytes = sum(map(_size_bytes, short.content))
            if size_bytes <= room_bytes:
                room_bytes -= size_bytes
                staying[index] = short
    gone = [piece for index, piece in enumerate(pieces) if index not in staying]
    return gone, [staying[index] for index in sorted(staying)]


def _named(block: Block) -> Block:
    return not_sent(block) if block.get("type") == "document" else block


def _size_bytes(block: Block) -> int:
    if block.get("type") == "image":
        return _IMAGE_BYTES
    return len(str(block.get("text", "")).encode("utf-8", "replace"))


def _gives_other(block: Block, files: Collection[str]) -> bool:
    return block.get("type") == "container_upload" and block["file_id"] not in files
