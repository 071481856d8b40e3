"""Conversations without a daemon: a real journal, real local tools, a scripted model, under a real supervisor."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from skill_actors.backends import Executor, open_local
from skill_actors.models.base import Model
from skill_actors.models.prices import load_prices
from skill_actors.runtime import (
    ActorSystem,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    TrioActor,
    TrioActorRef,
    open_system,
)
from skill_actors.sessions.approvals import ApprovalDesk
from skill_actors.sessions.events import Event, Position
from skill_actors.sessions.ledger import Cap, Ledger
from skill_actors.sessions.manager import SessionManager
from skill_actors.sessions.slots import TurnSlots
from skill_actors.sessions.surroundings import SessionDefaults, Surroundings
from skill_actors.sessions.table import Viewer
from skill_actors.skills import SkillCopies, load_skill
from skill_actors.skills.base import Skill, SkillSnapshot
from skill_actors.store import SqliteJournal
from skill_actors.telemetry import Bus

ME = Viewer(uid=1000)


@dataclass
class Kit:
    """What a test may look into and turn."""

    journal: SqliteJournal
    manager: SessionManager
    system: ActorSystem
    bus: Bus
    snapshot: SkillSnapshot

    async def session(self, **settings: Any) -> str:
        return str((await self.manager.create(ME.uid, settings))["id"])

    async def ask(self, session: str, text: str) -> dict[str, Any]:
        """Send, wait for the ending, and return the turn."""
        accepted = await self.manager.submit(session, ME, text)
        return await self.manager.get_turn(accepted.turn, ME, wait_s=20)

    async def events(self, session: str) -> list[Event]:
        async with self.manager.follow(session, ME, after=Position(), live=False) as events:
            return [event async for event in events]

    async def types(self, session: str) -> list[str]:
        return [event.type for event in await self.events(session) if event.type != "model.delta"]


@asynccontextmanager
async def open_kit(
    folder: Path,
    model: Model,
    *,
    skills: Sequence[Path] = (),
    defaults: SessionDefaults | None = None,
    slots: int = 32,
    wrap: Callable[[SqliteJournal], Any] = lambda journal: journal,
    around: Mapping[str, Any] | None = None,
    executors: Callable[[Executor], Mapping[str, Executor]] = lambda local: {"local": local},
    desk: Callable[[SqliteJournal, Bus], ApprovalDesk] | None = None,
    caps: Sequence[Cap] | None = None,
) -> AsyncIterator[Kit]:
    """Everything a conversation needs, in one folder; `around` has more of its Surroundings.

    With `caps`, what is used is counted in a ledger, and bounded by them.
    """
    prices, copies = load_prices(), SkillCopies(folder / "skills")
    loaded = [skill for skill in map(load_skill, skills) if isinstance(skill, Skill)]
    bus, numbers = Bus(), itertools.count()

    async def pin(wanted: Sequence[Skill]) -> Sequence[Path]:
        return [await copies.ensure(skill) for skill in wanted]

    spec = ChildSpec(id="sessions", name="sessions", factory=lambda: DynamicSupervisor("session"))
    async with (
        await SqliteJournal.open(folder / "journal.db") as journal,
        open_local() as executor,
        open_system([spec]) as system,
    ):
        env = Surroundings(
            journal=wrap(journal),
            resolve_model=lambda name: (model, name or "claude-sonnet-5-5"),
            price_usd=prices.cost_usd,
            skills=lambda: kit.snapshot,
            pin=pin,
            executors=executors(executor),
            default_backends=("local",),
            slots=TurnSlots(slots),
            workspaces=folder / "workspaces",
            bus=bus,
            defaults=defaults or SessionDefaults(),
            approvals=None if desk is None else desk(journal, bus),
            ledger=None if caps is None else Ledger(journal.ledger, prices=prices, bus=bus, caps=lambda: caps),
            **(around or {}),
        )

        supervisor = cast("DynamicSupervisorRef[DynamicSupervisor]", system.directory.ref("sessions"))

        def start(make: Callable[[], TrioActor], session: str) -> TrioActorRef[Any]:
            return supervisor._supervisor()._begin(make, f"{session}/{next(numbers)}")

        snapshot = SkillSnapshot(generation=1, skills={skill.name: skill for skill in loaded})
        kit = Kit(journal, SessionManager(env, start), system, bus, snapshot)
        await kit.manager.recover()
        yield kit
