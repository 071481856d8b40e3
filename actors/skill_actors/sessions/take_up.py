"""After a start: turns that were running get their ending, and those that wait are run.

Until a turn is taken up, nobody can say how it goes on; whoever asks for its end waits here first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.intake import Intake
from skill_actors.sessions.log import Draft
from skill_actors.sessions.poison import forget_attempts, try_again
from skill_actors.sessions.recovery import close_interrupted, close_poisoned, is_resumable
from skill_actors.sessions.session import LiveSession, QueuedTurn
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import SessionTable
from skill_actors.store.base import StorageFull, StoreError, TurnRecord

__all__ = ["TakeUp"]

_log = logging.getLogger(__name__)


class TakeUp:
    """Takes up the turns that the daemon before left. Belongs to the trio thread."""

    def __init__(self, table: SessionTable, intake: Intake, env: Surroundings) -> None:
        self._table = table
        self._intake = intake
        self._env = env
        self._first = True
        self._left: dict[str, trio.Event] = {}

    async def first(self) -> Sequence[str]:
        """Take up all; see `SessionManager.recover`."""
        left = await self._recover(await self._env.journal.unfinished_turns())
        self._first = False
        return left

    async def again(self, turns: Sequence[str]) -> Sequence[str]:
        """Try those that were left; what is still left."""
        found = [await self._env.journal.get_turn(turn) for turn in turns]
        unfinished = [turn for turn in found if turn is not None and turn.status in ("queued", "running")]
        left = await self._recover(unfinished)
        self._forget(set(turns).difference(left))
        return left

    async def wait(self, turn: str) -> bool:
        """Wait until the turn is taken up; False if nobody means to, or has to, any more."""
        event = self._left.get(turn)
        if event is not None:
            await event.wait()
        return event is not None

    def _forget(self, turns: set[str]) -> None:
        for turn in turns & self._left.keys():
            self._left.pop(turn).set()

    async def _recover(self, unfinished: Sequence[TurnRecord]) -> Sequence[str]:
        """Session by session: its turns run only once all that wait are in their order. What is left: ids."""
        sessions: dict[str, list[TurnRecord]] = {}
        for turn in unfinished:
            self._left.setdefault(turn.id, trio.Event())
            sessions.setdefault(turn.session, []).append(turn)
        left: list[str] = []
        for session, turns in sessions.items():
            left.extend(await self._session(session, turns))
        self._forget({turn.id for turn in unfinished}.difference(left))
        return left

    async def _session(self, session: str, turns: Sequence[TurnRecord]) -> Sequence[str]:
        live: LiveSession | None = None
        try:
            for number, turn in enumerate(turns):
                try:
                    async with self._table.use(session, None) as live:
                        await self._turn(live, turn, turns[number + 1 :])
                except StorageFull as error:
                    _log.error("turn %s cannot be taken up again yet: %s", turn.id, error)
                    return [later.id for later in turns[number:]]
                except (StoreError, Refused, ValueError) as error:
                    _log.error("turn %s of session %s is left as it is: %s", turn.id, session, error)
        finally:
            if live is not None:
                self._intake.wake(live)
        return ()

    async def _turn(self, live: LiveSession, turn: TurnRecord, later: Sequence[TurnRecord]) -> None:
        if turn.status == "running":
            # Counted once a start: while a disk is full this is tried every second.
            if self._first and not await try_again(live.log, turn.id):
                await close_poisoned(live.log, turn, self._env)
            elif await is_resumable(live.log, turn, self._env) and not await self._is_interrupted(later):
                await live.log.append([Draft("session.restarted", None)])
                if live.paused:  # being held ends no daemon
                    await forget_attempts(live.log, turn.id)
                queued = QueuedTurn.of(turn, await self._message_of(turn))
                self._intake.put(live, replace(queued, resumed=True, first=True))
            else:
                await close_interrupted(live.log, turn, self._env)
            live.restarted = False
            return
        queued = QueuedTurn.of(turn, await self._message_of(turn), again=True)
        if turn.seq > 1:
            await self._intake.tell_restarted(live)
        self._intake.put(live, queued)

    async def _is_interrupted(self, later: Sequence[TurnRecord]) -> bool:
        """Whether one of the messages that came after a turn had begun was to end it."""
        messages = [await self._message_of(turn) for turn in later]
        return any(message.get("mode") == "interrupt" for message in messages)

    async def _message_of(self, turn: TurnRecord) -> Mapping[str, Any]:
        (event,) = await self._env.journal.read_events(turn.session, after=turn.seq - 1, through=turn.seq)
        return event.data
