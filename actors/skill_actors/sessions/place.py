"""One place where a conversation's tools run: an executor and its open workspace."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.base import (
    BackendUnavailable,
    Executor,
    OptionRefused,
    Workspace,
    WorkspaceSpec,
    options_for,
)
from skill_actors.backends.tools import TOOLS
from skill_actors.errors import Refused
from skill_actors.sessions.backend_choice import BackendChoice
from skill_actors.sessions.place_folders import folder_of_place
from skill_actors.sessions.surroundings import Surroundings

__all__ = ["Place"]

_KNOWN_TOOLS: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {"local": TOOLS, "docker": TOOLS}


class Place:
    """Opens the workspace when it is first needed, and anew if its backend was restarted meanwhile.

    Args:
        session: whose place it is.
        choice: the backend, what the session calls it, and the session's options.
        folder: of its files, as `folder_of_place` takes it.

    """

    __slots__ = ("_choice", "_env", "_folder", "_opened_by", "_opening", "_session", "_tools", "_workspace")

    def __init__(self, session: str, choice: BackendChoice, folder: str | None, env: Surroundings) -> None:
        self._folder = folder
        self._choice = choice
        self._session = session
        self._env = env
        self._opening: trio.Lock | None = None  # a conversation that only waits has none
        self._workspace: Workspace | None = None
        self._opened_by: Executor | None = None
        self._tools: Sequence[Mapping[str, Any]] | None = None

    @property
    def name(self) -> str:
        """What the session calls it."""
        return self._choice.name

    @property
    def backend(self) -> str:
        return self._choice.backend

    @property
    def folder(self) -> Path:
        """Of its files, on the host."""
        return folder_of_place(self._env.workspaces, self._session, self._folder)

    def executor(self) -> Executor:
        """The backend. Raises BackendUnavailable, or Refused while it is starting again."""
        try:
            executor = self._env.executors[self.backend]
        except KeyError:
            known = ", ".join(sorted(self._env.executors)) or "none"
            raise BackendUnavailable(
                f"this conversation uses the backend {self.backend!r}, which is not configured any more; "
                f"there are {known}"
            ) from None
        self._tools = executor.tools()
        return executor

    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions by its own names, also while the backend cannot be had; none if nothing is known of it."""
        try:
            return self.executor().tools()
        except (BackendUnavailable, Refused):
            return _KNOWN_TOOLS.get(self.backend, ()) if self._tools is None else self._tools

    async def open(self) -> Workspace:
        """The open workspace. Raises as `executor` does."""
        lock = self._opening = self._opening or trio.Lock()
        async with lock:
            try:
                return await self._open()
            finally:
                if lock.statistics().tasks_waiting == 0:
                    self._opening = None

    async def _open(self) -> Workspace:
        executor = self.executor()
        if self._workspace is not None and self._opened_by is not executor:
            await self.close()
        if self._workspace is None:
            self._workspace = await executor.open(self._spec(executor))
            self._opened_by = executor
            self._tell("executor.init")
        return self._workspace

    async def close(self) -> None:
        """Kill what still runs in the workspace and let go of it. May be called twice."""
        workspace, self._workspace = self._workspace, None
        if workspace is not None:
            await workspace.aclose()
            self._tell("executor.cleanup")

    def _spec(self, executor: Executor) -> WorkspaceSpec:
        """The operator's limits may have become narrower since the session was made."""
        try:
            options = options_for(executor, self._choice.options)
        except OptionRefused as refused:
            raise BackendUnavailable(str(refused)) from refused
        return WorkspaceSpec(session=self._session, root=self.folder, options=options)

    def _tell(self, event: str) -> None:
        self._env.bus.emit(event, {"system_time": time.time()}, {"executor": self.backend, "session": self._session})
