"""Changes of a board: decided on what is in memory, written with the versions they were decided on, all or nothing.

Many may be under way at once, so that they share the disk's commits: each holds the items that it writes or relies on,
and whoever wants one of them waits and decides anew. There is no order to lock in, since all are held in one moment.
A store that knows better (another writer, a commit whose end nobody saw) refuses the write; the board is read again
then, when nothing is under way any more, and the decision made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

import trio

from skill_actors.errors import Refused
from skill_actors.store.base import StoreError
from skill_actors.store.documents import (
    Applied,
    Change,
    Document,
    DocumentConflict,
    DocumentHead,
    NewEvent,
)
from skill_actors.workshop.board.index import BoardIndex
from skill_actors.workshop.board.item import HELD, Item, item_from_dict
from skill_actors.workshop.names import document_id
from skill_actors.workshop.refusals import refusal

__all__ = ["KIND", "TOPIC", "WORKER_TOPIC", "Apply", "Boards", "Plan", "StoresItems"]

KIND: Final = "item"
TOPIC: Final = "work"
WORKER_TOPIC: Final = "board_worker"

_PAGE: Final = 1000
_TRIES: Final = 20
_MAX_EVENT_NOTE: Final = 500
_NAMES: Final[Mapping[str, str]] = {
    "new": "waiting",
    "ready": "ready",
    "claimed": "claimed",
    "in_progress": "started",
    "done": "completed",
    "failed": "failed",
    "blocked": "blocked",
    "cancelled": "cancelled",
}

_log = logging.getLogger(__name__)
T = TypeVar("T")


class StoresItems(Protocol):
    """What a board reads of the documents."""

    async def list(
        self, kind: str, *, owner_uid: int | None = None, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[Document]: ...
    async def heads(
        self, kind: str, *, owner_uid: int | None = None, prefix: str = "", after: str = "", limit: int = 1000
    ) -> Sequence[DocumentHead]: ...


Apply = Callable[[Sequence[Change], Sequence[NewEvent]], Awaitable[Applied]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Generic[T]):
    """What is to be written, and what the caller gets then.

    Args:
        puts: items as they are to be, by id.
        removed: ids of those that go.
        reads: ids of those that the decision relies on besides.
        edits: of the puts, those that are told of as edited where their state stays the same.

    """

    answer: T
    puts: Mapping[str, Item] = field(default_factory=dict)
    removed: Collection[str] = ()
    reads: Collection[str] = ()
    edits: Collection[str] = ()

    @property
    def touched(self) -> set[str]:
        """Whatever nobody else may write meanwhile."""
        return {*self.puts, *self.removed, *self.reads}


class Boards:
    """The boards of all owners.

    Args:
        items: what is stored.
        apply: writes.

    """

    def __init__(self, items: StoresItems, apply: Apply) -> None:
        self._items = items
        self._apply = apply
        self._indexes: dict[int, BoardIndex] = {}
        self._loading: dict[int, trio.Lock] = {}
        self._work: dict[int, trio.Event] = {}
        self._changed: dict[int, trio.Event] = {}
        self.leased = trio.Event()  # set, and replaced, when somebody has claimed something

    def work(self, owner_uid: int) -> trio.Event:
        """Set when an item of this owner has become ready. To be got before looking for one."""
        return self._work.setdefault(owner_uid, trio.Event())

    def changed(self, owner_uid: int) -> trio.Event:
        """Set when anything on the board has changed. To be got before looking."""
        return self._changed.setdefault(owner_uid, trio.Event())

    def loaded(self) -> Mapping[int, BoardIndex]:
        """Boards in memory, by owner."""
        return dict(self._indexes)

    async def load_all(self) -> None:
        """Read the boards of everybody who has one. Raises StoreError."""
        after = ""
        while heads := await self._items.heads(KIND, after=after, limit=1):
            await self.index(heads[0].owner_uid)
            after = f"{heads[0].owner_uid}0"  # "0" is behind "/"

    async def index(self, owner_uid: int) -> BoardIndex:
        """A board as it is stored. Raises StoreError."""
        index = self._indexes.get(owner_uid)
        if index is not None and not index.stale:
            return index
        async with self._loading.setdefault(owner_uid, trio.Lock()):
            index = self._indexes.get(owner_uid)
            if index is None or index.stale:
                index = self._indexes[owner_uid] = await self._load(owner_uid, index)
                self._tell(owner_uid, work=True)
                self._tell_leased()
            return index

    async def _load(self, owner_uid: int, before: BoardIndex | None) -> BoardIndex:
        while before is not None and before.busy:
            await before.wait_freed()
        index, after = BoardIndex(), ""
        while documents := await self._items.list(
            KIND, owner_uid=owner_uid, prefix=f"{owner_uid}/", after=after, limit=_PAGE
        ):
            for document in documents:
                self._take_over(index, document)
            after = documents[-1].id
        return index

    def _take_over(self, index: BoardIndex, document: Document) -> None:
        try:
            item = item_from_dict(document.data)
        except (KeyError, TypeError, ValueError) as error:
            _log.error("the stored item %s cannot be read and is left alone: %r", document.id, error)
            return
        index.put(item, document.version, now=trio.current_time())

    async def change(self, owner_uid: int, plan: Callable[[BoardIndex], Plan[T]]) -> T:
        """Decide and write.

        Args:
            plan: pure, and asked again whenever what it has decided on is not so any more.

        Raises: Refused: what `plan` raises; storage_full, draining, too_large; conflict where others always come first.

        """
        for _ in range(_TRIES):
            index = await self.index(owner_uid)
            planned = plan(index)
            while not index.stale and index.busy & planned.touched:
                await index.wait_freed()
                if not index.stale:
                    planned = plan(index)
            if index.stale:
                continue
            if not planned.puts and not planned.removed:
                return planned.answer
            if await self._write(owner_uid, index, planned):
                return planned.answer
        raise Refused("conflict", "others always changed the same items at the same time; try again")

    async def _write(self, owner_uid: int, index: BoardIndex, planned: Plan[Any]) -> bool:
        """Whether it was written: False if the store knew better."""
        held = planned.touched
        changes, events = _changes(owner_uid, index, planned), _events(owner_uid, index, planned)
        index.hold(held)
        try:
            with trio.CancelScope(shield=True):  # it cannot be taken back, and what it did must be known
                applied = await self._apply(changes, events)
            self._took(index, planned, applied)
        except DocumentConflict:
            index.stale = True
            return False
        except StoreError as error:
            index.stale = True
            raise refusal(error) from error
        except BaseException:
            index.stale = True
            raise
        finally:
            index.free(held)
            # Also where it was ready before: nobody could take it while it was held.
            self._tell(owner_uid, work=any(index.is_ready(id) for id in held))
        if any(item.lease is not None for item in planned.puts.values()):
            self._tell_leased()
        return True

    def _took(self, index: BoardIndex, planned: Plan[Any], applied: Applied) -> None:
        now = trio.current_time()
        for document in applied.documents:
            index.put(planned.puts[document.name], document.version, now=now)
        for id in planned.removed:
            index.remove(id)

    def _tell(self, owner_uid: int, *, work: bool) -> None:
        for events, wanted in ((self._changed, True), (self._work, work)):
            if wanted and (event := events.pop(owner_uid, None)) is not None:
                event.set()

    def _tell_leased(self) -> None:
        leased, self.leased = self.leased, trio.Event()
        leased.set()


def _changes(owner_uid: int, index: BoardIndex, planned: Plan[Any]) -> Sequence[Change]:
    puts = [
        Change(
            kind=KIND,
            id=document_id(owner_uid, item.id),
            expected=index.version(item.id),
            data=item.to_dict(),
            owner_uid=owner_uid,
        )
        for item in planned.puts.values()
    ]
    gone = [
        Change(kind=KIND, id=document_id(owner_uid, id), expected=index.version(id), data=None, owner_uid=owner_uid)
        for id in planned.removed
    ]
    return [*puts, *gone]


def _events(owner_uid: int, index: BoardIndex, planned: Plan[Any]) -> Sequence[NewEvent]:
    told = [
        (topic, name, item)
        for item in planned.puts.values()
        for topic, name in _names_of(index.get(item.id), item, edited=item.id in planned.edits)
    ]
    gone = [(TOPIC, "removed", item) for id in planned.removed if (item := index.get(id)) is not None]
    return [
        NewEvent(owner_uid=owner_uid, topic=topic, name=name, data=_told(item)) for topic, name, item in (*told, *gone)
    ]


def _names_of(before: Item | None, after: Item, *, edited: bool) -> Iterator[tuple[str, str]]:
    """Topic and name of what happened to an item."""
    if before is None:
        yield TOPIC, "added"
    elif before.status != after.status:
        yield TOPIC, "requeued" if before.status in HELD and after.status == "ready" else _NAMES[after.status]
        if after.status == "in_progress" and after.lease is not None and after.lease.worker:
            yield WORKER_TOPIC, "started"
        elif before.status == "in_progress" and before.lease is not None and before.lease.worker:
            yield WORKER_TOPIC, "completed"
    elif edited:
        yield TOPIC, "edited"


def _told(item: Item) -> dict[str, Any]:
    facts: dict[str, Any] = {"item": item.id, "type": item.type, "status": item.status, "attempt": item.attempts}
    if item.turn is not None:
        facts["turn"] = item.turn
    if item.lease is not None:
        facts["holder"] = item.lease.holder
    if item.error is not None and item.status in ("ready", "failed", "cancelled"):
        facts["error"] = item.error[:_MAX_EVENT_NOTE]
    return facts
