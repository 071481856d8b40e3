"""Workshop agents over real conversations: a journal, a ledger, and models or agents that are scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.models.base import Model
from skill_actors.sessions.ledger import Ledger
from skill_actors.store.documents import WorkshopEvent
from skill_actors.workshop.agents import AgentDesk, AgentSurroundings
from skill_actors.workshop.agents.crashes import CrashRules

__all__ = ["ME", "OTHER_UID", "UID", "DeskKit", "open_desk"]

UID = ME.uid
OTHER_UID = 1001


@dataclass
class DeskKit:
    """A desk of agents, and what is below it."""

    kit: Kit
    desk: AgentDesk

    async def define(self, name: str, **settings: Any) -> dict[str, Any]:
        return await self.desk.define(UID, name, settings)

    async def ask(self, name: str, text: str, **more: Any) -> dict[str, Any]:
        return await self.desk.ask(UID, name, text, **more)

    async def answer(self, name: str, text: str, **more: Any) -> str:
        """What the agent answers, if its turn ends well."""
        turn = await self.ask(name, text, **more)
        assert turn["status"] == "finished", turn
        return str(turn["result"]["text"])

    async def view(self, name: str) -> dict[str, Any]:
        return await self.desk.agents.get(UID, name)

    async def events(self) -> list[WorkshopEvent]:
        return list(await self.kit.journal.documents.events(after=0))

    async def told(self, name: str, *, count: int = 1) -> list[WorkshopEvent]:
        """Events of this name, once there are so many."""
        with trio.fail_after(20):
            while True:
                found = [event for event in await self.events() if event.name == name]
                if len(found) >= count:
                    return found
                await trio.sleep(0.01)


@asynccontextmanager
async def open_desk(
    folder: Path, model: Model, *, rules: CrashRules | None = None, max_agents: int = 1000, **options: Any
) -> AsyncIterator[DeskKit]:
    """A desk whose endings are watched, over a kit with these options."""
    options.setdefault("caps", ())
    async with open_kit(folder, model, **options) as kit, watched(kit, rules, max_agents) as desk:
        yield DeskKit(kit, desk)


@asynccontextmanager
async def watched(kit: Kit, rules: CrashRules | None = None, max_agents: int = 1000) -> AsyncIterator[AgentDesk]:
    """A desk over a kit; the one before must have gone."""
    ledger: Ledger | None = kit.manager._env.ledger
    env = AgentSurroundings(
        sessions=kit.manager,
        journal=kit.journal,
        documents=kit.journal.documents,
        ledger=ledger,
        spent=kit.journal.ledger if ledger is not None else None,
        bus=kit.bus,
        rules=rules or CrashRules(),
        max_agents=max_agents,
    )
    desk = AgentDesk(env)
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.watching.run)
        yield desk
        nursery.cancel_scope.cancel()


async def refused(code: str, call: Any, *, reason: str | None = None) -> Refused:
    """What was refused, with this code; its reason too if one is named."""
    with pytest.raises(Refused) as caught:
        await call
    assert caught.value.code == code, caught.value
    if reason is not None:
        assert caught.value.details.get("reason") == reason, caught.value
    return caught.value
