"""The conversations that are in memory: loaded when first needed, one reader at a time, let go when idle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import trio

from skill_actors.errors import Refused
from skill_actors.ids import is_id
from skill_actors.sessions.log import KeepsApprovals, SessionLog
from skill_actors.sessions.session import LiveSession
from skill_actors.store.base import Journal, SessionRecord, TurnRecord

__all__ = ["SessionTable", "Viewer", "not_found"]


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks. An admin sees all sessions, others their own; a foreign session does not exist for them."""

    uid: int
    admin: bool = False

    def may_see(self, record: SessionRecord) -> bool:
        return self.admin or self.uid == record.owner_uid


def not_found(kind: str, id: str) -> Refused:
    return Refused("not_found", f"there is no {kind} {id[:80]!r}")


class SessionTable:
    """LiveSessions by id."""

    def __init__(self, journal: Journal, approvals: KeepsApprovals | None = None) -> None:
        self._journal = journal
        self._approvals = approvals
        self._live: dict[str, LiveSession] = {}
        self._up_to_date: set[str] = set()  # not in memory, and nothing to be told of a restart; about 150 B each
        self._loading: dict[str, trio.Event] = {}

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(tuple(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)

    def get(self, session: str) -> LiveSession | None:
        """The session if it is in memory."""
        return self._live.get(session)

    def owner_of(self, session: str) -> int | None:
        """The uid that owns a session in memory; None if there is no such one."""
        live = self._live.get(session)
        return None if live is None else live.log.record.owner_uid

    def made(self, session: str) -> None:
        """It has come into being since this daemon was started, perhaps with a history."""
        self._up_to_date.add(session)

    def drop(self, session: str) -> None:
        """Forget it: it was deleted."""
        self._live.pop(session, None)
        self._up_to_date.discard(session)

    def newest(self, record: SessionRecord) -> SessionRecord:
        """The same session as it is now, if it is in memory."""
        live = self._live.get(record.id)
        return record if live is None else live.log.record

    async def record(self, session: str, viewer: Viewer) -> SessionRecord:
        """A session as it is now, without loading it. Raises Refused("not_found")."""
        live = self._live.get(session)
        record = live.log.record if live is not None else None
        if record is None and is_id(session, "ses"):
            record = await self._journal.get_session(session)
        if record is None or (live is not None and live.deleting) or not viewer.may_see(record):
            raise not_found("session", session)
        return record

    async def load(self, session: str, viewer: Viewer | None) -> LiveSession:
        """The session in memory, read from the store if need be; one reader at a time. Raises Refused("not_found")."""
        while (live := self._live.get(session)) is None:
            if not is_id(session, "ses"):
                raise not_found("session", session)
            if (other := self._loading.get(session)) is not None:
                await other.wait()
                continue
            self._loading[session] = trio.Event()
            try:
                record = await self._journal.open_session(session)
                if record is None:
                    raise not_found("session", session)
                # Remembered, not read off the times of its events: the clock may have been set back.
                restarted = record.last_seq > 0 and session not in self._up_to_date
                log = SessionLog(self._journal, record)
                log.approvals = self._approvals
                self._live[session] = LiveSession(log, restarted=restarted)
            finally:
                self._loading.pop(session).set()
        if live.deleting or (viewer is not None and not viewer.may_see(live.log.record)):
            raise not_found("session", session)
        return live

    async def turn(self, turn: str, viewer: Viewer) -> tuple[TurnRecord, LiveSession | None]:
        """A turn, and its session if that is in memory. Raises Refused("not_found")."""
        record = await self._journal.get_turn(turn) if is_id(turn, "trn") else None
        if record is None:
            raise not_found("turn", turn)
        await self.record(record.session, viewer)
        return record, self._live.get(record.session)

    @contextmanager
    def held(self, live: LiveSession) -> Iterator[None]:
        """Keep a session in memory while somebody uses it."""
        live.holders += 1
        try:
            yield
        finally:
            live.holders -= 1
            live.used_at = trio.current_time()
            live.rest()

    @asynccontextmanager
    async def use(self, session: str, viewer: Viewer | None) -> AsyncIterator[LiveSession]:
        """The session in memory, for as long as the block lasts. Raises Refused("not_found")."""
        live = await self.load(session, viewer)
        with self.held(live):  # no await since `load`: nobody has let go of it
            yield live

    async def unload_idle(self, idle_s: float) -> int:
        """Let go of sessions that nobody used for `idle_s`, one at a time; how many."""
        now = trio.current_time()
        gone = 0
        for live in self:
            if live.busy:
                if live.stands_still and now - live.used_at >= idle_s:
                    await self._stop_actor(live)  # its places may be containers, and nothing runs until it is resumed
                continue
            live.log.trim()
            if now - live.used_at < idle_s:
                continue
            await self._stop_actor(live)
            if live.unused:
                del self._live[live.id]  # the store has everything
                if not live.restarted:
                    self._up_to_date.add(live.id)
                gone += 1
        return gone

    async def _stop_actor(self, live: LiveSession) -> None:
        ref, live.ref = live.ref, None  # a message that comes now starts an actor of its own
        if ref is not None:
            ref.stop(block=False)
            await ref.wait_stopped()
