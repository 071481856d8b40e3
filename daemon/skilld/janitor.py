"""Keeps the state from growing for ever and from rotting unseen: retention, what nobody owns, a look at every row.

Rounds begin `retention.check_every_s` after the start and after each other. Each does, one thing at a time:
- sessions that have outlived `retention.session_age_days` (unless the clock was set since the last round), or the
  oldest while all events together take more than `retention.total_bytes`, are deleted with their files, unless
  something goes on in them;
- folders of files that belonged to no session in this round and the one before are removed;
- copies of skills that no snapshot holds, and that no turn can use any more, are removed, and what was unpacked of
  packages that are no skill now;
- copies of the journal that a killed backup left are removed;
- sums of single turns in the ledger are removed when nothing was charged to them for 30 days; the entries stay;
- events of the workshop that are older than `retention.workshop_event_days` are removed (unless the clock was set);
- once a day every row of every session is read and its checksum compared, with pauses, and so are the ledger and the
  documents of the workshop.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import trio

from skill_actors.errors import Refused
from skill_actors.runtime import TrioActor
from skill_actors.sessions.manager import SessionManager
from skill_actors.store import DamagedRow, SqliteJournal, StoreError
from skilld.config import RetentionConfig
from skilld.disk_use import measure
from skilld.parts import Parts

__all__ = ["ClockWatch", "Janitor", "overdue"]

_VERIFY_EVERY_S: Final = 86_400.0
_VERIFY_PAUSE_S: Final = 0.01  # between two sessions: a look at ten thousand takes minutes, and nobody notices
_MEASURE_PAUSE_S: Final = 60.0  # at least, from one look at every file to the next
_PAGE: Final = 200
_TURN_SUMS: Final = timedelta(days=30)  # longer than any turn runs or waits for an approval
_COPY_SPARE_S: Final = 3_600.0  # beyond the longest turn
_CLOCK_SET_S: Final = 60.0  # what a clock that is only being corrected never moves by in a round

_log = logging.getLogger(__name__)


def overdue(
    oldest: Sequence[tuple[str, str, int]], total_bytes: int, retention: RetentionConfig, now: datetime
) -> list[str]:
    """Which sessions have outlived their time.

    Args:
        oldest: id, time of the last change and size in bytes of some sessions, oldest first.
        total_bytes: what the events of all sessions take.
        now: in UTC.

    """
    found = []
    limit = ""
    if retention.session_age_days:
        limit = _stamp(now - timedelta(days=retention.session_age_days))
    for session, updated, size_bytes in oldest:
        too_much = 0 < retention.total_bytes < total_bytes
        if updated >= limit and not too_much:
            break
        found.append(session)
        total_bytes -= size_bytes
    return found


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z")


class ClockWatch:
    """Notices that somebody has set the clock: then ages say nothing, and what seems to be years old may be of today.

    Args:
        now: the time of the day, in UTC.
        steady_s: seconds that nobody can set, those of a suspended machine included.

    """

    def __init__(self, now: Callable[[], datetime], steady_s: Callable[[], float]) -> None:
        self._now = now
        self._steady_s = steady_s
        self._ahead_s = self._look()

    def was_set(self) -> bool:
        """Whether it was set since this was asked last, or since the beginning."""
        before_s, self._ahead_s = self._ahead_s, self._look()
        return abs(self._ahead_s - before_s) > _CLOCK_SET_S

    def _look(self) -> float:
        return self._now().timestamp() - self._steady_s()


class Janitor(TrioActor):
    """Looks after the state directory while the daemon runs.

    Args:
        now: the time of the day, in UTC.

    """

    def __init__(self, parts: Parts, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__()
        self._now = now
        self._clock = ClockWatch(now, lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
        self._parts = parts
        self._ownerless: frozenset[str] = frozenset()
        self._verified_at = float("-inf")

    @property
    def _retention(self) -> RetentionConfig:
        return self._parts.config.retention  # of now: it may be reloaded

    async def setup(self) -> None:
        self.spawn(self._run)
        self.spawn(self._measure)

    async def _measure(self) -> None:
        """Keep the figures of the disk's use young; the first are there soon after the start."""
        await self._parts.ready.wait()
        while True:
            state_dir = self._parts.config.daemon.state_dir
            self._parts.disk_use = await trio.to_thread.run_sync(measure, state_dir, abandon_on_cancel=True)
            await trio.sleep(max(self._retention.check_every_s, _MEASURE_PAUSE_S))

    async def _run(self) -> None:
        while True:
            await trio.sleep(self._retention.check_every_s)
            journal, sessions = self._parts.journal.peek(), self._parts.sessions.peek()
            if journal is None or sessions is None or sessions.draining:
                continue
            try:
                await self.look_after(journal, sessions)
            except (StoreError, OSError) as error:
                _log.warning("the state was not looked after this time: %s", error)

    async def look_after(self, journal: SqliteJournal, sessions: SessionManager) -> None:
        """One round. Raises StoreError, OSError."""
        clock_was_set = self._clock.was_set()
        await self._retire(journal, sessions, clock_was_set=clock_was_set)
        await self._sweep_workspaces(sessions)
        await self._collect_copies()
        await self._parts.backups.clean()
        await self._forget_turns()
        if trio.current_time() - self._verified_at >= _VERIFY_EVERY_S:
            self._verified_at = trio.current_time()
            await self._verify(journal)
            await self._verify_ledger()
            for fault in await journal.documents.verify():
                _log.error("%s", fault)
        if not clock_was_set:
            await self._forget_events()

    async def _forget_turns(self) -> None:
        ledger = self._parts.ledger.peek()
        if ledger is not None:
            await ledger.forget_turns(_stamp(self._now() - _TURN_SUMS))

    async def _forget_events(self) -> None:
        workshop, days = self._parts.workshop.peek(), self._retention.workshop_event_days
        if workshop is None or not days:
            return
        removed = await workshop.feed.forget(_stamp(self._now() - timedelta(days=days)))
        if removed:
            _log.info("removed %d events of the workshop that had outlived [retention]", removed)

    async def _verify_ledger(self) -> None:
        ledger = self._parts.ledger.peek()
        for fault in () if ledger is None else await ledger.verify():
            _log.error("%s", fault)

    async def _retire(self, journal: SqliteJournal, sessions: SessionManager, *, clock_was_set: bool) -> None:
        """Delete what is overdue. What is in use is passed over, and stays until the next round."""
        retention = self._retention
        if clock_was_set and retention.session_age_days:
            _log.warning("the clock was set: no conversation is deleted for its age before the next round")
            retention = retention.model_copy(update={"session_age_days": 0.0})
        if not retention.session_age_days and not retention.total_bytes:
            return
        retired, skip = 0, 0
        while True:
            oldest, total_bytes = await journal.oldest_sessions(skip=skip, limit=_PAGE)
            due = overdue(oldest, total_bytes, retention, self._now())
            for session in due:
                gone = await self._retire_one(sessions, session)
                retired += gone
                skip += not gone
            if len(due) < _PAGE:
                break
        if retired:
            _log.info("deleted %d conversations that had outlived [retention]", retired)

    async def _retire_one(self, sessions: SessionManager, session: str) -> bool:
        try:
            return await sessions.retire(session)
        except (Refused, StoreError) as error:
            _log.warning("conversation %s has outlived [retention] and cannot be deleted: %s", session, error)
            return False

    async def _sweep_workspaces(self, sessions: SessionManager) -> None:
        ownerless = frozenset(await sessions.ownerless_workspaces())
        again = sorted(ownerless & self._ownerless)
        self._ownerless = ownerless - frozenset(again)
        if again:
            await sessions.sweep_workspaces(again)

    async def _collect_copies(self) -> None:
        copies, snapshot = self._parts.copies, self._parts.published.snapshot
        in_use_s = self._parts.config.limits.turn_timeout_s + _COPY_SPARE_S
        keep = {skill.digest for skill in snapshot.skills.values()} | copies.used_within(in_use_s)
        keep |= self._parts.projects.digests()
        removed = await trio.to_thread.run_sync(copies.collect, keep)
        if removed:
            _log.info("removed %d copies of skills that are not in use any more", removed)
        await self._collect_packages(in_use_s)

    async def _collect_packages(self, in_use_s: float) -> None:
        unpacked = self._parts.published.packaged | self._parts.projects.packaged()
        removed = await trio.to_thread.run_sync(self._parts.packages.collect, unpacked, in_use_s)
        if removed:
            _log.info("removed %d unpacked packages that are not in use any more", removed)

    async def _verify(self, journal: SqliteJournal) -> None:
        """Read everything. What is damaged is reported and put aside by the journal itself."""
        after = ""
        while ids := await journal.session_ids(after=after):
            for session in ids:
                with contextlib.suppress(DamagedRow):  # recorded, logged and counted where it was found
                    await journal.verify_session(session)
                await trio.sleep(_VERIFY_PAUSE_S)
            after = ids[-1]
