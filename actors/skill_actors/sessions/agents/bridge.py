"""What the program of an agent is given besides its own tools: servers of tools that lead back to whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from skill_actors.backends.agents.base import McpServer
from skill_actors.store.base import SessionRecord

__all__ = ["NO_BRIDGE", "Bridge", "BridgeOf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """Servers of tools for one conversation.

    Args:
        servers: by name.
        reads: tools of theirs, as the agent's model calls them (mcp__SERVER__TOOL), that change nothing: rules about
            such tools hold for them.

    """

    servers: Mapping[str, McpServer] = field(default_factory=dict)
    reads: frozenset[str] = frozenset()


NO_BRIDGE = Bridge()

BridgeOf = Callable[[SessionRecord], Bridge]
"""The bridge of a conversation; `NO_BRIDGE` for most. Does not wait."""
