"""What happens in the workshop: published with the change it tells of, followed from any number on.

    apply    -> the change and its events, one transaction -> durable -> the bus, and every follower that chose it
    follower -> reads the store behind its own number -> nothing more there -> waits to be woken -> reads again

A follower holds at most one page of events, whatever it is behind; who tells never waits for one. Events are
forgotten after some time (see `forget`): a follower that comes back too late is told so by `feed.forgotten`.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.ids import is_id
from skill_actors.sessions.events import Event, utc_now
from skill_actors.sessions.table import Viewer
from skill_actors.store.documents import Applied, Change, DocumentStore, NewEvent, Room, WorkshopEvent
from skill_actors.telemetry import Bus
from skill_actors.workshop.event_names import ALL_TOPICS, CUSTOM, EVENT_NAMES, is_custom, is_known
from skill_actors.workshop.names import check_name
from skill_actors.workshop.refusals import refusing

__all__ = ["FORGOTTEN", "MAX_NEWEST", "Choice", "Feed", "FeedEvent", "Follower"]

FORGOTTEN: Final = "feed.forgotten"  # the type of what a follower is told whose next events are gone

MAX_NEWEST: Final = 500  # that a follower may begin with

_log = logging.getLogger(__name__)

_PAGE: Final = 100  # of at most 64 KiB each
_CUSTOM_TOPIC: Final = re.compile(r"custom\.[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")
_MAX_TOPIC: Final = 128
_MAX_CHOICES: Final = 50
_MEASURES: Final[Mapping[str, tuple[str, float]]] = {"duration_ms": ("duration", 0.001), "cost_usd": ("cost_usd", 1.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEvent(Event):
    """A workshop event as it is sent. `type` is `TOPIC.NAME`; a name has no dot."""

    owner_uid: int

    @classmethod
    def of(cls, event: WorkshopEvent) -> FeedEvent:
        return cls(
            seq=event.seq,
            type=f"{event.topic}.{event.name}",
            time=event.time,
            session=_id(event.data, "session", "ses") or "",
            turn=_id(event.data, "turn", "trn"),
            data=event.data,
            owner_uid=event.owner_uid,
        )

    def to_dict(self) -> dict[str, Any]:
        """The wire form: that of a session's event, and `owner_uid`."""
        return {
            "seq": self.seq,
            "type": self.type,
            "time": self.time,
            "session": self.session,
            "turn": self.turn,
            "owner_uid": self.owner_uid,
            "data": dict(self.data),
        }


