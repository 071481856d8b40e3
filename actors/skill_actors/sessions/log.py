"""One session's event log while the session is in use: numbers, durability, and readers that follow.

Rules.
- One append at a time per session. Numbers are given under the lock and taken back if the append fails, so the
  log never has a hole and never repeats.
- Readers pull. Each has a `Position`; it is told that something happened and reads what is new, from memory or
  from the store. A slow reader therefore costs nothing and misses nothing, however many there are.
- A block the model is writing reserves its number durably before the first delta is shown. Events with higher
  numbers are stored and acknowledged at once but shown only after the block is closed, so every reader sees
  numbers in order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import trio

from skill_actors.sessions.events import TURN_ENDINGS, Event, Position, utc_now
from skill_actors.sessions.history import History
from skill_actors.sessions.resting_lock import RestingLock
from skill_actors.store.base import Append, ApprovalRecord, Journal, SessionMissing, SessionRecord, TurnRecord

__all__ = ["Change", "Draft", "KeepsApprovals", "OpenBlock", "SessionLog"]

_TAIL_EVENTS: Final = 64  # kept in memory for readers that keep up
_PAGE_EVENTS: Final = 500
_FEW_EVENTS: Final = 100
_RESET_SEQ: Final = "reset_seq"  # among the settings, but none that anybody may choose


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before it has a number."""

    type: str
    turn: str | None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What is stored in one commit."""

    drafts: Sequence[Draft] = ()
    approvals: Sequence[ApprovalRecord] = ()


class KeepsApprovals(Protocol):
    """Whose approvals the log stores: see `ApprovalDesk`. Both are called under the log's lock."""

    def closing(self, turn: str) -> Change:
        """What has to be stored with an ending of the turn."""

    def stored(self, records: Sequence[ApprovalRecord]) -> None:
        """These are durable now."""


class OpenBlock:
    """A text or thinking block that is still being written."""

    __slots__ = ("_chunks", "_ends", "data", "seq", "turn")

    def __init__(self, seq: int, turn: str, data: Mapping[str, Any]) -> None:
        self.seq = seq
        self.turn = turn
        self.data = data
        self._chunks: list[str] = []
        self._ends: list[int] = []  # code points up to and including each chunk

    @property
    def length(self) -> int:
        """Code points so far."""
        return self._ends[-1] if self._ends else 0

    def add(self, text: str) -> None:
        self._chunks.append(text)
        self._ends.append(self.length + len(text))

    def text(self, start: int = 0) -> str:
        """The text from code point `start` on."""
        first = bisect_right(self._ends, start)
        if first == len(self._chunks):
            return ""
        skip = start - (self._ends[first - 1] if first else 0)
        return "".join([self._chunks[first][skip:], *self._chunks[first + 1 :]])


