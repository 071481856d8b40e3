"""Agents of board workers that play a script in memory. As conversations do, they outlive the workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from skill_actors.errors import Refused
from skill_actors.workshop.board.hand import CommandResult

__all__ = ["PlayedAgents", "PlayedCommands", "PlayedTurn"]

Play = Callable[[str, str], Awaitable[Mapping[str, Any]]]


@dataclass
class PlayedTurn:
    """One turn: who performs it, what it was told, and what has come of it."""

    id: str
    agent: str
    text: str
    ended: trio.Event = field(default_factory=trio.Event)
    status: str = "running"
    result: Mapping[str, Any] | None = None

    def end(self, status: str, **result: Any) -> None:
        if not self.ended.is_set():
            self.status, self.result = status, result
            self.ended.set()


async def answer_ok(agent: str, text: str) -> Mapping[str, Any]:
    """An agent that is always done at once."""
    return {"text": f"done: {text.splitlines()[0]}", "stop_reason": "end_turn"}


class PlayedAgents:
    """Any number of agents.

    Args:
        nursery: where turns run, whatever becomes of the workers.
        play: what an agent answers to a text: the result of a turn; raises Refused to have the turn fail.

    """

    def __init__(self, nursery: trio.Nursery, play: Play = answer_ok) -> None:
        self._nursery = nursery
        self._play = play
        self._current: dict[str, PlayedTurn] = {}
        self._keys: dict[str, PlayedTurn] = {}
        self.settings: dict[str, Mapping[str, Any]] = {}
        self.turns: dict[str, PlayedTurn] = {}
        self.cancelled: list[str] = []
        self.dismissed: list[str] = []
        self.refusals: list[Refused] = []  # of the next messages
        self.folders: list[str | None] = []  # where each was to work
        self.schemas: list[Mapping[str, Any] | None] = []

    async def prepare(self, owner_uid: int, name: str, settings: Mapping[str, Any], *, worker: str) -> None:
        await trio.lowlevel.checkpoint()
        if settings.get("profile") == "ghost":
            raise Refused("not_found", "there is no profile 'ghost'")
        self.settings[name] = settings

    async def begin(
        self,
        owner_uid: int,
        name: str,
        text: str,
        *,
        key: str,
        schema: Mapping[str, Any] | None,
        folder: str | None = None,
    ) -> str:
        await trio.lowlevel.checkpoint()
        self.folders.append(folder)
        if self.refusals:
            raise self.refusals.pop(0)
        if name in self._current:
            self._current[name].end("cancelled", error={"code": "cancelled", "message": "another conversation"})
        turn = PlayedTurn(id=f"trn_{len(self.turns)}", agent=name, text=text)
        self.turns[turn.id] = self._current[name] = turn
        self.schemas.append(schema)
        self._nursery.start_soon(self._perform, turn)
        return turn.id

    async def _perform(self, turn: PlayedTurn) -> None:
        with trio.CancelScope() as scope:
            self._nursery.start_soon(self._watch, turn, scope)
            try:
                turn.end("finished", **await self._play(turn.agent, turn.text))
            except Refused as error:
                turn.end("failed", error={"code": error.code, "message": error.message})

    async def _watch(self, turn: PlayedTurn, scope: trio.CancelScope) -> None:
        await turn.ended.wait()
        scope.cancel()

    async def ended(self, owner_uid: int, turn: str) -> Mapping[str, Any]:
        found = self.turns[turn]
        await found.ended.wait()
        return {"turn": turn, "session": "ses_x", "status": found.status, "result": found.result}

    async def cancel(self, owner_uid: int, turn: str) -> None:
        await trio.lowlevel.checkpoint()
        self.cancelled.append(turn)
        self.turns[turn].end("cancelled", error={"code": "cancelled", "message": "cancelled"})

    async def dismiss(self, owner_uid: int, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self.dismissed.append(name)

    async def last_result(self, owner_uid: int, name: str) -> tuple[str, str]:
        await trio.lowlevel.checkpoint()
        found = [turn for turn in self.turns.values() if turn.agent == name and turn.status == "finished"]
        if not found:
            raise Refused("conflict", f"agent {name!r} has answered nothing yet")
        assert found[-1].result is not None
        return str(found[-1].result["text"]), found[-1].id


@dataclass
class PlayedCommands:
    """Commands that pass or fail as they are told."""

    results: list[CommandResult] = field(default_factory=list)
    run_with: list[tuple[str, Sequence[str]]] = field(default_factory=list)

    async def run(self, owner_uid: int, session: str, argv: Sequence[str], timeout_s: float) -> CommandResult:
        await trio.lowlevel.checkpoint()
        self.run_with.append((session, argv))
        return self.results.pop(0) if self.results else CommandResult(passed=True)