def _id(data: Mapping[str, Any], key: str, kind: Any) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) and is_id(value, kind) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which events somebody wants; empty is all.

    Args:
        topics: a topic of EVENT_NAMES, `custom` for all that users publish, `custom.BUILD` or `custom.BUILD.*`.
        names: names of events.

    """

    topics: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, topics: Sequence[str] = (), names: Sequence[str] = ()) -> Choice:
        """Check a choice that somebody made.

        Raises:
            Refused: bad_request, for a topic or name under which nothing is ever published.

        """
        if max(len(topics), len(names)) > _MAX_CHOICES:
            raise Refused("bad_request", f"at most {_MAX_CHOICES} topics and names can be chosen at once")
        chosen = () if ALL_TOPICS in topics else tuple(dict.fromkeys(map(_checked_topic, topics)))
        can_be_custom = not chosen or any(topic.startswith(CUSTOM) for topic in chosen)
        known = {name for topic in chosen or EVENT_NAMES for name in EVENT_NAMES.get(topic, {})}
        for name in names:
            if name not in known and not can_be_custom:
                raise Refused("bad_request", f"name {name[:60]!a}: {_nearest(name, known)}")
        return cls(topics=chosen, names=tuple(dict.fromkeys(names)))

    @property
    def stored_topics(self) -> tuple[str, ...]:
        """As the store takes them."""
        return tuple(f"{CUSTOM}.*" if topic == CUSTOM else topic for topic in self.topics)

    def wants(self, event: WorkshopEvent) -> bool:
        return (not self.names or event.name in self.names) and (
            not self.topics or any(_matches(topic, event.topic) for topic in self.stored_topics)
        )


def _matches(chosen: str, topic: str) -> bool:
    return topic.startswith(chosen[:-1]) if chosen.endswith("*") else topic == chosen


def _checked_topic(topic: str) -> str:
    if topic in EVENT_NAMES or topic in (CUSTOM, f"{CUSTOM}.*") or _is_custom_choice(topic):
        return topic
    known = (*EVENT_NAMES, CUSTOM, ALL_TOPICS)
    raise Refused("bad_request", f"topic {topic[:60]!a}: {_nearest(topic, known)}")


def _is_custom_choice(topic: str) -> bool:
    return len(topic) <= _MAX_TOPIC and _CUSTOM_TOPIC.fullmatch(topic.removesuffix(".*")) is not None


def _nearest(word: str, known: Sequence[str] | set[str]) -> str:
    near = get_close_matches(word, sorted(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}, and {CUSTOM}.ANYTHING"


class Feed:
    """The events of the workshop, over one store of documents. Trio thread only.

    Args:
        bus: is told of each event, without what it says, as `workshop.TOPIC.NAME` (`workshop.custom` for those of
            users), with the measurements `duration` (seconds) and `cost_usd` where the event has them.

    """

    def __init__(self, store: DocumentStore, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        self._followers: set[Follower] = set()
        store.listen(self._heard)

    async def apply(
        self,
        changes: Sequence[Change],
        events: Sequence[NewEvent] = (),
        *,
        opens_work: bool | None = None,
        room: Sequence[Room] = (),
    ) -> Applied:
        """Apply the changes and store the events that tell of them, all or nothing, durably.

        Raises:
            ValueError: no such event is known to EVENT_NAMES.
            StoreError: see DocumentStore.apply.

        """
        for event in events:
            if not is_known(event.topic, event.name):
                raise ValueError(f"there is no event {event.topic}.{event.name}")
        return await self._store.apply(changes, events, opens_work=opens_work, room=room)

    async def publish_custom(self, owner_uid: int, topic: str, name: str, data: Mapping[str, Any]) -> FeedEvent:
        """Publish what a user has to say.

        Raises:
            Refused: bad_request for a topic that is not under `custom.`, or a name that is none; too_large,
                storage_full, draining.

        """
        if len(topic) > _MAX_TOPIC or not is_custom(topic) or _CUSTOM_TOPIC.fullmatch(topic) is None:
            raise Refused(
                "bad_request",
                f"topic {topic[:80]!a}: what users publish goes under 'custom.' and words of a-z, 0-9, '_' and "
                "'-' with dots between them; all other topics are the workshop's own",
            )
        if "." in check_name(name) or not name[0].isalpha():
            raise Refused("bad_request", f"name {name!r}: begin with a letter, and put no dot in it")
        event = NewEvent(owner_uid=owner_uid, topic=topic, name=name, data=data)
        with refusing():
            applied = await self.apply((), (event,), opens_work=True)
        return FeedEvent.of(applied.events[0])

    @contextmanager
    def follow(
        self,
        viewer: Viewer,
        choice: Choice = Choice(),
        *,
        after: int = 0,
        newest: int | None = None,
        live: bool = True,
        limit: int | None = None,
    ) -> Iterator[Follower]:
        """Events behind `after`, then new ones as they come: one's own, an admin's are everybody's.

        Args:
            newest: begin with the last so many that are stored behind `after` rather than with the first.
            live: wait for further ones; else stop behind those that are stored.
            limit: stop after so many.

        """
        follower = Follower(self._store, viewer, choice, after=after, newest=newest, live=live, limit=limit)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    async def forget(self, before: str) -> int:
        """Remove events that are older than this time; how many. Raises StorageFull, JournalClosed."""
        removed = await self._store.forget_events(before)
        if removed:
            for follower in self._followers:
                follower.look_again()
        return removed

    def _heard(self, events: Sequence[WorkshopEvent]) -> None:
        for event in events:
            name = CUSTOM if is_custom(event.topic) else f"{event.topic}.{event.name}"
            if not is_known(event.topic, event.name):  # whoever applies past the feed is not held to the list
                _log.error("the event %s is in no list, and so is not counted", name)
            self._bus.emit(f"workshop.{name}", _measured(event.data), {})
        for follower in self._followers:
            follower.offer(events)


def _measured(data: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for key, (name, factor) in _MEASURES.items():
        value = data.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value * factor
    return found


class Follower(AsyncIterator[FeedEvent]):
    """One reader of a Feed; made by `Feed.follow`. Raises StoreError as the store does, and ends with its choice."""

    def __init__(
        self,
        store: DocumentStore,
        viewer: Viewer,
        choice: Choice,
        *,
        after: int,
        newest: int | None,
        live: bool,
        limit: int | None,
    ) -> None:
        self._store = store
        self._viewer = viewer
        self._owner_uid = None if viewer.admin else viewer.uid
        self._choice = choice
        self._after = after
        self._newest = newest
        self._live = live
        self._left = limit
        self._page: deque[FeedEvent] = deque()
        self._woken = trio.Event()
        self._is_up_to_date = False
        self._must_look = True  # for what is forgotten

    @property
    def buffered(self) -> int:
        """How many can be had without waiting."""
        return len(self._page) if self._left is None else min(len(self._page), self._left)

    def offer(self, events: Sequence[WorkshopEvent]) -> None:
        """These are durable now: read on if one of them is of the choice."""
        if not self._woken.is_set() and any(map(self._is_mine, events)):
            self._woken.set()

    def look_again(self) -> None:
        """Some of the oldest events are forgotten; who has read everything there is has missed none."""
        self._must_look = self._must_look or not self._is_up_to_date

    def _is_mine(self, event: WorkshopEvent) -> bool:
        return self._owner_uid in (None, event.owner_uid) and self._choice.wants(event)

    async def __anext__(self) -> FeedEvent:
        if self._left == 0:
            raise StopAsyncIteration
        while not self._page:
            await self._fill()
        event = self._page.popleft()
        if self._left is not None and event.type != FORGOTTEN:
            self._left -= 1
        return event

    async def _fill(self) -> None:
        """Read a page; wait for something to read if there is none."""
        if self._must_look:
            self._must_look = False
            await self._look()
            return
        self._woken = trio.Event()  # before the read: what comes after it wakes
        found = await self._read(_PAGE)
        self._page.extend(map(FeedEvent.of, found))
        if found:
            self._after = found[-1].seq
        elif self._live:
            self._is_up_to_date = True
            await self._woken.wait()
            self._is_up_to_date = False
        else:
            raise StopAsyncIteration

    async def _look(self) -> None:
        """Say what is missing behind the place to read on at, or find that place."""
        if self._newest is not None:
            await self._skip()
            return
        first = await self._store.first_event()
        if 0 < self._after < first - 1:
            self._page.append(_forgotten(self._after, first - 1, self._viewer.uid))
            self._after = first - 1

    async def _skip(self) -> None:
        """Go to just before the newest of the choice that are wanted."""
        newest, self._newest = self._newest, None
        if not newest:
            self._after = max(self._after, await self._store.last_event())
        elif found := await self._read(min(newest, MAX_NEWEST), newest=True):
            self._after = found[0].seq - 1

    async def _read(self, limit: int, *, newest: bool = False) -> Sequence[WorkshopEvent]:
        return await self._store.events(
            after=self._after,
            owner_uid=self._owner_uid,
            topics=self._choice.stored_topics,
            names=self._choice.names,
            limit=limit,
            newest=newest,
        )


def _forgotten(after: int, through: int, owner_uid: int) -> FeedEvent:
    return FeedEvent(
        seq=through,
        type=FORGOTTEN,
        time=utc_now(),
        session="",
        turn=None,
        data={"after": after, "through": through},
        owner_uid=owner_uid,
    )
