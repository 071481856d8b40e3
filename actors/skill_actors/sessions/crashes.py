"""Session actors that crash: made again after a pause, and after too many deaths no more for a while.

A turn that fails is no crash: the actor writes its ending and lives. A crash is a fault of ours, or something stored
that the actor cannot live with, and would come again at each start. So deaths are counted by conversation (`Poison`);
a poisoned one takes no messages, and those that wait are ended as failed by a `Closer`, which does nothing else.
Other conversations notice nothing of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import trio

from skill_actors.errors import Refused
from skill_actors.runtime import Admission, ExitReason, Poison, TrioActor
from skill_actors.sessions.poison import POISONED
from skill_actors.sessions.recovery import close_waiting
from skill_actors.sessions.session import LiveSession, QueuedTurn, RunTurn, Session
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.views import CrashFacts
from skill_actors.store.base import JournalClosed, SessionMissing, StoreError

__all__ = ["Closer", "Crashes"]

_log = logging.getLogger(__name__)
_STORE_RETRY_S: Final = 1.0


class Crashes:
    """Counts crashes by conversation and decides what is started for it.

    Args:
        env: what sessions need.
        poison: how many crashes are too many.

    """

    def __init__(self, env: Surroundings, poison: Poison | None = None) -> None:
        self._env = env
        self._poison: Final = Poison() if poison is None else poison  # an empty one is false

    def facts(self, session: str) -> CrashFacts:
        """For the session's JSON form."""
        now = trio.current_time()
        found = self._poison.admit(session, now)
        if found.poisoned_until is None:
            return CrashFacts(crashes=found.deaths)
        until = datetime.now(UTC) + timedelta(seconds=found.poisoned_until - now)
        text = until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return CrashFacts(crashes=found.deaths, poisoned_until=text)

    def refuse_if_poisoned(self, session: str) -> None:
        """Raises Refused("internal") while the session takes no messages."""
        now = trio.current_time()
        found = self._poison.admit(session, now)
        if found.poisoned_until is not None:
            wait_s = found.poisoned_until - now
            raise Refused("internal", self._why(session, found, wait_s), retry_after_s=wait_s)

    def _why(self, session: str, found: Admission, wait_s: float) -> str:
        return (
            f"session {session} crashed {found.deaths} times in {self._poison.period_s:g} s and takes no messages for "
            f"{wait_s:.0f} s more; the daemon's log has the errors. Send again then, or use another session"
        )

    def actor_for(self, live: LiveSession) -> Callable[[], TrioActor]:
        """What makes the actor that serves the session now: a Session, after its pause, or a Closer."""
        now, env = trio.current_time(), self._env
        found = self._poison.admit(live.id, now)
        if found.poisoned_until is not None:
            why = self._why(live.id, found, found.poisoned_until - now)
            return lambda: Closer(live, env, why)
        begin_at = now + found.delay_s
        return lambda: Session(live, env, begin_at=begin_at, survived=lambda: self._poison.survived(live.id))

    def note_exit(self, live: LiveSession, actor_class: type[object], reason: ExitReason) -> bool:
        """Count the end of the session's actor; False if none must be made for what still waits."""
        if not reason.abnormal:
            return True
        if issubclass(actor_class, Closer):  # the next one would fare no better
            _log.error("session %s: its waiting turns cannot be ended and stay: %s", live.id, reason)
            return False
        self._tell(live.id, self._poison.died(live.id, trio.current_time()), reason)
        return True

    def _tell(self, session: str, found: Admission, reason: ExitReason) -> None:
        self._env.bus.emit("session.crashed", {"count": 1, "crashes": found.deaths}, {"session": session})
        if found.poisoned_until is None:
            _log.error("session %s crashed (%d in a short time): %s", session, found.deaths, reason)
            return
        refused_s = self._poison.period_s
        self._env.bus.emit("session.poisoned", {"count": 1, "duration": refused_s}, {"session": session})
        _log.error("session %s crashed %d times, refused for %g s: %s", session, found.deaths, refused_s, reason)

    def forget(self, session: str) -> None:
        """The session is gone."""
        self._poison.forget(session)


class Closer(TrioActor):
    """Stands in for the Session actor of a poisoned conversation: ends the turns that wait as failed, then itself."""

    def __init__(self, live: LiveSession, env: Surroundings, why: str) -> None:
        super().__init__()
        self._live = live
        self._env = env
        self._why = why

    async def on_receive(self, message: object) -> None:
        match message:
            case RunTurn(turn) if turn in self._live.pending:
                await self._close(turn)
            case RunTurn():
                pass  # cancelled meanwhile
            case _:
                raise TypeError(f"a closer takes RunTurn, not {type(message).__name__}")
        if not self._live.pending:
            self.stop()

    async def _close(self, turn: str) -> None:
        """Write the failure, as soon as the store takes it; until then the turn waits."""
        while (queued := self._live.pending.get(turn)) is not None:
            try:
                await self._write(queued)
            except (SessionMissing, JournalClosed):
                return
            except StoreError as error:
                _log.warning("turn %s: its failure cannot be stored yet: %s", turn, error)
                await trio.sleep(_STORE_RETRY_S)

    async def _write(self, queued: QueuedTurn) -> None:
        live = self._live
        with live.written_off(queued):  # a cancel that comes now finds nothing to cancel
            await close_waiting(
                live.log,
                queued.record,
                self._env,
                status="failed",
                code=POISONED,
                why=self._why,
                resumed=queued.resumed,
            )
