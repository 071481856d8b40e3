"""Ending turns by request: the one that runs is told to stop, those that wait are written off at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from skill_actors.sessions.intake import Intake, refusal
from skill_actors.sessions.recovery import close_waiting
from skill_actors.sessions.session import LiveSession
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import SessionTable, Viewer
from skill_actors.store.base import JournalClosed, SessionMissing, StorageFull

__all__ = ["BY_REQUEST", "Cancelling"]

BY_REQUEST: Final = "cancelled by request"


class Cancelling:
    """Cancels turns of sessions. Belongs to the trio thread."""

    def __init__(self, table: SessionTable, intake: Intake, env: Surroundings) -> None:
        self._table = table
        self._intake = intake
        self._env = env

    async def session(self, session: str, viewer: Viewer, *, queued: bool) -> dict[str, Any]:
        """Cancel the running turn, and with `queued` those that wait: {"cancelled": [turn ids]}."""
        async with self._table.use(session, viewer) as live:
            return {"cancelled": await self.all_of(live, queued=queued, reason=BY_REQUEST)}

    async def turn(self, turn: str, viewer: Viewer, *, reason: str = BY_REQUEST) -> dict[str, Any]:
        """Cancel one turn, running or waiting; one that has ended stays as it is."""
        _, live = await self._table.turn(turn, viewer)
        if live is not None and turn in live.pending:
            await self._pending(live, turn, reason)
        elif live is not None and live.turn is not None and live.turn.id == turn:
            live.turn.cancel(reason)
        else:
            return {"cancelled": []}
        return {"cancelled": [turn]}

    async def all_of(self, live: LiveSession, *, queued: bool, reason: str) -> Sequence[str]:
        """Cancel what runs, and with `queued` what waits; the ids. Raises Refused: storage_full, draining."""
        cancelled = []
        if queued:
            for turn in list(live.pending):
                await self._pending(live, turn, reason)
                cancelled.append(turn)
        if live.turn is not None:
            live.turn.cancel(reason)
            cancelled.insert(0, live.turn.id)
        return cancelled

    async def _pending(self, live: LiveSession, turn: str, reason: str) -> None:
        waiting = live.pending.get(turn)
        if waiting is None:
            return
        try:
            with live.written_off(waiting):
                await close_waiting(
                    live.log,
                    waiting.record,
                    self._env,
                    status="cancelled",
                    code="cancelled",
                    why=reason,
                    resumed=waiting.resumed,
                )
        except BaseException as error:
            self._intake.wake(live)
            if isinstance(error, StorageFull | JournalClosed | SessionMissing):
                raise refusal(error) from error
            raise
