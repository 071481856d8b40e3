"""What the backends of a conversation know of it, where several perform its turns: folded from its events. Pure.

Each goes on with a session of its own, which knows what was said in turns that this backend performed. Of the others it
has to be told. Who performs a turn the last `agent.chosen` of the turn says; where a conversation has one backend alone
there is none, and nothing is missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skill_actors.sessions.events import Event

__all__ = ["AgentMemory"]


class AgentMemory:
    """Of one conversation. Feed it its agent.session and agent.chosen events, and where turns end."""

    __slots__ = ("_performs", "_sessions", "_through")

    def __init__(self) -> None:
        self._sessions: dict[str, Mapping[str, Any]] = {}
        self._through: dict[str, int] | None = None  # None: there was one backend all the time
        self._performs: str | None = None

    def add(self, event: Event) -> None:
        """Take in an event of one of the two types."""
        backend = str(event.data.get("backend"))
        if event.type == "agent.session":
            self._sessions[backend] = event.data
            return
        self._performs = backend
        if self._through is None:
            self._through = {}

    def turn_ended(self, event: Event) -> None:
        """Take in a turn's ending. Of one that did not end well nobody can tell how far it came: it is told again."""
        if event.type == "turn.finished" and self._performs is not None and self._through is not None:
            self._through[self._performs] = event.seq
        self._performs = None

    def session(self, backend: str) -> Mapping[str, Any] | None:
        """The data of the latest agent.session event of a backend; None without one."""
        return self._sessions.get(backend)

    def knows_through(self, backend: str) -> int | None:
        """The number of the event up to which the backend's session knows the conversation; None for all of it."""
        return None if self._through is None else self._through.get(backend, 0)
