"""How the repository of an agent's folder stands, as the agent is told with each message, and as its owner sees it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.workshop.git.run import Git, GitError
from skill_actors.workshop.git.status import LOG_FORMAT, GitStatus, parse_log, parse_status, shown

__all__ = ["GitContext"]

_log = logging.getLogger(__name__)
_COMMITS: Final = 10
_SHALLOW: Final = ("--ignore-submodules=dirty",)  # to look into one could start what its configuration names


class GitContext:
    """Looks at the repositories of agents' folders."""

    def __init__(self, git: Git) -> None:
        self._git = git

    async def note(self, folder: Path) -> str:
        """What an agent is told of its repository with a message; "" where there is none."""
        try:
            return shown(await self._status(folder))
        except GitError as error:  # a message is not held up by what it is only told besides
            _log.info("an agent is told nothing of its repository: %s", error)
            return ""

    async def summary(self, folder: Path) -> dict[str, Any]:
        """How it stands, JSON-ready. Raises Refused("conflict") where there is no repository."""
        try:
            return (await self._status(folder)).to_json()
        except GitError as error:
            raise Refused("conflict", str(error)) from error

    async def diff(self, folder: Path) -> dict[str, Any]:
        """What is not committed, as a patch: {"diff", "cut"}. Raises Refused("conflict")."""
        try:
            head = await self._git.run(folder, "rev-parse", "--verify", "--quiet", "HEAD", ok=(0, 1))
            against = ("HEAD",) if head.code == 0 else ("--cached",)
            found = await self._git.run(folder, "diff", *_SHALLOW, "--no-ext-diff", "--no-textconv", *against)
        except GitError as error:
            raise Refused("conflict", str(error)) from error
        return {"diff": found.text, "cut": found.cut}

    async def _status(self, folder: Path) -> GitStatus:
        told = ("--porcelain=v2", "--branch", "-z", "--untracked-files=normal")
        found = await self._git.run(folder, "status", *told, *_SHALLOW)
        status = parse_status(found.text)
        if status.sha is None:
            return status
        log = await self._git.run(folder, "log", f"--max-count={_COMMITS}", f"--format={LOG_FORMAT}", "HEAD")
        return parse_status(found.text, parse_log(log.text))
