"""Where conversations are kept: the contract (`base`) and the journal on SQLite."""

from skill_actors.store.base import (
    Append,
    ApprovalPage,
    ApprovalRecord,
    ApprovalStatus,
    Fenced,
    Journal,
    JournalClosed,
    Page,
    SequenceConflict,
    SessionFull,
    SessionMissing,
    SessionRecord,
    StateTooNew,
    StorageFull,
    StoreError,
    TurnRecord,
    TurnStatus,
)
from skill_actors.store.commit import JournalStats
from skill_actors.store.faults import DamagedRow
from skill_actors.store.lock import StateLock, StateLocked
from skill_actors.store.sqlite import SqliteJournal

__all__ = [
    "Append",
    "ApprovalPage",
    "ApprovalRecord",
    "ApprovalStatus",
    "DamagedRow",
    "Fenced",
    "Journal",
    "JournalClosed",
    "JournalStats",
    "Page",
    "SequenceConflict",
    "SessionFull",
    "SessionMissing",
    "SessionRecord",
    "SqliteJournal",
    "StateLock",
    "StateLocked",
    "StateTooNew",
    "StorageFull",
    "StoreError",
    "TurnRecord",
    "TurnStatus",
]