class SessionLog:
    """Appends and followers of one session. Belongs to the trio thread.

    Args:
        journal: where appends become durable.
        record: the session as it is stored now.

    """

    __slots__ = ("_block", "_journal", "_lock", "_news", "_tail", "approvals", "deleted", "history", "record")

    def __init__(self, journal: Journal, record: SessionRecord) -> None:
        self.record = record
        self.deleted = False
        self.approvals: KeepsApprovals | None = None
        self.history: History | None = None  # fed with every stored event once `load_history` has made it
        self._journal = journal
        self._lock = RestingLock()
        self._news: trio.Event | None = None  # made only while somebody waits
        self._tail: deque[Event] | None = None  # made only while somebody reads or a turn runs
        self._block: OpenBlock | None = None

    @property
    def shown_seq(self) -> int:
        """Readers may see stored events up to here."""
        return self.record.last_seq if self._block is None else self._block.seq - 1

    @property
    def reset_seq(self) -> int:
        """The number of the event with which the conversation last began anew; 0 if it never did."""
        return int(self.record.settings.get(_RESET_SEQ, 0))

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        turns: Sequence[TurnRecord] = (),
        settings: Mapping[str, Any] | None = None,
        totals: Mapping[str, Any] | None = None,
        approvals: Sequence[ApprovalRecord] = (),
    ) -> Sequence[Event]:
        """Number and store these; return when they are durable and readers have been told.

        With the ending of a turn, what it waits for is resolved in the same commit, by an event before the ending.

        Not interruptible once its turn has come: a cancelled caller would not know whether it happened.

        Raises: what `Journal.append` raises; nothing was changed then.
        """
        async with self._lock:
            with trio.CancelScope(shield=True):
                events = await self._commit(drafts, turns, settings, totals, approvals)
        return events

    async def change(self, make: Callable[[], Change]) -> Sequence[Event]:
        """Store what is made when nothing else is being stored; nothing if that is nothing.

        Raises: what `make` raises, and what `append` raises.
        """
        async with self._lock:
            made = make()
            if not made.drafts and not made.approvals:
                return ()
            with trio.CancelScope(shield=True):
                events = await self._commit(made.drafts, (), None, None, made.approvals)
        return events

    async def append_if(
        self, draft: Draft, condition: Callable[[], bool], changes: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> Event | None:
        """Store the event, if the condition holds once nothing else is being stored; None if it does not.

        Args:
            changes: of settings, in the same commit, given those of that moment; None takes one away.

        Raises: what `append` raises.
        """
        async with self._lock:
            if not condition():
                return None
            changed = changes(self.record.settings)
            with trio.CancelScope(shield=True):
                (event,) = await self._commit([draft], (), self._changed(changed) if changed else None, None)
        return event

    async def settle(self) -> None:
        """Wait until what is being stored now is stored, and told. Not interruptible: it is soon."""
        with trio.CancelScope(shield=True):
            async with self._lock:
                pass

    def _changed(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        merged = {**self.record.settings, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    async def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Replace some settings durably; None takes one away. Raises what `append` raises."""
        async with self._lock:
            with trio.CancelScope(shield=True):
                await self._commit((), (), self._changed(changes), None)

    async def queue(self, draft: Draft, turn: TurnRecord, *, title: str = "") -> Event:
        """Store a message and its turn; the turn's `seq` is filled in.

        Args:
            title: becomes the session's, in the same commit, if it has none and no turn of it has ended yet.

        """
        async with self._lock:
            with trio.CancelScope(shield=True):
                numbered = replace(turn, seq=self.record.last_seq + 1)
                settings = self.record.settings
                untitled = title and not self.record.totals.get("turns") and "title" not in settings
                titled = {**settings, "title": title} if untitled else None
                (event,) = await self._commit([draft], [numbered], titled, None)
        return event

    async def reset(self, draft: Draft) -> None:
        """Store the event with which the conversation begins anew, and where it is. Raises what `append` raises."""
        async with self._lock:
            with trio.CancelScope(shield=True):
                settings = {**self.record.settings, _RESET_SEQ: self.record.last_seq + 1}
                await self._commit([draft], (), settings, None)

    async def _commit(
        self,
        drafts: Sequence[Draft],
        turns: Sequence[TurnRecord],
        settings: Mapping[str, Any] | None,
        totals: Mapping[str, Any] | None,
        approvals: Sequence[ApprovalRecord] = (),
    ) -> Sequence[Event]:
        if self.deleted:
            raise SessionMissing(f"session {self.record.id} was deleted")
        closing = self._closing(drafts)
        drafts, approvals = [*closing.drafts, *drafts], [*approvals, *closing.approvals]
        before = self.record.last_seq
        now = utc_now()
        events = [
            Event(seq=seq, type=d.type, time=now, session=self.record.id, turn=d.turn, data=d.data)
            for seq, d in enumerate(drafts, before + 1)
        ]
        await self._store(events, before + len(events), turns, settings, totals, approvals)
        self.record = replace(
            self.record,
            last_seq=before + len(events),
            updated=now,
            settings=self.record.settings if settings is None else settings,
            totals=self.record.totals if totals is None else totals,
        )
        self._show(events)
        if approvals and self.approvals is not None:
            self.approvals.stored(approvals)
        return events[len(closing.drafts) :]

    def _closing(self, drafts: Sequence[Draft]) -> Change:
        """What the endings among these resolve."""
        if self.approvals is None:
            return Change()
        ended = [draft.turn for draft in drafts if draft.type in TURN_ENDINGS and draft.turn is not None]
        closing = [self.approvals.closing(turn) for turn in ended]
        return Change(
            [draft for change in closing for draft in change.drafts],
            [record for change in closing for record in change.approvals],
        )

    async def _store(
        self,
        events: Sequence[Event],
        last_seq: int,
        turns: Sequence[TurnRecord] = (),
        settings: Mapping[str, Any] | None = None,
        totals: Mapping[str, Any] | None = None,
        approvals: Sequence[ApprovalRecord] = (),
    ) -> None:
        await self._journal.append(
            Append(
                session=self.record.id,
                expected_last_seq=self.record.last_seq,
                last_seq=last_seq,
                fence=self.record.fence,
                events=events,
                turns=turns,
                approvals=approvals,
                settings=settings,
                totals=totals,
            )
        )

    async def open_block(self, turn: str, data: Mapping[str, Any]) -> None:
        """Reserve the number of a block that begins now. At most one is open."""
        if self._block is not None:
            raise RuntimeError(f"block {self._block.seq} of session {self.record.id} is still open")
        async with self._lock:
            with trio.CancelScope(shield=True):
                seq = self.record.last_seq + 1
                await self._store((), seq)
                self.record = replace(self.record, last_seq=seq)
                self._block = OpenBlock(seq, turn, data)

    def delta(self, text: str) -> None:
        """Add to the open block and tell readers."""
        if self._block is None:
            raise RuntimeError(f"session {self.record.id} has no open block")
        self._block.add(text)
        self._wake()

    async def close_block(self) -> None:
        """Store the merged block, whole or as far as it came. Nothing happens if none is open."""
        async with self._lock:
            block = self._block
            if block is None:
                return
            merged = Event(
                seq=block.seq,
                type="model.delta",
                time=utc_now(),
                session=self.record.id,
                turn=block.turn,
                data={**block.data, "text": block.text(), "offset": block.length},
            )
            try:
                with trio.CancelScope(shield=True):
                    await self._store([merged], self.record.last_seq)
            finally:
                self._block = None  # also if it could not be stored: the turn ends, and later numbers must be seen
                self._tail = None  # its numbers would be out of order: readers go to the store once
                self._wake()

    async def load_history(self) -> History:
        """The messages so far, kept up to date by every append from now on."""
        if self.history is not None:
            return self.history
        history = History()
        history.seen_seq = max(0, self.reset_seq - 1)  # what was before is forgotten there
        async with self._lock:  # nothing is appended meanwhile
            while history.seen_seq < self.record.last_seq:
                events = await self._journal.read_events(self.record.id, after=history.seen_seq, limit=_PAGE_EVENTS)
                if not events:
                    break
                if len(events) < _FEW_EVENTS:
                    history.extend(events)
                else:  # what has often been made shorter takes its time
                    await trio.to_thread.run_sync(history.extend, events)
        self.history = history
        return history

    def _show(self, events: Sequence[Event]) -> None:
        if self.history is not None:
            for event in events:
                self.history.add(event)
        if self._tail is not None:
            self._tail.extend(events)
        self._wake()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    async def wait_news(self, seen: Position) -> None:
        """Wait until there may be something behind `seen`, or the session is deleted."""
        block = self._block
        if self.deleted or seen.seq < self.shown_seq:
            return
        if block is not None and seen.seq < block.seq and block.length:
            return
        if block is not None and seen.seq == block.seq and seen.offset is not None and seen.offset < block.length:
            return
        if self._news is None:
            self._news = trio.Event()
        await self._news.wait()

    def trim(self) -> None:
        """Forget the events kept for readers that keep up; they are in the store."""
        self._tail = None

    def mark_deleted(self) -> None:
        """End every follower; appends fail from now on."""
        self.deleted = True
        self._wake()

    @asynccontextmanager
    async def follow(
        self, after: Position, *, turn: str | None = None, live: bool = True
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Events after a position: stored ones, then (if `live`) new ones as they come.

        With `turn`, other turns' events are left out and the stream ends behind that turn's ending. It also ends when
        the session is deleted, and, without `live`, at what is shown now.
        """
        yield _Follower(self, after, turn, live)

    async def read(self, after: Position) -> tuple[Sequence[Event], Position]:
        """What there is behind `after` without waiting for more, and how far a reader is that takes it all in."""
        shown = self.shown_seq
        if after.seq < shown or (after.seq == shown and after.offset is not None):
            events = await self._read(after, shown)
            return events, events[-1].position if events else Position(shown)
        return self._read_block(after), after

    def read_last(self, after: Position) -> Sequence[Event]:
        """What memory holds behind a position: all that is left of a deleted session."""
        return [event for event in self._tail or () if event.seq > after.seq]

    def _read_block(self, after: Position) -> Sequence[Event]:
        """What the open block has behind a position that is up to date otherwise."""
        block = self._block
        if block is None or after.seq > block.seq or (after.seq == block.seq and after.offset is None):
            return ()
        start = after.offset or 0 if after.seq == block.seq else 0
        text = block.text(start)
        return (self._delta(block, text, start + len(text)),) if text else ()

    def _delta(self, block: OpenBlock, text: str, offset: int) -> Event:
        return Event(
            seq=block.seq,
            type="model.delta",
            time=utc_now(),
            session=self.record.id,
            turn=block.turn,
            data={**block.data, "text": text, "offset": offset},
            offset=offset,
        )

    async def _read(self, after: Position, shown: int) -> Sequence[Event]:
        """Stored events behind a position, up to `shown`; a half-read block is cut to its rest."""
        first = after.seq if after.offset is not None else after.seq + 1
        events = self._from_tail(first, shown)
        if events is None:
            events = await self._journal.read_events(self.record.id, after=first - 1, through=shown, limit=_PAGE_EVENTS)
            if self._tail is None:
                self._tail = deque(maxlen=_TAIL_EVENTS)
        if after.offset is not None and events and events[0].seq == after.seq:
            return (*_rest_of(events[0], after.offset), *events[1:])
        return events

    def _from_tail(self, first: int, last: int) -> Sequence[Event] | None:
        """The events first..last if memory holds all of them."""
        tail = self._tail
        if not tail or tail[0].seq > first or tail[-1].seq < last:
            return None
        return [event for event in tail if first <= event.seq <= last]


def _rest_of(event: Event, offset: int) -> Sequence[Event]:
    """A merged block without its first `offset` code points; nothing if all was read."""
    text = str(event.data.get("text", ""))
    if event.type != "model.delta" or offset >= len(text):
        return ()
    return (replace(event, data={**event.data, "text": text[offset:]}),)


class _Follower:
    """An endless, ordered reading of a log from a position on."""

    def __init__(self, log: SessionLog, after: Position, turn: str | None, live: bool) -> None:
        self._log = log
        self._position = after
        self._turn = turn
        self._live = live
        self._batch: deque[Event] = deque()
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    @property
    def buffered(self) -> int:
        """How many events can be had without waiting."""
        return len(self._batch)

    async def __anext__(self) -> Event:
        while not self._batch:
            if self._ended:
                raise StopAsyncIteration
            await self._fill()
        event = self._batch.popleft()
        if self._turn is not None and event.type in TURN_ENDINGS:
            self._ended = True
        return event

    async def _fill(self) -> None:
        log = self._log
        if log.deleted:
            self._take(log.read_last(self._position))  # the ending of its last turn, for instance
            self._ended = not self._batch
            return
        await trio.lowlevel.checkpoint()
        events, reached = await log.read(self._position)
        if events:
            self._take(events)
        elif reached != self._position:
            self._position = reached  # the rest of a block, or a number that was reserved and never used
        elif self._live:
            await log.wait_news(self._position)
        else:
            self._ended = True

    def _take(self, events: Sequence[Event]) -> None:
        """Go on behind these, and keep those that are wanted."""
        if events:
            self._position = events[-1].position
        self._batch.extend(event for event in events if self._turn in (None, event.turn))
