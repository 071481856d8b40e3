"""Where one conversation's tools run: its backend and its open workspace."""

from __future__ import annotations

import time

from skill_actors.backends.base import BackendUnavailable, Executor, Workspace, WorkspaceSpec
from skill_actors.sessions.surroundings import Surroundings

__all__ = ["Place"]


class Place:
    """Opens the workspace when it is first needed, and anew if its backend was restarted meanwhile."""

    __slots__ = ("_env", "_opened_by", "_session", "_workspace", "backend")

    def __init__(self, session: str, backend: str, env: Surroundings) -> None:
        self.backend = backend
        self._session = session
        self._env = env
        self._workspace: Workspace | None = None
        self._opened_by: Executor | None = None

    def executor(self) -> Executor:
        """The backend. Raises BackendUnavailable, or Refused while it is starting again."""
        try:
            return self._env.executors[self.backend]
        except KeyError:
            known = ", ".join(sorted(self._env.executors)) or "none"
            raise BackendUnavailable(
                f"this conversation uses the backend {self.backend!r}, which is not configured any more; "
                f"there are {known}"
            ) from None

    async def open(self) -> Workspace:
        """The open workspace. Raises as `executor` does."""
        executor = self.executor()
        if self._workspace is not None and self._opened_by is not executor:
            await self.close()
        if self._workspace is None:
            root = self._env.workspaces / self._session
            self._workspace = await executor.open(WorkspaceSpec(session=self._session, root=root))
            self._opened_by = executor
            self._tell("executor.init")
        return self._workspace

    async def close(self) -> None:
        """Kill what still runs in the workspace and let go of it. May be called twice."""
        workspace, self._workspace = self._workspace, None
        if workspace is not None:
            await workspace.aclose()
            self._tell("executor.cleanup")

    def _tell(self, event: str) -> None:
        self._env.bus.emit(event, {"system_time": time.time()}, {"executor": self.backend, "session": self._session})
