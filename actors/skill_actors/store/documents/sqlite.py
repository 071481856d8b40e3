"""Documents in the journal's file: their writes join the journal's transactions, their reads use its readers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, TypeVarTuple

import apsw
import trio

from skill_actors.store.changes import Write
from skill_actors.store.documents.base import (
    Applied,
    Change,
    Counted,
    Document,
    DocumentHead,
    DocumentStore,
    NewEvent,
    Room,
    WorkshopEvent,
)
from skill_actors.store.documents.codec import weight_of
from skill_actors.store.documents.reads import (
    count_of,
    document_of,
    documents_of,
    events_of,
    expired_of,
    faults_of,
    heads_of,
)
from skill_actors.store.documents.writes import DocumentsWrite, ForgetEventsWrite, RecountWrite, line_of
from skill_actors.store.reads import MAX_PAGE

__all__ = ["SqliteDocuments"]

_INLINE_BYTES: Final = 32 << 10  # to encode more takes longer than to ask a thread for it

_T = TypeVar("_T")
_A = TypeVarTuple("_A")


class SqliteDocuments(DocumentStore):
    """As long as the journal it belongs to.

    Args:
        write: queues a write, waits until it is durable, and calls the function given with it on the trio thread as
            soon as it is, also where nobody waits any more.
        read: calls a function with a connection, in a worker thread.

    """

    def __init__(
        self,
        write: Callable[[Write, Callable[[], None]], Awaitable[bool]],
        read: Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]],
    ) -> None:
        self._write = write
        self._read = read
        self._heard: Callable[[Sequence[WorkshopEvent]], None] = _ignore

    def listen(self, heard: Callable[[Sequence[WorkshopEvent]], None]) -> None:
        self._heard = heard

    async def get(self, kind: str, id: str) -> Document | None:
        return await self._ask(document_of, kind, id)

    async def list(
        self, kind: str, *, owner_uid: int | None = None, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[Document]:
        return await self._ask(documents_of, kind, owner_uid, prefix, after, _checked(limit))

    async def heads(
        self, kind: str, *, owner_uid: int | None = None, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[DocumentHead]:
        return await self._ask(heads_of, kind, owner_uid, prefix, after, _checked(limit))

    async def expired(self, kind: str, *, now: str, limit: int = 1000) -> Sequence[DocumentHead]:
        return await self._ask(expired_of, kind, now, _checked(limit))

    async def count(self, kind: str, owner_uid: int) -> Counted:
        return await self._ask(count_of, kind, owner_uid)

    async def apply(
        self,
        changes: Sequence[Change],
        events: Sequence[NewEvent] = (),
        *,
        opens_work: bool | None = None,
        room: Sequence[Room] = (),
    ) -> Applied:
        if not changes and not events:
            return Applied()
        if _is_small(changes, events):
            write = DocumentsWrite(changes, events, opens_work, room)
        else:
            write = await trio.to_thread.run_sync(DocumentsWrite, changes, events, opens_work, room)
        await self._write(write, lambda: self._tell(write.result.events))
        return write.result

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
        return await self._ask(events_of, after, owner_uid, tuple(topics), tuple(names), _checked(limit), newest)

    async def last_event(self) -> int:
        return (await self._ask(line_of))[1]

    async def first_event(self) -> int:
        return (await self._ask(line_of))[0]

    async def forget_events(self, before: str) -> int:
        removed = 0
        while True:  # a few at a time: others write in between
            write = ForgetEventsWrite(before)
            if not await self._write(write, _nothing):
                return removed
            removed += write.removed

    async def verify(self) -> Sequence[str]:
        faults = await self._ask(faults_of)
        if faults:
            await self._write(RecountWrite(), _nothing)
        return faults

    def _tell(self, events: Sequence[WorkshopEvent]) -> None:
        if events:
            self._heard(events)

    async def _ask(self, query: Callable[[apsw.Connection, *_A], _T], *args: *_A) -> _T:
        found: _T = await self._read(lambda db: query(db, *args))
        return found


def _is_small(changes: Sequence[Change], events: Sequence[NewEvent]) -> bool:
    left = _INLINE_BYTES
    for data in (*(change.data for change in changes), *(event.data for event in events)):
        left -= 0 if data is None else weight_of(data, left)
        if left <= 0:
            return False
    return True


def _checked(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit {limit} is outside 1..{MAX_PAGE}")
    return limit


def _ignore(events: Sequence[WorkshopEvent]) -> None:
    """Nobody listens."""


def _nothing() -> None:
    """A write that nobody needs to hear of."""
