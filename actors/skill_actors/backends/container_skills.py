"""The skills of a conversation inside its container: each a folder below SKILLS, unpacked from its pinned copy."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from . import bundles
from .container_runner import SKILLS
from .paths import PathRefused

__all__ = ["ContainerSkills"]

Operate = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


class ContainerSkills:
    """What of them is in the container.

    Args:
        limiter: of the threads that read the copies.

    """

    def __init__(self, limiter: trio.CapacityLimiter) -> None:
        self._limiter = limiter
        self._folders: dict[Path, str] = {}  # for good: the model has been told of them
        self._there: set[Path] = set()

    def forget(self) -> None:
        """The container is another one now, and empty."""
        self._there.clear()

    def path_of(self, copy: Path) -> str:
        """A folder inside, whether it is there already or not."""
        return f"{SKILLS}/{self._folder(copy)}"

    def _folder(self, copy: Path) -> str:
        if copy not in self._folders:
            name = copy.name[:16] if re.fullmatch(r"[0-9a-f]{64}", copy.name) else copy.name
            again = sum(other.rpartition("~")[0] == name or other == name for other in self._folders.values())
            self._folders[copy] = f"{name}~{again + 1}" if again else name
        return self._folders[copy]

    async def arrange(self, operate: Operate, wanted: Sequence[Path], *, alone: bool) -> None:
        """Bring in what is wanted, and take away what is not any more, if no other call may be using it.

        Raises PathRefused if one does not fit.
        """
        if alone:
            for copy in self._there.difference(wanted):
                await self._take_away(operate, copy)
        for copy in wanted:
            if copy not in self._there:
                await self._bring(operate, copy)

    async def _take_away(self, operate: Operate, copy: Path) -> None:
        self._there.discard(copy)
        await operate("drop_skill", {"folder": self._folder(copy)})

    async def _bring(self, operate: Operate, copy: Path) -> None:
        found = await trio.to_thread.run_sync(bundles.listing, str(copy), limiter=self._limiter)
        folder = self._folder(copy)
        brought = 0
        for portion in bundles.pieces(found, found):
            data = await trio.to_thread.run_sync(bundles.pack, str(copy), portion, limiter=self._limiter)
            text = base64.b64encode(data).decode("ascii")
            brought += await operate("skill", {"folder": folder, "tar": text})
        if brought < len(found):
            await self._take_away(operate, copy)  # a half would only take the room of others
            raise PathRefused(f"the skill at {self.path_of(copy)} does not fit into the container")
        self._there.add(copy)
