"""The agent of a conversation: its session with the backend, kept between turns for as long as the actor lives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skill_actors.backends.agents.base import AgentBackend, AgentSession, AgentSpec
from skill_actors.backends.base import BackendUnavailable, OptionRefused
from skill_actors.sessions.agents.memory import AgentMemory
from skill_actors.sessions.backend_choice import BackendChoice, Fallback
from skill_actors.sessions.place_folders import folder_of_place
from skill_actors.sessions.surroundings import Surroundings

__all__ = ["AgentPlace", "StoredAgent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAgent:
    """What is stored of a backend's session, so that it goes on after whatever happened: an agent.session event.

    Args:
        backend: whose session it is.
        session_id: the backend's; None if it has told none.
        totals: as `AgentSession.totals` was.

    """

    backend: str
    session_id: str | None = None
    totals: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, memory: AgentMemory | None, backend: str) -> StoredAgent:
        """From the conversation's latest event of this backend, if there is one."""
        data = None if memory is None else memory.session(backend)
        if data is None:
            return cls(backend=backend)
        session_id = data.get("session_id")
        return cls(backend=backend, session_id=session_id, totals=dict(data.get("totals") or {}))

    def to_dict(self) -> dict[str, Any]:
        """The event's data."""
        return {"backend": self.backend, "session_id": self.session_id, "totals": dict(self.totals)}


class AgentPlace:
    """Where a conversation's agent is. Belongs to the Session actor.

    Args:
        session: whose it is.
        choice: the backend and the session's options.
        instead: as what this place stands in for another one; None for the conversation's own.

    Attributes:
        others: the places that stand in for this one, in their order.

    """

    __slots__ = ("_choice", "_env", "_instead", "_opened_by", "_opened_with", "_running", "_session", "others")

    def __init__(
        self, session: str, choice: BackendChoice, env: Surroundings, *, instead: Fallback | None = None
    ) -> None:
        self._session = session
        self._choice = choice
        self._env = env
        self._instead = instead
        self.others: Sequence[AgentPlace] = tuple(
            AgentPlace(session, BackendChoice(each.backend, each.backend, each.options), env, instead=each)
            for each in choice.fallback
        )
        self._running: AgentSession | None = None
        self._opened_by: AgentBackend | None = None
        self._opened_with: AgentSpec | None = None

    @property
    def name(self) -> str:
        """What the session calls it."""
        return self._choice.name

    @property
    def backend(self) -> str:
        return self._choice.backend

    def model_of(self, model: str | None) -> str | None:
        """The model here where the conversation, or a turn of it, has this one: names are of the first backend."""
        return model if self._instead is None else self._instead.model

    @property
    def folder(self) -> Path:
        """The session's own, on the host."""
        return folder_of_place(self._env.workspaces, self._session, None)

    def agents(self) -> AgentBackend:
        """The backend. Raises BackendUnavailable, or Refused while it is starting again."""
        try:
            return self._env.agents[self.backend]
        except KeyError:
            known = ", ".join(sorted(self._env.agents)) or "none"
            raise BackendUnavailable(
                f"this conversation is one of the agent backend {self.backend!r}, which is not configured any more; "
                f"there are {known}"
            ) from None

    async def open(self, spec: AgentSpec, stored: StoredAgent) -> AgentSession:
        """The session with the backend: the one that is open, if nothing about it has changed.

        Args:
            spec: how it is to be, but for what `stored` and the session's options say.
            stored: what the conversation knows of it.

        Raises: BackendUnavailable, Refused, AgentError.
        """
        backend = self.agents()
        wanted = replace(spec, agent=self._session, options=self._options(backend))
        running = self._running
        if running is not None and (
            self._opened_by is not backend
            or self._opened_with != wanted
            or (running.session_id or stored.session_id) != stored.session_id
        ):
            await self.rest()
        if self._running is None:
            begun = replace(wanted, session_id=stored.session_id, totals=stored.totals)
            self._running = await backend.start_session(begun)
            self._opened_by, self._opened_with = backend, wanted
        return self._running

    async def close(self) -> None:
        """End the processes of its agent, and of those that stand in for it; sessions go on from what is stored.

        May be called twice.
        """
        await self.rest()
        for other in self.others:
            await other.rest()

    async def rest(self) -> None:
        """End the agent's processes; its session goes on from what is stored. May be called twice."""
        running, self._running = self._running, None
        self._opened_by = self._opened_with = None
        if running is not None:
            await running.stop_session()

    def _options(self, backend: AgentBackend) -> Mapping[str, Any]:
        """The operator's limits may have become narrower since the session was made."""
        try:
            return backend.check_options(self._choice.options)
        except OptionRefused as refused:
            raise BackendUnavailable(str(refused)) from refused
