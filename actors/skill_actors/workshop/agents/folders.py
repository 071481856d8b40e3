"""The folders that agents work in: their project's, or a worktree of its repository that each has for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skill_actors.errors import Refused
from skill_actors.workshop.agents.record import AgentRecord
from skill_actors.workshop.agents.roster import Roster
from skill_actors.workshop.agents.settings import AgentSettings
from skill_actors.workshop.agents.surroundings import AgentSurroundings
from skill_actors.workshop.git.context import GitContext
from skill_actors.workshop.git.run import Git, GitError
from skill_actors.workshop.git.worktrees import Worktrees

__all__ = ["AgentFolders"]


class AgentFolders:
    """Looks after them. Belongs to the trio thread. Results are JSON-ready."""

    def __init__(self, env: AgentSurroundings, roster: Roster, git: Git) -> None:
        self._env = env
        self._roster = roster
        self._context = GitContext(git)
        self._trees = Worktrees(git)

    async def prepared(self, owner_uid: int, name: str, settings: AgentSettings) -> str | None:
        """Where the agent works; its worktree is made, where it has one. None for no folder of its own.

        Raises:
            Refused: cwd_not_allowed; bad_request for a worktree without cwd; conflict where git does not make it.

        """
        if settings.cwd is None:
            if settings.worktree:
                raise Refused("bad_request", "worktree: name the project by cwd")
            return None
        if not settings.worktree:
            return settings.cwd
        project = await self._env.sessions.project(owner_uid, settings.cwd)  # before git looks at it
        with _refusing():
            place = await self._trees.place(Path(project), name)
            await self._env.sessions.project(owner_uid, str(place.repository))
            tree, _ = await self._trees.ensure(Path(project), name)
        return str(tree.folder)

    async def project_of(self, owner_uid: int, name: str) -> Path:
        """The folder of the project that an agent is for, which is in a repository of its owner's.

        Raises Refused: not_found, bad_request, cwd_not_allowed, conflict.
        """
        cwd = (await self._roster.get(owner_uid, name)).settings.cwd
        if cwd is None:
            raise Refused("bad_request", f"worktree: name the project of {name!r} by cwd")
        project = Path(await self._env.sessions.project(owner_uid, cwd))  # before git looks at it
        with _refusing():
            place = await self._trees.place(project, name)
        await self._env.sessions.project(owner_uid, str(place.repository))
        return project

    async def note(self, record: AgentRecord) -> str:
        """What the agent is told of its repository with a message; "" where it wants none, or there is none."""
        name, settings = record.name, record.settings
        if not settings.git_context or settings.cwd is None:
            return ""
        try:
            folder = await self._folder(name, settings) if record.folder is None else Path(record.folder)
            return await self._context.note(folder)
        except GitError:
            return ""

    async def summary(self, owner_uid: int, name: str) -> dict[str, Any]:
        """How the repository of its folder stands. Raises Refused: not_found, conflict."""
        return await self._context.summary(await self._of(owner_uid, name))

    async def diff(self, owner_uid: int, name: str) -> dict[str, Any]:
        """What is not committed there; in a worktree all that the repository lacks. Raises as `summary`."""
        settings = (await self._roster.get(owner_uid, name)).settings
        if settings.worktree:
            with _refusing():
                return await self._trees.diff(Path(settings.cwd or ""), name)
        return await self._context.diff(await self._of(owner_uid, name))

    async def worktrees(self, owner_uid: int) -> list[dict[str, Any]]:
        """The worktrees of one owner's agents, by the agents' names, those that were dismissed too."""
        found = []
        for record in await self._roster.of_owner(owner_uid):
            if record.settings.worktree and record.settings.cwd is not None:
                try:
                    tree = await self._trees.show(Path(record.settings.cwd), record.name)
                except GitError:  # it was removed
                    continue
                found.append({"agent": record.name, "state": record.state, **tree.to_json()})
        return found

    async def merge(self, owner_uid: int, name: str, *, commit: str | None = None) -> dict[str, Any]:
        """Merge an agent's worktree into its repository, or say which paths are in conflict.

        Args:
            commit: first commit what is not committed in the worktree, with this message.

        Raises:
            Refused: not_found, conflict (there is none; something is not committed there, or is in the way).

        """
        folder = await self._project(owner_uid, name)
        async with self._roster.alone(owner_uid, name):
            with _refusing():
                if commit is not None:
                    await self._trees.commit(folder, name, commit)
                return (await self._trees.merge(folder, name)).to_json()

    async def remove(self, owner_uid: int, name: str, *, force: bool) -> None:
        """Remove a dismissed agent's worktree and its branch; with `force` also what is not merged.

        Raises:
            Refused: not_found, conflict (the agent still works there; there is none; something would be lost).

        """
        folder = await self._project(owner_uid, name)
        async with self._roster.alone(owner_uid, name):
            record = await self._roster.find(owner_uid, name)
            if record is not None and record.state != "dismissed":
                raise Refused("conflict", f"agent {name!r} works in its worktree: dismiss it first")
            with _refusing():
                await self._trees.remove(folder, name, force=force)

    async def _project(self, owner_uid: int, name: str) -> Path:
        """The folder that a worktree is for, of a dismissed agent too; its owner may still have it."""
        record = await self._roster.find(owner_uid, name) or await self._roster.get(owner_uid, name)
        if not record.settings.worktree or record.settings.cwd is None:
            raise Refused("conflict", f"agent {name!r} has no worktree: it was defined without one")
        return Path(await self._env.sessions.project(owner_uid, record.settings.cwd))

    async def _of(self, owner_uid: int, name: str) -> Path:
        settings = (await self._roster.get(owner_uid, name)).settings
        if settings.cwd is None:
            raise Refused("conflict", f"agent {name!r} has no folder of its own: it was defined without cwd")
        with _refusing():
            return await self._folder(name, settings)

    async def _folder(self, name: str, settings: AgentSettings) -> Path:
        folder = Path(settings.cwd or "")
        return (await self._trees.place(folder, name)).folder if settings.worktree else folder


@contextmanager
def _refusing() -> Iterator[None]:
    """What git does not do is refused."""
    try:
        yield
    except GitError as error:
        raise Refused("conflict", str(error)) from error
