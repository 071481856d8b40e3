"""Conversations whose turns are performed by scripted agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from session_kit import Kit, open_kit
from skill_actors.testing import ScriptedModel
from skill_actors.testing.agents import ScriptedAgents

__all__ = ["AGENT", "open_agents"]

AGENT: Mapping[str, Any] = {"backends": ["scripted"]}


@asynccontextmanager
async def open_agents(
    folder: Path, agents: ScriptedAgents, others: Sequence[ScriptedAgents] = (), **kit: Any
) -> AsyncIterator[Kit]:
    """A kit with this agent backend besides, and others."""
    around = {**kit.pop("around", {}), "agents": {each.name: each for each in (agents, *others)}}
    async with open_kit(folder, ScriptedModel(), around=around, **kit) as opened:
        yield opened
