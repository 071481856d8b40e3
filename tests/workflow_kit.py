"""Runs of workflows over a real store, with agents that do what a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.intake import Accepted
from skill_actors.store import SqliteJournal
from skill_actors.telemetry import Bus
from skill_actors.workshop.agents.asking import Message, Sent
from skill_actors.workshop.board.board import Board
from skill_actors.workshop.events import Feed
from skill_actors.workshop.workflows.run import Run
from skill_actors.workshop.workflows.runner import Runner
from skill_actors.workshop.workflows.runs import Runs

OWNER = 1000
Answer = Callable[[str, Message], Mapping[str, Any]]


def said(text: str, cost_usd: float | None = 0.0) -> dict[str, Any]:
    """A turn that has finished."""
    return {"status": "finished", "result": {"text": text, "cost_usd": cost_usd, "stop_reason": "end_turn"}}


def broke(code: str = "model_down", status: str = "failed") -> dict[str, Any]:
    """One that has not."""
    return {"status": status, "result": {"text": "half", "cost_usd": 0.0, "error": {"code": code, "message": "no"}}}


@dataclass
class ScriptedAgents:
    """Takes each message once under its key, as agents do; they outlive the runner, as a store does.

    `answer` is asked when a turn ends; a turn takes `takes_s`.
    """

    answer: Answer = field(default=lambda agent, message: said(f"{agent}: {message.text}"))
    takes_s: float = 0.0
    turns: dict[str, tuple[str, Message]] = field(default_factory=dict)
    by_key: dict[tuple[str, str], str] = field(default_factory=dict)
    ended: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    made: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    refusal: Refused | None = None

    async def cast(
        self,
        owner_uid: int,
        name: str,
        text: str,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Sent:
        message = Message(text=text, key=key, timeout_s=timeout_s, options=options)
        await trio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise self.refusal
        assert owner_uid == OWNER
        assert key is not None
        whole = (name, key)
        if whole not in self.by_key:
            turn = f"trn_{len(self.turns)}"
            self.turns[turn] = (name, message)
            self.by_key[whole] = turn
        else:
            assert self.turns[self.by_key[whole]][1] == message, "another message under the same key"
        return Sent(
            agent=name,
            accepted=Accepted(turn=self.by_key[whole], session="ses", seq=1, status="queued", duplicate=False),
        )

    async def await_turn(self, owner_uid: int, turn: str, wait_s: float) -> Mapping[str, Any]:
        await trio.sleep(self.takes_s)
        if turn not in self.ended:
            self.ended[turn] = self.answer(*self.turns[turn])
        return self.ended[turn]

    async def cancel_turn(self, owner_uid: int, turn: str) -> None:
        await trio.lowlevel.checkpoint()
        self.cancelled.append(turn)

    async def define(
        self, owner_uid: int, name: str, settings: Mapping[str, Any], *, replace_it: bool = True
    ) -> object:
        await trio.lowlevel.checkpoint()
        if name in self.made and not replace_it:
            raise Refused("conflict", f"there is an agent {name!r} already")
        self.made[name] = settings
        return None

    async def forget(self, owner_uid: int, name: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.made.pop(name, None) is None:
            raise Refused("not_found", f"there is no agent {name!r}")

    def told(self, agent: str) -> list[str]:
        """All that an agent was told."""
        return [message.text for name, message in self.turns.values() if name == agent]


@dataclass
class WorkflowKit:
    runs: Runs
    runner: Runner
    agents: ScriptedAgents
    board: Board
    journal: SqliteJournal

    async def perform(self, definition: Mapping[str, Any], **arguments: str) -> Run:
        """Begin a run and wait for its end, as long as the test's time allows."""
        await self.runs.define(OWNER, "flow", definition)
        run = await self.runs.begin(OWNER, "flow", arguments)
        return await self.runs.wait_ended(OWNER, run.id, 1e9)

    async def events(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [(event.name, event.data) for event in await self.journal.documents.events(after=0)]


@asynccontextmanager
async def open_workflows(path: Path, agents: ScriptedAgents | None = None) -> AsyncIterator[WorkflowKit]:
    """Leaving it is what a kill is: nothing is ended, and whatever was not stored is gone."""
    agents = agents or ScriptedAgents()
    async with await SqliteJournal.open(path / "journal.db") as journal:
        feed = Feed(journal.documents, Bus())
        board = Board(journal.documents, feed.apply)
        runs = Runs(journal.documents, feed)
        await runs.open()
        runner = Runner(runs, agents, board)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run)
            yield WorkflowKit(runs, runner, agents, board, journal)
            nursery.cancel_scope.cancel()


def stage(name: str, **words: Any) -> dict[str, Any]:
    """A stage of the agent `worker` unless it says otherwise."""
    who = {} if {"agent", "profile", "type"} & set(words) else {"agent": "worker"}
    return {"name": name, "prompt": f"do {name}", **who, **words}
