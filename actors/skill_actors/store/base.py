"""What a store of conversations promises, whatever holds it.

Every append names the session, the sequence number its writer believes to be the last, and a fencing
token (constant on one host). Acknowledged means durable: when `append` returns, a power cut loses nothing
of it. Readers follow by cursor. Nothing but the store is shared between daemons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from skill_actors.sessions.events import Event

if TYPE_CHECKING:
    from skill_actors.store.choice import SessionChoice

__all__ = [
    "Append",
    "ApprovalPage",
    "ApprovalRecord",
    "ApprovalStatus",
    "Fenced",
    "Journal",
    "JournalClosed",
    "Page",
    "SequenceConflict",
    "SessionExists",
    "SessionFull",
    "SessionMissing",
    "SessionRecord",
    "StateTooNew",
    "StorageFull",
    "StoreError",
    "TurnRecord",
    "TurnStatus",
]

TurnStatus = Literal["queued", "running", "finished", "failed", "cancelled", "interrupted"]
ApprovalStatus = Literal["pending", "allowed", "denied", "expired", "cancelled"]


class StoreError(Exception):
    """Base of everything a store raises.

    StoreError
     +-- SessionMissing    no such session (never was, or was deleted)
     +-- SequenceConflict  somebody else appended first: read again
     +-- Fenced            another daemon holds this session now
     +-- SessionFull       the session has reached the bound of its events or bytes
     +-- StorageFull       nothing was written; reads still work; try again when there is room
     +-- StateTooNew       a newer program wrote this state
     +-- JournalClosed     the store is shutting down
    """


class SessionMissing(StoreError):
    """The session does not exist."""


class SessionExists(ValueError):
    """A session has this id, or one that had it was deleted and its events are still being removed."""


class SequenceConflict(StoreError):
    """The expected last sequence number is not the stored one."""


class Fenced(StoreError):
    """The fencing token is older than the stored one."""


class SessionFull(StoreError):
    """The session may grow no further: it takes no more messages."""


class StorageFull(StoreError):
    """The disk is full: the append was not written, not even in part."""


class StateTooNew(StoreError):
    """The state on disk has a newer schema than this program knows."""


class JournalClosed(StoreError):
    """The store takes no more appends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A conversation as stored.

    Args:
        settings: JSON-ready choices made at creation or by PATCH: title, system, model, backends, skills, limits,
            budget, policy, labels, cwd, on_disconnect. The store does not look inside.
        totals: JSON-ready running sums: turns, usage, cost_usd. The store does not look inside.
        last_seq: highest number given out, also if it is only reserved.

    """

    id: str
    owner_uid: int
    created: str
    updated: str
    last_seq: int = 0
    fence: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    totals: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """A turn as stored. `seq` is that of its turn.queued event; `result` is the ending event's data, else None."""

    id: str
    session: str
    seq: int
    status: TurnStatus
    created: str
    updated: str
    idempotency_key: str | None = None
    digest: str | None = None  # sha256 of the request's content: tells a retry from a conflict
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRecord:
    """A question to a person, as stored.

    Args:
        call: id of the tool call it is about.
        expires: until when it may be answered.
        request: JSON-ready, what was asked. The store does not look inside.
        decision: likewise, how it was answered; None while it is pending.

    """

    id: str
    session: str
    turn: str
    call: str
    owner_uid: int
    status: ApprovalStatus
    created: str
    expires: str
    updated: str
    request: Mapping[str, Any]
    decision: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """One atomic change of one session.

    Args:
        expected_last_seq: what the writer believes `SessionRecord.last_seq` to be.
        last_seq: what it becomes; at least `expected_last_seq`. More than the events need reserves numbers.
        events: to store; each `seq` is at most `last_seq` and not stored yet.
        turns, approvals: inserted, or replaced by id.
        settings, totals: replace the stored ones where given.

    """

    session: str
    expected_last_seq: int
    last_seq: int
    fence: int = 0
    events: Sequence[Event] = ()
    turns: Sequence[TurnRecord] = ()
    approvals: Sequence[ApprovalRecord] = ()
    settings: Mapping[str, Any] | None = None
    totals: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some sessions, newest `updated` first, and the cursor of the next page (None at the end)."""

    items: Sequence[SessionRecord]
    next: str | None


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """Some approvals, newest first, and the cursor of the next page (None at the end)."""

    items: Sequence[ApprovalRecord]
    next: str | None


class Journal(Protocol):
    """The store of conversations. All methods are called on the trio thread and none blocks it."""

    async def create_session(
        self, record: SessionRecord, *, events: Sequence[Event] = (), turns: Sequence[TurnRecord] = ()
    ) -> None:
        """Store a new session durably, with its history if it has one already: all of it or nothing.

        Raises: StorageFull, JournalClosed; ValueError if the id, or that of a turn, exists.
        """

    async def append(self, change: Append) -> None:
        """Apply `change` whole and durably, or raise and apply nothing.

        Appends of one session are applied in the order of the calls. If the caller is cancelled while it waits,
        the change may still be applied (its place in the queue is already taken).

        Raises: SessionMissing, SequenceConflict, Fenced, StorageFull, JournalClosed.
        """

    async def delete_session(self, session: str) -> bool:
        """Remove a session with its turns, events and approvals; False if there was none."""

    async def get_session(self, session: str) -> SessionRecord | None: ...

    async def open_session(self, session: str) -> SessionRecord | None:
        """As `get_session`, for whoever is about to go on with it: also checks that no turn or event is missing."""

    async def list_sessions(
        self,
        *,
        owner_uid: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
        choice: SessionChoice | None = None,
    ) -> Page:
        """Newest first; of one owner, or of all with None. Raises ValueError on a cursor that is not ours.

        With a choice, a page may hold fewer than `limit` and still have a next one: so many are looked at in one go.
        """

    async def session_ids(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Ids behind `after` in their own order, also of sessions that cannot be read."""

    async def count_sessions(self) -> int: ...

    async def get_turn(self, turn: str) -> TurnRecord | None: ...

    async def find_turn(self, session: str, idempotency_key: str) -> TurnRecord | None: ...

    async def list_turns(self, session: str) -> Sequence[TurnRecord]:
        """All turns of a session in the order of their messages."""

    async def unfinished_turns(self) -> Sequence[TurnRecord]:
        """Turns stored as queued or running, of all sessions, oldest first: what a restart must look at."""

    async def read_events(
        self, session: str, *, after: int = 0, through: int | None = None, limit: int = 1000
    ) -> Sequence[Event]:
        """Stored events with after < seq <= through, ascending, at most `limit`."""

    async def get_approval(self, id: str) -> ApprovalRecord | None: ...

    async def list_approvals(
        self,
        *,
        status: str | None = "pending",
        session: str | None = None,
        turn: str | None = None,
        owner_uid: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> ApprovalPage:
        """Newest first; None does not choose. Raises ValueError on a cursor that is not ours."""
