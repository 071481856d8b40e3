"""The agents of a daemon, for everybody who makes them, speaks to them, or waits for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from skill_actors.errors import Refused
from skill_actors.sessions.table import Viewer
from skill_actors.workshop.agents.agents import Agents
from skill_actors.workshop.agents.asking import Asking, Message, Sent
from skill_actors.workshop.agents.budget import AgentBudgets
from skill_actors.workshop.agents.folders import AgentFolders
from skill_actors.workshop.agents.handing_on import HandingOn
from skill_actors.workshop.agents.profiles import Profiles
from skill_actors.workshop.agents.roster import Roster
from skill_actors.workshop.agents.setup import Setups
from skill_actors.workshop.agents.surroundings import AgentSurroundings
from skill_actors.workshop.agents.watching import Watching
from skill_actors.workshop.git.run import Git

__all__ = ["AgentDesk"]


class AgentDesk:
    """All that can be done with agents, by noun; and what other parts of the workshop ask of them most.

    Belongs to the trio thread. `watching.run` has to run while it is used.
    """

    def __init__(self, env: AgentSurroundings, git: Git | None = None) -> None:
        self._env = env
        self._roster = Roster(env.documents, env.max_agents)
        self.folders = AgentFolders(env, self._roster, git or Git())
        self.profiles = Profiles(env)
        self.setups = Setups(env)
        self.agents = Agents(env, self._roster, self.profiles, self.setups, self.folders)
        self.budgets = AgentBudgets(env, self.agents, self.setups)
        self.asking = Asking(env, self.agents, self._roster, self.folders)
        self.handing_on = HandingOn(env, self.asking)
        self.watching = Watching(env, self._roster, self.asking)

    async def define(
        self,
        owner_uid: int,
        name: str,
        settings: Mapping[str, Any],
        *,
        replace_it: bool = True,
        maker: str | None = None,
    ) -> dict[str, Any]:
        """See `Agents.define`."""
        return await self.agents.define(owner_uid, name, settings, replace_it=replace_it, maker=maker)

    def agent_of(self, session: str) -> tuple[int, str] | None:
        """Owner and name of the agent whose conversation this is, or was; None if it is no agent's."""
        return self._roster.agent_of(session)

    async def reset(self, owner_uid: int, name: str, *, folder: str | None = None) -> dict[str, Any]:
        """See `Agents.reset`."""
        return await self.agents.reset(owner_uid, name, folder=folder)

    async def dismiss(self, owner_uid: int, name: str) -> None:
        """See `Agents.dismiss`."""
        await self.agents.dismiss(owner_uid, name)

    async def forget(self, owner_uid: int, name: str) -> None:
        """See `Agents.forget`."""
        await self.agents.forget(owner_uid, name)

    async def ask(
        self,
        owner_uid: int,
        name: str,
        text: str,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        options: Mapping[str, Any] | None = None,
        schema: Mapping[str, Any] | Literal[False] | None = None,
    ) -> dict[str, Any]:
        """Say something and wait for the end of the turn: its JSON form. See `Asking.ask`."""
        message = Message(text=text, key=key, timeout_s=timeout_s, options=options, schema=schema)
        return await self.asking.ask(owner_uid, name, message)

    async def cast(
        self,
        owner_uid: int,
        name: str,
        text: str,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        options: Mapping[str, Any] | None = None,
        schema: Mapping[str, Any] | Literal[False] | None = None,
    ) -> Sent:
        """Say something; what was accepted, with the id of its turn. See `Asking.cast`."""
        message = Message(text=text, key=key, timeout_s=timeout_s, options=options, schema=schema)
        return await self.asking.cast(owner_uid, name, message)

    async def cast_due(self, owner_uid: int, agent: str, text: str, *, key: str, only_idle: bool) -> str | None:
        """Say something at a set time: the id of the turn, that of the same key where it was said before.

        Args:
            only_idle: None, and nothing is said, where something runs or waits with the agent.

        Raises: as `Asking.cast`.
        """
        try:
            sent = await self.asking.cast(owner_uid, agent, Message(text=text, key=key, only_idle=only_idle))
        except Refused as refused:
            if only_idle and refused.details.get("reason") == "busy":
                return None
            raise
        return sent.turn

    async def await_turn(self, owner_uid: int, turn: str, wait_s: float) -> dict[str, Any]:
        """A turn once it has ended, or as it is after `wait_s` seconds. Raises Refused("not_found")."""
        return await self.asking.await_turn(owner_uid, turn, wait_s=wait_s)

    async def cancel_turn(self, owner_uid: int, turn: str) -> None:
        """Cancel a turn, running or waiting; one that has ended stays as it is. Raises Refused("not_found")."""
        await self._env.sessions.cancel_turn(turn, Viewer(uid=owner_uid))

    async def await_all(self, owner_uid: int, names: Sequence[str] | None, wait_s: float) -> Sequence[dict[str, Any]]:
        """See `Asking.await_all`."""
        return await self.asking.await_all(owner_uid, names, wait_s=wait_s)
