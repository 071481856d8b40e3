"""Which process is the launcher of whose program.

A program of an agent that comes to the daemon as a client is known by its descent, and by nothing that it says of
itself: whoever descends from a launcher acts for the agent that the launcher serves. A launcher is told of before its
program is started, and until nothing of it is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from skill_actors.backends.processes import started_at

__all__ = ["Programs"]


class Programs:
    """The launchers that there are. Belongs to the trio thread."""

    def __init__(self) -> None:
        self._agents: dict[tuple[int, int], str] = {}

    @contextmanager
    def running(self, launcher: int, agent: str) -> Iterator[None]:
        """A launcher serves this agent as long as the block runs.

        Args:
            launcher: its process, which has not been waited for yet.
            agent: as `AgentSpec.agent`; "" for nobody, of which nothing is noted.

        """
        started = started_at(launcher)
        if not agent or started is None:
            yield
            return
        key = (launcher, started)
        self._agents[key] = agent
        try:
            yield
        finally:
            del self._agents[key]

    def agent_of(self, process: int, started: int) -> str | None:
        """Whom a process serves as a launcher; None if it is none.

        Args:
            started: when it did, as `started_at` has it: a number of a process is used again.

        """
        return self._agents.get((process, started))
