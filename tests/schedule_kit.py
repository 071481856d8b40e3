"""Schedules over a real store, with a clock and agents that a test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio

from skill_actors.errors import Refused
from skill_actors.store import SqliteJournal
from skill_actors.telemetry import Bus
from skill_actors.workshop.events import Feed
from skill_actors.workshop.schedules import Scheduler, Schedules, ScheduleSettings

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """The time of the day, set by the test."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def pass_s(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Agents:
    """Takes messages as agents do: one turn for each key."""

    turns: dict[tuple[int, str, str], str] = field(default_factory=dict)
    told: list[tuple[int, str, str]] = field(default_factory=list)
    busy: bool = False
    refusal: Refused | None = None

    async def cast_due(self, owner_uid: int, agent: str, text: str, *, key: str, only_idle: bool) -> str | None:
        await trio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise self.refusal
        whole = (owner_uid, agent, key)
        if whole not in self.turns:
            if self.busy and only_idle:
                return None
            self.turns[whole] = f"trn_{len(self.turns)}"
            self.told.append((owner_uid, agent, text))
        return self.turns[whole]


@dataclass
class Kit:
    schedules: Schedules
    scheduler: Scheduler
    agents: Agents
    clock: Clock
    journal: SqliteJournal

    async def after(self, seconds: float) -> float:
        """Let time pass, and run what is due."""
        self.clock.pass_s(seconds)
        return await self.scheduler.run_due()

    async def events(self) -> list[str]:
        return [event.name for event in await self.journal.documents.events(after=0)]


@asynccontextmanager
async def opened(path: Path, *, clock: Clock | None = None, agents: Agents | None = None) -> AsyncIterator[Kit]:
    clock, agents = clock or Clock(), agents or Agents()
    async with await SqliteJournal.open(path / "journal.db") as journal:
        schedules = Schedules(journal.documents, Feed(journal.documents, Bus()), now=clock)
        await schedules.open()
        yield Kit(schedules, Scheduler(schedules, agents, now=clock), agents, clock, journal)


def settings(**words: object) -> ScheduleSettings:
    return ScheduleSettings.from_json({"agent": "coder", "prompt": "look", "every_s": 60, **words})
