"""What a store of documents promises, whatever holds it.

A document is a value under a kind and an id, with a version that goes up by one with each change. Changes of several
documents and the events that tell of them are one transaction: all of it or nothing. Events have one number line for
all owners, without gaps; the oldest may be forgotten, and their numbers are never given out again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from skill_actors.store.base import StoreError

__all__ = [
    "MAX_CHANGES",
    "MAX_DOCUMENT_BYTES",
    "MAX_EVENT_BYTES",
    "Applied",
    "Change",
    "Counted",
    "Document",
    "DocumentConflict",
    "DocumentDamaged",
    "DocumentHead",
    "DocumentStore",
    "DocumentTooLarge",
    "DocumentsFull",
    "NewEvent",
    "Room",
    "WorkshopEvent",
]

MAX_DOCUMENT_BYTES: Final = 1 << 20  # of its data as JSON in UTF-8
MAX_EVENT_BYTES: Final = 64 << 10
MAX_CHANGES: Final = 1_000  # of one transaction, and as many events


class DocumentConflict(StoreError):
    """A document is not at the version that the change was made for: read it again.

    Args:
        expected: 0 where it was not to exist.
        found: 0 where it does not exist.

    """

    def __init__(self, kind: str, id: str, expected: int, found: int) -> None:
        wanted = f"at version {expected}" if expected else "not to exist"
        is_ = f"is at version {found}" if found else "does not exist"
        super().__init__(f"{kind} {id} {is_}; it was expected {wanted}: read it again")
        self.kind = kind
        self.id = id
        self.expected = expected
        self.found = found


class DocumentTooLarge(StoreError):
    """The data of a document or event takes more bytes than one may."""


class DocumentsFull(StoreError):
    """An owner may have no more documents of a kind, or no more bytes in them."""


class DocumentDamaged(StoreError):
    """What is stored of a document or event does not match its checksum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document as stored.

    Args:
        id: `OWNER_UID/NAME`, so that owners never meet.
        version: 1 for a new one.
        data: JSON-ready; the store does not look inside.
        expires: RFC 3339 UTC with milliseconds. From then on it does not exist for changes; reads still find it.
        size_bytes: of the data as JSON.

    """

    kind: str
    id: str
    version: int
    created: str
    updated: str
    owner_uid: int
    data: Mapping[str, Any]
    expires: str | None = None
    size_bytes: int = 0

    @property
    def name(self) -> str:
        """The id without its owner."""
        return self.id.partition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentHead:
    """A document without its data. `size_bytes`: what that takes."""

    kind: str
    id: str
    version: int
    created: str
    updated: str
    owner_uid: int
    size_bytes: int
    expires: str | None = None

    @property
    def name(self) -> str:
        """The id without its owner."""
        return self.id.partition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of one document.

    Args:
        id: `OWNER_UID/NAME` of `owner_uid`.
        expected: the version it must be at; 0: it must not exist; None: whatever.
        data: what it holds from now on; None removes it.
        expires: as in Document.

    """

    kind: str
    id: str
    owner_uid: int
    data: Mapping[str, Any] | None
    expected: int | None
    expires: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much an owner may have of a kind. A change that takes more is refused, one that takes less never is."""

    kind: str
    owner_uid: int
    documents: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Counted:
    """How much an owner has of a kind, expired ones included until they are removed."""

    documents: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event that has no number yet. `data`: JSON-ready."""

    owner_uid: int
    topic: str
    name: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkshopEvent:
    """An event as stored. `time`: RFC 3339 UTC with milliseconds."""

    seq: int
    time: str
    owner_uid: int
    topic: str
    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a transaction made.

    Args:
        documents: as they are now, in the order of their changes, without those that were removed.
        removed: how many there were to remove.
        events: with their numbers, in the order they were given.

    """

    documents: Sequence[Document] = ()
    removed: int = 0
    events: Sequence[WorkshopEvent] = ()


class DocumentStore(Protocol):
    """The store of documents. All methods are called on the trio thread and none blocks it."""

    async def get(self, kind: str, id: str) -> Document | None:
        """Raises DocumentDamaged, JournalClosed."""

    async def list(
        self, kind: str, *, owner_uid: int | None = None, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[Document]:
        """Those whose id begins with `prefix` and comes behind `after`, by id; of one owner, or all.

        There may be fewer than `limit` before the end where they are large: the end is an empty answer. Damaged ones
        are left out and logged.
        """

    async def heads(
        self, kind: str, *, owner_uid: int | None = None, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[DocumentHead]:
        """As `list`, without reading their data."""

    async def expired(self, kind: str, *, now: str, limit: int = 1000) -> Sequence[DocumentHead]:
        """Those whose `expires` is not later than `now`, oldest first."""

    async def count(self, kind: str, owner_uid: int) -> Counted: ...

    async def apply(
        self,
        changes: Sequence[Change],
        events: Sequence[NewEvent] = (),
        *,
        opens_work: bool | None = None,
        room: Sequence[Room] = (),
    ) -> Applied:
        """Apply all changes and store all events durably, or raise and do nothing.

        If the caller is cancelled while it waits, the change may still be applied, and its events be seen.

        Args:
            opens_work: whether it begins something new, which is refused while the disk is full so that the rest can be
                ended. None: if it may make a document, that is where `expected` is 0 or None.
            room: what owners may have at most.

        Raises:
            DocumentConflict: some document is not at the version expected.
            DocumentTooLarge: some data takes more than MAX_DOCUMENT_BYTES, or MAX_EVENT_BYTES for an event.
            DocumentsFull: there is no `room` for it.
            DocumentDamaged: what is stored cannot be believed. A change that expects nothing replaces it all the same.
            StorageFull, JournalClosed.
            ValueError, TypeError: it contradicts itself, or is not JSON-ready.

        """

    async def events(
        self,
        *,
        after: int,
        owner_uid: int | None = None,
        topics: Sequence[str] = (),
        names: Sequence[str] = (),
        limit: int = 1000,
        newest: bool = False,
    ) -> Sequence[WorkshopEvent]:
        """Events behind a number, in their order; of one owner, some topics and some names, or of all.

        Args:
            topics: one that ends with `*` stands for all that begin so.
            limit: the first so many, or with `newest` the last. Damaged ones are left out and logged.

        Raises: DocumentDamaged, JournalClosed.
        """

    async def last_event(self) -> int:
        """The highest number given out; 0 without any."""

    async def first_event(self) -> int:
        """The lowest number that is not forgotten; `last_event() + 1` where all are."""

    def listen(self, heard: Callable[[Sequence[WorkshopEvent]], None]) -> None:
        """Call `heard` with the events of each transaction as soon as it is durable, and nobody else any more.

        Called on the trio thread, in the order of their numbers. It must not raise.
        """

    async def forget_events(self, before: str) -> int:
        """Remove the oldest events up to the first that is not older than this time; how many."""

    async def verify(self) -> Sequence[str]:
        """Read everything and compare it with its checksums and counts; what is wrong, in words.

        Counts that are wrong are made anew, so that each loss is told once.
        """
