"""What a conversation made from another one is: its events, cut between turns, under new names. Pure.

A fork and an import both end here. Turns are named anew (a turn's id is unique in a store) and events are numbered
from 1 without gaps; what belongs to a turn that had not ended is left out, so that nothing of it can ever run twice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from skill_actors.ids import new_id
from skill_actors.sessions.events import TURN_ENDINGS, Event
from skill_actors.store.base import TurnRecord, TurnStatus

__all__ = ["Branch", "branch_of", "first_title", "turn_order_fault"]

_TITLE_CHARS: Final = 60

_STATUS: Final[Mapping[str, TurnStatus]] = {
    "turn.finished": "finished",
    "turn.failed": "failed",
    "turn.cancelled": "cancelled",
    "turn.interrupted": "interrupted",
}


@dataclass(frozen=True, slots=True)
class Branch:
    """Events and turns of a session that is about to be stored, and how far the original was followed."""

    events: Sequence[Event]
    turns: Sequence[TurnRecord]
    through: int  # the number, in the original, of the last event that was taken over; 0 if none was

    def with_note(self, type: str, session: str, time: str, data: Mapping[str, Any]) -> Branch:
        """The same with one more event, which belongs to no turn, at the end."""
        note = Event(seq=len(self.events) + 1, type=type, time=time, session=session, turn=None, data=data)
        return replace(self, events=(*self.events, note))


def branch_of(events: Sequence[Event], session: str, *, after: int | None = None) -> Branch:
    """What a new session takes over of these events.

    Args:
        events: all of the original's stored events up to `after`, ascending.
        session: the new session's id.
        after: leave out what came later; a turn that had not ended by then is left out whole. None: all there is.

    """
    seen = [event for event in events if after is None or event.seq <= after]
    names = {event.turn: new_id("trn") for event in seen if event.turn is not None and event.type in TURN_ENDINGS}
    kept = [event for event in seen if event.turn is None or event.turn in names]
    numbers = [event.seq for event in kept]
    renamed = [
        replace(
            event,
            seq=seq,
            session=session,
            turn=names[event.turn] if event.turn else None,
            data=_renumbered(event.data, numbers),
            offset=None,
        )
        for seq, event in enumerate(kept, 1)
    ]
    return Branch(renamed, _turns_of(renamed), kept[-1].seq if kept else 0)


def _renumbered(data: Mapping[str, Any], numbers: Sequence[int]) -> Mapping[str, Any]:
    """The data with the new numbers of events that it names by number.

    Args:
        numbers: the old ones of all events that stay, ascending; the new ones count from 1.

    """
    changed: dict[str, Any] = {}
    if isinstance(first := data.get("kept_from_seq"), int):  # this one, or the next that stays
        changed["kept_from_seq"] = bisect_left(numbers, first) + 1
    if isinstance(last := data.get("seen_seq"), int):  # this one, or the one before that stays
        changed["seen_seq"] = bisect_right(numbers, last)
    return {**data, **changed} if changed else data


def _turns_of(events: Sequence[Event]) -> list[TurnRecord]:
    """The turns that these events tell of; each begins with turn.queued and ends. Their keys are not taken over."""
    turns: dict[str, TurnRecord] = {}
    for event in events:
        if event.turn is None:
            continue
        if event.type == "turn.queued":
            turns[event.turn] = TurnRecord(
                id=event.turn,
                session=event.session,
                seq=event.seq,
                status="queued",
                created=event.time,
                updated=event.time,
            )
        elif event.type in TURN_ENDINGS:
            queued = turns[event.turn]
            status = _STATUS[event.type]
            turns[event.turn] = replace(queued, status=status, updated=event.time, result=event.data)
    return list(turns.values())


def turn_order_fault(event: Event, stages: dict[str, str], running: str | None) -> str | None:
    """Why this cannot be the next event, in words, given what each turn has come to; None if it can be.

    Args:
        stages: the last of turn.queued, turn.started and the endings of each turn so far.
        running: the turn that has begun and not ended, if there is one.

    """
    if event.type.startswith("file."):  # also of what a client did, with a message or beside all turns
        known = event.turn is None or event.turn in stages
        return None if known else f"turn {event.turn} has not been queued by then"
    if event.turn is None:
        return None if event.type.startswith("session.") else f"a {event.type} event belongs to a turn, and names none"
    if event.type.startswith("session.") and event.type != "session.compacted":
        return f"a {event.type} event belongs to no turn"
    stage = stages.get(event.turn)
    if event.type == "turn.queued":
        return None if stage is None else f"turn {event.turn} was queued before"
    if stage is None:
        return f"turn {event.turn} has not been queued by then"
    if stage in TURN_ENDINGS:
        return f"turn {event.turn} has ended by then"
    if event.type == "turn.started":
        return None if stage == "turn.queued" and running is None else "a turn begins while one runs"
    if stage == "turn.queued" and event.type not in TURN_ENDINGS:
        return f"turn {event.turn} has not begun by then"
    return None


def first_title(text: str, files: Sequence[str]) -> str:
    """A title for a conversation that was given none, from its first message: its first line, at most 60 characters."""
    words = " ".join((text.strip().splitlines() or [""])[0].split()) or ", ".join(files)
    shown = "".join(char for char in words if char.isprintable())
    return shown if len(shown) <= _TITLE_CHARS else f"{shown[: _TITLE_CHARS - 1].rstrip()}…"
