"""All schedules of a daemon: kept as documents, and in memory, where the scheduler looks at them all the time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.store.documents import Change, DocumentStore, NewEvent, Room
from skill_actors.workshop.events import Feed
from skill_actors.workshop.names import check_name, document_id
from skill_actors.workshop.refusals import refusing
from skill_actors.workshop.schedules.due import first_due
from skill_actors.workshop.schedules.rule import RuleFault
from skill_actors.workshop.schedules.schedule import Progress, Schedule, ScheduleSettings

__all__ = ["KIND", "Schedules"]

KIND: Final = "schedule"
_TOPIC: Final = "schedule"
_MAX_OF_OWNER: Final = 1_000
_MAX_BYTES: Final = 64 << 20

_log = logging.getLogger(__name__)


class Schedules:
    """The schedules of all owners. Belongs to the trio thread; nobody else writes these documents.

    Args:
        now: the time of the day, in UTC.

    """

    def __init__(
        self, documents: DocumentStore, feed: Feed, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._documents = documents
        self._feed = feed
        self._now = now
        self._by_key: dict[str, Schedule] = {}
        self._unread: dict[str, int] = {}  # versions of those that this program does not understand
        self._writing = trio.Lock()
        self._changed = trio.Event()

    def __iter__(self) -> Iterator[Schedule]:
        return iter(tuple(self._by_key.values()))

    async def open(self) -> None:
        """Read what is stored. What cannot be understood, such as a time zone that is gone, is left alone."""
        after = ""
        while page := await self._documents.list(KIND, after=after):
            for document in page:
                try:
                    found = Schedule.from_json(document.data, owner_uid=document.owner_uid, version=document.version)
                except (RuleFault, KeyError, TypeError) as error:
                    _log.error("the schedule %s is not run until it is defined anew: %s", document.id, error)
                    self._unread[document.id] = document.version
                else:
                    self._by_key[found.key] = found
            after = page[-1].id
        self._tell_changed()

    async def define(
        self, owner_uid: int, name: str, settings: ScheduleSettings, *, replace_it: bool = False
    ) -> Schedule:
        """Make a schedule, or give one other settings: then it goes on from now, and what it has done is kept.

        Raises:
            Refused: bad_request; conflict, if there is one of this name and it is not to be replaced; storage_full.

        """
        check_name(name, "schedule")
        check_name(settings.agent, "agent")
        async with self._writing:
            old = self._by_key.get(document_id(owner_uid, name))
            if old is not None and not replace_it:
                raise Refused("conflict", f"there is a schedule {name!r} already; replace it, or choose another name")
            made = Schedule(
                owner_uid=owner_uid,
                name=name,
                made=self._now(),
                settings=settings,
                progress=Progress(next_due=None) if old is None else old.progress,
                version=self._unread.get(document_id(owner_uid, name), 0) if old is None else old.version,
            )
            made = replace(made, progress=first_due(made, self._now()))
            return await self._write(made, "defined", {"agent": settings.agent})

    def find(self, owner_uid: int, name: str) -> Schedule | None:
        """As it is by now."""
        return self._by_key.get(document_id(owner_uid, name))

    def get(self, owner_uid: int, name: str) -> Schedule:
        """Raises Refused("not_found") with the nearest name."""
        found = self.find(owner_uid, name)
        if found is not None:
            return found
        names = [each.name for each in self.of(owner_uid)]
        near = get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise Refused("not_found", f"there is no schedule {name!r:.80}{hint}", details={"schedule": name[:80]})

    def of(self, owner_uid: int | None) -> Sequence[Schedule]:
        """Those of one owner, or all, by name."""
        chosen = [each for each in self if owner_uid is None or each.owner_uid == owner_uid]
        return sorted(chosen, key=lambda each: (each.name, each.owner_uid))

    async def enable(self, owner_uid: int, name: str, on: bool) -> Schedule:
        """Switch it on or off; one that is switched on goes on from now. Raises Refused: not_found, storage_full."""
        async with self._writing:
            found = self.get(owner_uid, name)
            if found.settings.enabled == on:
                return found
            changed = replace(found, settings=replace(found.settings, enabled=on))
            if on:
                changed = replace(changed, progress=first_due(changed, self._now()))
            return await self._write(changed, "enabled" if on else "disabled", {})

    async def remove(self, owner_uid: int, name: str) -> None:
        """Raises Refused("not_found")."""
        async with self._writing:
            found = self.get(owner_uid, name)
            gone = Change(kind=KIND, id=found.key, owner_uid=owner_uid, data=None, expected=found.version)
            event = NewEvent(owner_uid=owner_uid, topic=_TOPIC, name="removed", data={"schedule": name})
            with trio.CancelScope(shield=True), refusing():  # what is in memory is what is stored
                await self._feed.apply([gone], [event])
                del self._by_key[found.key]
        self._tell_changed()

    async def note(self, seen: Schedule, progress: Progress, event: str, data: dict[str, Any]) -> bool:
        """Store what became of it; False if somebody has changed or removed it meanwhile, and then nothing is stored.

        Raises Refused("storage_full").
        """
        async with self._writing:
            if self._by_key.get(seen.key) != seen:
                return False
            await self._write(replace(seen, progress=progress), event, data)
            return True

    async def wait_changed(self) -> None:
        """Wait until some schedule is made, changed or removed."""
        await self._changed.wait()

    async def _write(self, schedule: Schedule, event: str, data: dict[str, Any]) -> Schedule:
        change = Change(
            kind=KIND,
            id=schedule.key,
            owner_uid=schedule.owner_uid,
            data=schedule.to_json(),
            expected=schedule.version,
        )
        told = NewEvent(
            owner_uid=schedule.owner_uid, topic=_TOPIC, name=event, data={"schedule": schedule.name, **data}
        )
        room = Room(kind=KIND, owner_uid=schedule.owner_uid, documents=_MAX_OF_OWNER, size_bytes=_MAX_BYTES)
        with trio.CancelScope(shield=True), refusing():  # what is in memory is what is stored
            applied = await self._feed.apply([change], [told], room=[room])
            stored = replace(schedule, version=applied.documents[0].version)
            self._by_key[stored.key] = stored
            self._unread.pop(stored.key, None)
        self._tell_changed()
        return stored

    def _tell_changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
