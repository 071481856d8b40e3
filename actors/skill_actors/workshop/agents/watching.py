"""What becomes of agents' turns: counted, told as events, and where a program crashes, answered with rest or giving up.

A turn's ending is told on the bus once it is durable. Its agent may rest from that moment on, before its next turn can
begin; what is stored of it follows. Endings that nobody came to store, since the daemon died, are found at the next
start: an agent's document says how many of its conversation's it knows of.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.table import Viewer
from skill_actors.store.base import StoreError, TurnRecord
from skill_actors.store.documents import NewEvent
from skill_actors.telemetry import Measurements, Metadata
from skill_actors.workshop.agents.agents import agent_event, ended_turns
from skill_actors.workshop.agents.asking import Asking
from skill_actors.workshop.agents.crashes import CrashRecord, is_crash
from skill_actors.workshop.agents.record import AgentRecord
from skill_actors.workshop.agents.roster import Roster
from skill_actors.workshop.agents.surroundings import AgentSurroundings
from skill_actors.workshop.agents.views import is_good

__all__ = ["Watching"]

_log = logging.getLogger(__name__)
_SUBSCRIBER: Final = "workshop.agents"
_MAX_WHY: Final = 1_000  # of an error, in an event
_RETRY_S: Final = 1.0


class Watching:
    """Follows the turns of agents. Belongs to the trio thread."""

    def __init__(self, env: AgentSurroundings, roster: Roster, asking: Asking) -> None:
        self._env = env
        self._roster = roster
        self._asking = asking
        self._ended: dict[str, None] = {}  # turns whose endings are not stored here yet, in their order
        self._caught_up: set[str] = set()  # that were found at the start
        self._more = trio.Event()
        self._rows: dict[str, int] = {}  # crashes in a row, by conversation: known before they are stored

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell of what ended unseen, then of each turn that ends, until cancelled."""
        self._env.bus.attach(_SUBSCRIBER, ["turn.stop"], self._heard)
        try:
            for record in await self._roster.load():
                await self._catch_up(record)
            task_status.started()
            while True:
                await self._more.wait()
                self._more = trio.Event()
                while self._ended:
                    turn = next(iter(self._ended))
                    await self._store(turn)
                    self._ended.pop(turn, None)
        finally:
            self._env.bus.detach(_SUBSCRIBER)

    def _heard(self, _name: str, _measured: Measurements, facts: Metadata) -> None:
        session, turn = str(facts["session"]), str(facts["turn"])
        if self._roster.agent_of(session) is None:
            return
        if is_crash(str(facts["code"])):
            row = self._rows[session] = self._rows.get(session, 0) + 1
            rest_s = CrashRecord(in_a_row=row).rest_s(self._env.rules)
            self._env.sessions.rest_until(session, trio.current_time() + rest_s)
        else:
            self._rows.pop(session, None)
        if turn in self._caught_up:
            self._caught_up.discard(turn)
            return
        self._ended[turn] = None
        self._more.set()

    async def _catch_up(self, record: AgentRecord) -> None:
        """Store endings of the agent's conversation that came since its document was written."""
        try:
            session = await self._env.journal.get_session(record.session)
            if session is None or session.updated < record.updated:
                return
            turns = await self._env.journal.list_turns(record.session)
        except StoreError as error:
            _log.error("agent %s: what it did last cannot be read: %s", record.name, error)
            return
        for turn in ended_turns(turns)[record.ended :]:
            self._caught_up.add(turn.id)  # it may be heard of as well, before this or after it
            self._ended.pop(turn.id, None)
            await self._store(turn.id)

    async def _store(self, turn_id: str) -> None:
        """Store what one turn's ending means for its agent, as soon as the store takes it."""
        while True:
            try:
                await self._note(turn_id)
            except Refused as refused:
                if refused.code not in ("storage_full", "conflict"):
                    _log.warning("the end of turn %s is not told: %s", turn_id, refused)
                    return
            except StoreError as error:
                _log.warning("the end of turn %s is not told: %s", turn_id, error)
                return
            else:
                return
            await trio.sleep(_RETRY_S)

    async def _note(self, turn_id: str) -> None:
        turn = await self._env.journal.get_turn(turn_id)
        whose = None if turn is None else self._roster.agent_of(turn.session)
        if turn is None or turn.result is None or whose is None:
            return
        async with self._roster.alone(*whose):
            record = await self._roster.find(*whose)
            if record is None:
                return
            is_current = record.session == turn.session
            after = replace(record, turns=record.turns + 1)
            if is_current:
                after = replace(after, ended=record.ended + 1, last=turn.id)
                after = self._judged(after, turn)
            gave_up = after.state == "crashed" and record.state == "live"
            events = [self._event(record, turn)]
            if gave_up:
                events.append(agent_event(record, "crashed", session=turn.session, why=after.crashes.why))
                await self._hold(record)
            await self._roster.save(after, events)

    def _judged(self, record: AgentRecord, turn: TurnRecord) -> AgentRecord:
        """The agent after this turn, crashed or not."""
        error: Mapping[str, Any] = (turn.result or {}).get("error") or {}
        digest = turn.digest or ""
        if not is_crash(error.get("code")):
            if turn.status in ("cancelled", "interrupted") and record.crashes.in_a_row:
                return record  # it says nothing about the program
            return replace(record, crashes=record.crashes.survived(digest))
        why = f"{error.get('code')}: {error.get('message')}"
        crashes = record.crashes.crashed(self._env.rules, self._env.clock(), digest, why)
        gives_up = record.state == "live" and crashes.gives_up(self._env.rules)
        return replace(record, crashes=crashes, state="crashed" if gives_up else record.state)

    async def _hold(self, record: AgentRecord) -> None:
        """What waits with an agent that is given up goes on waiting until somebody decides."""
        try:
            await self._env.sessions.pause(record.session, Viewer(uid=record.owner_uid))
        except Refused as refused:
            if refused.code == "storage_full":
                raise
            _log.warning("agent %s is given up, and its queue cannot be held: %s", record.name, refused)

    def _event(self, record: AgentRecord, turn: TurnRecord) -> NewEvent:
        result: Mapping[str, Any] = turn.result or {}
        data: dict[str, Any] = {
            "session": turn.session,
            "turn": turn.id,
            "status": turn.status,
            "cost_usd": result.get("cost_usd"),
            "duration_ms": result.get("duration_ms"),
        }
        asked = self._asking.was_asked(turn.id)
        view = {"status": turn.status, "result": result}
        if is_good(view):
            name = "ask_complete" if asked else "cast_complete"
            return agent_event(record, name, **data)
        return agent_event(record, "error", **data, error=_error_of(result))


def _error_of(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    error = result.get("error")
    return None if error is None else {"code": error.get("code"), "message": str(error.get("message"))[:_MAX_WHY]}
