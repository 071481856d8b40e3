"""What a summary is to stand for, and what stays word for word. Pure.

The latest pieces stay, as many as fit into what is allowed. Whatever that is: results that no answer of the model has
followed yet stay with their calls, and messages that are pinned, or that the model still has to answer, stay as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from skill_actors.sessions.compaction.sizes import tokens_of
from skill_actors.sessions.dialogue import Piece, first_to_keep, parted

__all__ = ["MIN_TOKENS", "Plan", "plan_compaction"]

MIN_TOKENS: Final = 100  # less is never worth a summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do.

    Args:
        replaced: pieces that go, the first first; among them may be an earlier summary.
        kept_from_seq: events from this number on stay as they are; None if none does.
        tokens: roughly, of what goes.

    """

    replaced: Sequence[Piece]
    kept_from_seq: int | None
    tokens: int


def plan_compaction(
    pieces: Sequence[Piece], *, running: str | None, open_answer: bool, keep_tokens: int, min_tokens: int = MIN_TOKENS
) -> Plan | None:
    """What is to go; None if there is too little of it.

    Args:
        running: the turn that runs.
        open_answer: see `first_to_keep`.
        keep_tokens: how much stays, roughly.
        min_tokens: how much has to go, besides an earlier summary, to be worth a further one.

    """
    if not pieces:
        return None
    first = min(_first_that_fits(pieces, keep_tokens), _first_unread(pieces))
    from_seq = pieces[first].seq if first < len(pieces) else pieces[-1].seq + 1
    first = first_to_keep(pieces, from_seq, open_answer=open_answer)
    replaced, _ = parted(pieces[:first], running)
    fresh = tokens_of(piece for piece in replaced if piece.kind != "summary")
    if fresh < min_tokens:
        return None
    kept_from_seq = pieces[first].seq if first < len(pieces) else None
    return Plan(replaced=replaced, kept_from_seq=kept_from_seq, tokens=tokens_of(replaced))


def _first_that_fits(pieces: Sequence[Piece], keep_tokens: int) -> int:
    used = 0
    for index in range(len(pieces) - 1, -1, -1):
        used += tokens_of(pieces[index : index + 1])
        if used > keep_tokens:
            return index + 1
    return 0


def _first_unread(pieces: Sequence[Piece]) -> int:
    """The last answer, if results follow it; else the end."""
    for index in range(len(pieces) - 1, -1, -1):
        if pieces[index].kind == "answer":
            unread = any(piece.kind == "results" for piece in pieces[index + 1 :])
            return index if unread else len(pieces)
    return len(pieces)
