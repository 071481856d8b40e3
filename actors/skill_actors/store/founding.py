"""A session that is stored together with its history: made from another one, or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import apsw

from skill_actors.sessions.events import Event
from skill_actors.store.base import Append, SessionRecord, TurnRecord
from skill_actors.store.changes import AppendWrite, CreateWrite, Outcome

__all__ = ["FoundWrite"]


class FoundWrite:
    """A new session, its events and its turns, all or nothing.

    Encoding thousands of events takes a while: make it in a worker thread.

    Raises: as CreateWrite.of and AppendWrite do.
    """

    __slots__ = ("_append", "_create", "size_bytes")

    def __init__(self, record: SessionRecord, events: Sequence[Event], turns: Sequence[TurnRecord]) -> None:
        self._create = CreateWrite.of(replace(record, last_seq=0))
        self._append = AppendWrite(
            Append(
                session=record.id,
                expected_last_seq=0,
                last_seq=record.last_seq,
                fence=record.fence,
                events=events,
                turns=turns,
            )
        )
        self.size_bytes = self._create.size_bytes + self._append.size_bytes

    @property
    def opens_work(self) -> bool:
        return True

    def apply(self, db: apsw.Connection, now: str) -> Outcome:
        outcome = self._create.apply(db, now)
        return self._append.apply(db, now) if outcome is True else outcome
