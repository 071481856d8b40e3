"""Events: what a conversation did, numbered from 1 without gaps, as stored and as sent.

Numbers. Every event of a session has a `seq`. A block that the model is still writing reserves the
number of its merged event when it begins; its live deltas carry that number and `offset`, the count
of code points of the block delivered *including* this delta. So `Position(seq, offset)` says exactly
what a reader has, and the rest can be cut out of the merged event whatever the chunks were.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["EVENT_TYPES", "TURN_ENDINGS", "Event", "Position", "utc_now"]

TURN_ENDINGS: Final = frozenset({"turn.finished", "turn.failed", "turn.cancelled", "turn.interrupted"})

EVENT_TYPES: Final = TURN_ENDINGS | {
    "turn.queued",
    "turn.started",
    "turn.steered",
    "model.delta",
    "model.message",
    "tool.started",
    "tool.output",
    "tool.finished",
    "approval.requested",
    "approval.resolved",
    "agent.session",
    "agent.chosen",
    "agent.notice",
    "file.created",
    "file.changed",
    "file.deleted",
    "skill.changed",
    "tools.changed",
    "budget.warning",
    "session.compacted",
    "session.container_lost",
    "session.forked",
    "session.imported",
    "session.paused",
    "session.reset",
    "session.restarted",
    "session.resumed",
}


# Kept, since json.dumps makes a new encoder for every call that has options.
_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ASCII_JSON: Final = json.JSONEncoder(separators=(",", ":"))


def utc_now() -> str:
    """The time now, as RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """How far a reader is: all of the events up to `seq`, or, with an offset, `offset` code points into `seq`."""

    seq: int = 0
    offset: int | None = None

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read "12" or "12.340".

        Raises:
            ValueError: for anything else, with the value in the message.

        """
        head, dot, tail = text.partition(".")
        digits = (head, tail) if dot else (head,)
        if not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in digits):
            raise ValueError(f"event position {text[:40]!r} is not a number such as 12 or 12.340")
        return cls(int(head), int(tail) if dot else None)

    def __str__(self) -> str:
        return str(self.seq) if self.offset is None else f"{self.seq}.{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened in a session. `data` is JSON-ready; `time` is RFC 3339 UTC with milliseconds."""

    seq: int
    type: str
    time: str
    session: str
    turn: str | None
    data: Mapping[str, Any]
    offset: int | None = None  # only on live or resumed deltas

    @property
    def position(self) -> Position:
        return Position(self.seq, self.offset)

    def to_dict(self) -> dict[str, Any]:
        """The wire form: seq, type, time, session, turn, data."""
        return {
            "seq": self.seq,
            "type": self.type,
            "time": self.time,
            "session": self.session,
            "turn": self.turn,
            "data": dict(self.data),
        }

    def to_json(self) -> str:
        """The wire form as one line of JSON. Lone surrogates, which models do write, are escaped."""
        value = self.to_dict()
        line = _JSON.encode(value)
        if line.isascii():
            return line
        try:
            line.encode()
        except UnicodeEncodeError:
            return _ASCII_JSON.encode(value)
        return line
