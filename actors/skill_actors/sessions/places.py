"""All places of one conversation: executors, each with its own folder, and the hosted one, which has no executor; or
the one place of a whole agent, which performs the turns by itself.

What a session's `backends` name are its places, in their order. The first executor among them is the main place: its
tools keep their plain names, its folder is the session's own, and a skill's entry command runs there. A place that
cannot be opened keeps no other from being used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.base import BackendUnavailable, Workspace
from skill_actors.backends.native import NATIVE
from skill_actors.backends.routing import (
    HAND_OVER,
    PlaceTools,
    Route,
    RouteRefused,
    Routing,
    hand_over_tool,
    routes,
)
from skill_actors.errors import Refused
from skill_actors.sessions.agents.place import AgentPlace
from skill_actors.sessions.backend_choice import BackendChoice, choices_of
from skill_actors.sessions.place import Place
from skill_actors.sessions.place_folders import folder_of_place
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.skills.activation import LOAD_SKILL

__all__ = ["HOSTED", "Places", "folder_names", "is_executor"]

HOSTED: Final = "anthropic"
_OPEN_S: Final = 5.0  # for a place that nobody has asked for yet: a call of one of its tools waits longer

_log = logging.getLogger(__name__)


def is_executor(backend: str) -> bool:
    """Whether tools of a place of this backend are run by an executor of that name."""
    return backend not in (HOSTED, NATIVE)


def folder_names(choices: Sequence[BackendChoice]) -> Mapping[str, str | None]:
    """By the name of each place that has files: what `folder_of_place` takes."""
    with_files = [choice for choice in choices if choice.backend != NATIVE]
    main = next((choice for choice in with_files if is_executor(choice.backend)), next(iter(with_files), None))
    return {choice.name: None if choice is main else choice.name for choice in with_files}


class Places:
    """What a session's turns run in, from the first that needs it until the session is let go of.

    Args:
        session: its id.
        setting: its `backends`, or the default.

    Raises:
        ValueError: the setting is none.

    """

    __slots__ = ("_choices", "_open", "_session", "_workspaces", "agent", "executors", "hosted", "why")

    def __init__(self, session: str, setting: Sequence[Any], env: Surroundings) -> None:
        choices = self._choices = choices_of(setting)  # little is kept: there may be many thousands that wait
        self._session = session
        self._workspaces = env.workspaces
        folders = folder_names(choices)
        self.hosted = next((choice for choice in choices if choice.backend == HOSTED), None)
        self.executors = {
            choice.name: Place(session, choice, folders[choice.name], env)
            for choice in choices
            if is_executor(choice.backend) and choice.backend not in env.agents
        }
        of_agents = next((choice for choice in choices if choice.backend in env.agents), None)
        self.agent = None if of_agents is None else AgentPlace(session, of_agents, env)
        self.why: dict[str, str] = {}  # by the name of a place that could not be opened: what to tell
        self._open: dict[str, Workspace] = {}

    @property
    def backends(self) -> Mapping[str, str]:
        """Of the places, by name, in their order."""
        return {choice.name: choice.backend for choice in self._choices}

    @property
    def alone(self) -> bool:
        """Whether there is one place, so that nothing has to be told apart. Native tools ride along anywhere."""
        return len(folder_names(self._choices)) <= 1

    @property
    def main(self) -> Place | None:
        """The first executor; None if there is none."""
        return next(iter(self.executors.values()), None)

    @property
    def folder(self) -> Path:
        """The session's own, on the host."""
        return folder_of_place(self._workspaces, self._session, None)

    @property
    def folders(self) -> Mapping[str, Path]:
        """Of the places with files, on the host."""
        names = folder_names(self._choices)
        return {name: folder_of_place(self._workspaces, self._session, names[name]) for name in names}

    @property
    def open(self) -> Mapping[str, Workspace]:
        """Open workspaces, in the order of the places."""
        return {name: self._open[name] for name in self.executors if name in self._open}

    @property
    def shown(self) -> str:
        """The main place's backend, as events name it."""
        main = self.main
        return next(iter(self.backends.values())) if main is None else main.backend

    def is_confined(self, name: str) -> bool:
        """Whether what runs in a place is kept there by its backend; False while nobody can tell."""
        place = self.executors.get(name)
        try:
            return place is not None and place.executor().capabilities.sandbox not in ("none", "process")
        except (BackendUnavailable, Refused):
            return False

    async def open_all(self) -> None:
        """Open what is not open. One that cannot be is in `why`, unless it is the only place.

        Raises BackendUnavailable or Refused as `Place.open` does, if it is.
        """
        self._open.clear()
        self.why.clear()
        if self.alone:
            for name, place in self.executors.items():
                self._open[name] = await place.open()
            return
        async with trio.open_nursery() as nursery:
            for place in self.executors.values():
                nursery.start_soon(self._try, place, _OPEN_S)

    async def open_one(self, name: str, timeout_s: float) -> Workspace | None:
        """The open workspace of a place; None if it cannot be opened: `why` says the reason."""
        if name not in self._open:
            await self._try(self.executors[name], timeout_s)
        return self._open.get(name)

    async def _try(self, place: Place, timeout_s: float) -> None:
        with trio.move_on_after(timeout_s):
            try:
                self._open[place.name] = await place.open()
                self.why.pop(place.name, None)
            except (BackendUnavailable, Refused) as error:
                self.why[place.name] = str(error)
                _log.warning("the place %s cannot be used: %s", place.name, error)
            return
        self.why[place.name] = f"it could not be opened within {timeout_s:g} s"

    async def close(self) -> None:
        """Close every workspace. May be called twice."""
        async with trio.open_nursery() as nursery:
            for place in self.executors.values():
                nursery.start_soon(place.close)
            if self.agent is not None:
                nursery.start_soon(self.agent.close)
        self._open.clear()

    def routing(self) -> Routing:
        """The tools of all executors under the names that the model gets, and `hand_over` where there is a choice.

        Raises BackendUnavailable if two places would have a tool of the same name.
        """
        main = self.main
        if main is not None and self.alone:
            tools = main.tools()
            return Routing(tools, {str(tool["name"]): Route(main.name, str(tool["name"])) for tool in tools})
        of_places = [
            PlaceTools(name=place.name, backend=place.backend, tools=place.tools()) for place in self.executors.values()
        ]
        if self.hosted is not None:
            of_places.append(PlaceTools(name=self.hosted.name, backend=HOSTED, kind="hosted"))
        try:
            found = routes(of_places, reserved={HAND_OVER, LOAD_SKILL})
        except RouteRefused as refused:
            raise BackendUnavailable(f"the places of this conversation do not go together: {refused}") from refused
        if self.alone:
            return found
        return Routing([*found.tools, hand_over_tool(folder_names(self._choices))], found.by_name)
