"""Events as a client sees them, and how to follow them over a connection that may drop.

A position is "12" (all events up to 12) or "12.340" (340 code points into event 12, which is a block the model was
still writing). Positions are ordered; "12" comes after every "12.N".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from skilld.client.errors import ProtocolError, SkilldError

__all__ = ["TURN_ENDINGS", "Cursor", "Event", "SseDecoder"]

TURN_ENDINGS: Final = frozenset({"turn.finished", "turn.failed", "turn.cancelled", "turn.interrupted"})

_MAX_EVENT_BYTES: Final = 64 * 1024 * 1024
_PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened in a session.

    Args:
        seq: its number in the session, from 1.
        time: RFC 3339, UTC, milliseconds.
        turn: the turn it belongs to, if any.
        data: what happened; keys depend on `type`.
        offset: for a piece of a block that is still being written, the code points of the block up to and
            including this piece; else None.
        owner_uid: of an event of the workshop, whose it is; else None.

    """

    seq: int
    type: str
    time: str
    session: str
    turn: str | None
    data: Mapping[str, Any]
    offset: int | None = None
    owner_uid: int | None = None

    @property
    def position(self) -> str:
        """What to give as `after` in order to read on behind this event."""
        return str(self.seq) if self.offset is None else f"{self.seq}.{self.offset}"

    @property
    def is_ending(self) -> bool:
        """Whether this ends its turn. Every turn ends with exactly one such event."""
        return self.type in TURN_ENDINGS

    def to_dict(self) -> dict[str, Any]:
        """The object the daemon sent."""
        return {
            "seq": self.seq,
            "type": self.type,
            "time": self.time,
            "session": self.session,
            "turn": self.turn,
            **({} if self.owner_uid is None else {"owner_uid": self.owner_uid}),
            "data": dict(self.data),
        }

    def to_json(self) -> str:
        """The object the daemon sent, as one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_wire(cls, body: str, position: str | None = None) -> Event:
        """Read the daemon's JSON; `position` is the id of the server-sent event.

        Raises:
            ProtocolError: if it is not an event.
            SkilldError: if the daemon sent an error in the event's place.

        """
        value = _object(body)
        if "error" in value and "seq" not in value:
            raise error_from(value, None)
        try:
            return cls(
                seq=int(value["seq"]),
                type=str(value["type"]),
                time=str(value["time"]),
                session=str(value["session"]),
                turn=value["turn"],
                data=value["data"],
                offset=order_of(position)[1] if position and "." in position else None,
                owner_uid=value.get("owner_uid"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"the daemon sent an event that is none ({error!r}): {body[:200]}") from error


def _object(body: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise ProtocolError(f"the daemon sent an event that is not JSON: {body[:200]}") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"the daemon sent an event that is not a JSON object: {body[:200]}")
    return value


def error_from(value: Mapping[str, Any], status: int | None, retry_after_s: float | None = None) -> SkilldError:
    """The error in a body of the daemon's form {"error": {...}}."""
    error = value.get("error")
    if not isinstance(error, dict):
        return ProtocolError(f"the daemon answered {status} without saying why")
    details = error.get("details")
    return SkilldError(
        str(error.get("code", "internal")),
        str(error.get("message", "no message")),
        retryable=bool(error.get("retryable", False)),
        status=status,
        details=details if isinstance(details, dict) else None,
        retry_after_s=retry_after_s,
    )


def order_of(position: str) -> tuple[int, int]:
    """A position as something that can be compared; a missing offset is behind every offset.

    Raises:
        ValueError: if it is not such as "12" or "12.340".

    """
    head, dot, tail = position.partition(".")
    digits = (head, tail) if dot else (head,)
    if not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in digits):
        raise ValueError(f"event position {position[:40]!r} is not a number such as 12 or 12.340")
    return int(head), int(tail) if dot else _WHOLE


_WHOLE: Final = 10**18  # longer than any block


class SseDecoder:
    """Bytes of an event stream in, events out. Comments (keep-alives) and unknown fields are passed over."""

    def __init__(self) -> None:
        self._tail = b""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Events that are complete with `chunk`.

        Raises:
            ProtocolError: for what is not an event stream of skilld, or an event of more than 64 MiB.

        """
        *lines, self._tail = (self._tail + chunk).split(b"\n")
        if len(self._tail) > _MAX_EVENT_BYTES:
            raise ProtocolError(f"the daemon sent an event of more than {_MAX_EVENT_BYTES} bytes")
        for line in lines:
            event = self._line(line)
            if event is not None:
                yield event

    def _line(self, line: bytes) -> Event | None:
        text = line.decode("utf-8", "replace").removesuffix("\r")
        if not text:
            return self._dispatch()
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        return None

    def _dispatch(self) -> Event | None:
        data, self._data = self._data, []
        position, self._id = self._id, None
        return Event.from_wire("\n".join(data), position) if data else None


class Cursor:
    """How far a follower has come, which events are news to it, and how long to wait before it connects again.

    Args:
        after: start behind this position.
        turn: take only this turn's events and stop behind its ending; None takes all, for ever.
        patience_s: for how long to try, in seconds, once a connection that worked is lost.

    Raises:
        ValueError: if `after` is not a position.

    """

    def __init__(self, after: int | str, turn: str | None, patience_s: float) -> None:
        self.position = str(after)
        self.done = False
        self._order = order_of(self.position)
        self._turn = turn
        self._patience_s = patience_s
        self._attempts: int | None = None  # None until a connection has worked
        self._lost_at_s = math.inf

    def connected(self) -> None:
        """The daemon has accepted the request."""
        self._lost_at_s = math.inf
        if self._attempts is None:
            self._attempts = 0

    def take(self, event: Event) -> bool:
        """Go on to `event`; False if it is not for this follower, or was seen before."""
        order = order_of(event.position)
        if order <= self._order:
            return False
        self._order, self.position = order, event.position
        self._attempts = 0
        if self._turn is not None and event.turn != self._turn:
            return False
        self.done = self._turn is not None and event.is_ending
        return True

    def pause_s(self, error: SkilldError | None, now_s: float) -> float:
        """Seconds to wait before the next connection, after `error` or a stream that simply ended (None).

        Raises:
            SkilldError: `error`, if it is final, came at the first attempt, or patience is over.

        """
        if error is not None and (self._attempts is None or not error.retryable):
            raise error
        self._lost_at_s = min(self._lost_at_s, now_s)
        if error is not None and now_s - self._lost_at_s >= self._patience_s:
            raise error
        attempt = self._attempts or 0
        self._attempts = attempt + 1
        asked = (error.retry_after_s if error is not None else None) or 0.0
        return max(asked, _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
