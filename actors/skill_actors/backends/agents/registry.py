"""Agent backends by name: those that come with skilld, and those that other packages offer.

A package registers a factory under the entry point group `skilld.agent_backends`. A name that is unknown, and a package
that fails to load, are errors: nothing else is ever tried instead. Command templates have the names that the operator
gives them, so that they are no part of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import trio

from skill_actors.backends.offered import load_factory
from skill_actors.backends.workers import Host

from .base import AgentBackend

__all__ = ["ENTRY_POINT_GROUP", "AgentFactory", "agent_factory", "known_agents"]

ENTRY_POINT_GROUP: Final = "skilld.agent_backends"

AgentFactory = Callable[[Mapping[str, Any], Host], AbstractAsyncContextManager[AgentBackend]]
"""Takes the operator's options of the backend, and what the process around it offers; opens the backend."""

# Named as other packages name theirs: what nobody uses is not imported.
_BUILT_IN: Final[Mapping[str, str]] = {
    "claude_cli": "skill_actors.backends.agents.claude:open_claude",
    "codex_cli": "skill_actors.backends.agents.codex:open_codex",
}


async def agent_factory(name: str) -> AgentFactory:
    """What opens the agent backend of this name. Imports it, in a thread. Raises BackendUnavailable."""
    return await trio.to_thread.run_sync(_load, name)


async def known_agents() -> tuple[str, ...]:
    """All names, sorted. Looks at the installed packages."""
    return await trio.to_thread.run_sync(_names)


def _load(name: str) -> AgentFactory:
    loaded: AgentFactory = load_factory("agent backend", name, _offered().get(name), _names())
    return loaded


def _offered() -> dict[str, EntryPoint]:
    """Ours last: a package cannot take the name of one of them."""
    offered = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    return offered | {name: EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in _BUILT_IN.items()}


def _names() -> tuple[str, ...]:
    return tuple(sorted(_offered()))
