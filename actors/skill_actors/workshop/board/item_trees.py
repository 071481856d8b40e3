"""A worktree for each piece of work: begun fresh with each attempt, merged when the work is done, and cleaned up.

The worktree of an item is `.worktrees/ITEM` of its worker's repository, on the branch `work/ITEM`. What it is stands on
the item from the moment its agent begins, so that whatever is cut off by a crash goes on from there: a merge that was
made is found made, and a worktree that was left behind by work that is done and merged is removed when its worker
starts. Merges into one repository come one after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from skill_actors.errors import Refused
from skill_actors.workshop.board.assignment import NotDone
from skill_actors.workshop.board.item import Item
from skill_actors.workshop.git.run import Git, GitError
from skill_actors.workshop.git.worktrees import Merged, Worktree, Worktrees

__all__ = ["ItemTrees", "KeepsTrees", "Unmerged"]

_BRANCHES: Final = "work/"
_LOCKED_S: Final = (0.1, 0.3, 1.0, 3.0)  # between tries at what git has locked


class Unmerged(Exception):
    """The work is done and cannot be brought home now; the message says why. It is left where it is."""


class KeepsTrees(Protocol):
    """Worktrees of items. Errors are Refused, but for those that are named."""

    async def check(self, owner_uid: int, agent: str) -> None:
        """See that an agent's items can have worktrees."""

    async def fresh(self, owner_uid: int, agent: str, item: Item) -> str:
        """The folder of a new worktree for an attempt by this agent; what an earlier attempt has left is removed."""

    async def bring_home(self, owner_uid: int, item: Item, *, merge: bool) -> None:
        """Commit what the attempt has made and merge it. Raises NotDone for conflicts, Unmerged."""

    async def clean(self, owner_uid: int, item: Item) -> None:
        """Remove what is merged; what is not stays, and nothing is raised."""

    async def shown(self, owner_uid: int, item: Item) -> dict[str, Any] | None:
        """The item's worktree as it is now, JSON-ready; None where there is none any more."""


class ItemTrees(KeepsTrees):
    """Belongs to the trio thread.

    Args:
        project: the folder in which an agent works, by owner and name, as its owner may have it; raises Refused.

    """

    def __init__(self, git: Git, project: Callable[[int, str], Awaitable[Path]]) -> None:
        self._git = git
        self._project = project
        self._alone: defaultdict[Path, trio.Lock] = defaultdict(trio.Lock)  # by repository

    async def check(self, owner_uid: int, agent: str) -> None:
        await self._project(owner_uid, agent)

    async def fresh(self, owner_uid: int, agent: str, item: Item) -> str:
        folder, trees = await self._project(owner_uid, agent), self._trees(owner_uid, item)
        try:
            place = await trees.place(folder, item.id)
            async with self._alone[place.repository]:
                if await trees.is_left(folder, item.id):
                    await trees.discard(folder, item.id)
                tree, _ = await trees.ensure(folder, item.id)
        except GitError as error:
            raise Refused("conflict", f"worktree: {error}") from error
        return str(tree.folder)

    async def bring_home(self, owner_uid: int, item: Item, *, merge: bool) -> None:
        trees, folder = self._trees(owner_uid, item), Path(item.worktree or "")
        try:
            tree = await _where_it_was(trees, item)
            async with self._alone[tree.repository]:
                await trees.commit(folder, item.id, f"{item.id}: {item.title}")
                merged = await _merged(trees, folder, item.id) if merge else None
        except GitError as error:
            raise Unmerged(f"its worktree {folder} was left as it is: {error}") from error
        if merged is not None and not merged.merged:
            raise NotDone(f"the branch {tree.branch} cannot be merged: conflicts in {', '.join(merged.conflicts)}")

    async def clean(self, owner_uid: int, item: Item) -> None:
        if item.worktree is None or not await trio.Path(item.worktree).is_dir():
            return
        trees = self._trees(owner_uid, item)
        try:
            tree = await _where_it_was(trees, item)
            async with self._alone[tree.repository]:
                await trees.remove(tree.repository, item.id)
        except GitError:  # it holds what is nowhere else
            return

    async def shown(self, owner_uid: int, item: Item) -> dict[str, Any] | None:
        tree = await self._shown(owner_uid, item)
        return None if tree is None else {"item": item.id, "state": item.status, **tree.to_json()}

    async def _shown(self, owner_uid: int, item: Item) -> Worktree | None:
        if item.worktree is None or not await trio.Path(item.worktree).is_dir():
            return None
        try:
            return await _where_it_was(self._trees(owner_uid, item), item)
        except GitError:
            return None

    def _trees(self, owner_uid: int, item: Item) -> Worktrees:
        return Worktrees(self._git, branches=_BRANCHES, owner=f"{owner_uid}/{item.id}")


async def _where_it_was(trees: Worktrees, item: Item) -> Worktree:
    """The item's worktree. Raises GitError where its folder leads to another repository now: its agent may have."""
    folder = Path(item.worktree or "")
    if (await trees.place(folder, item.id)).folder != folder:
        raise GitError(f"{folder} does not belong to the repository any more that it was made for")
    return await trees.show(folder, item.id)


async def _merged(trees: Worktrees, folder: Path, name: str) -> Merged:
    """Merge, also where somebody works with the repository at the same moment, which git locks meanwhile."""
    for pause_s in _LOCKED_S:
        try:
            return await trees.merge(folder, name)
        except GitError as error:
            if ".lock" not in str(error):
                raise
        await trio.sleep(pause_s)
    return await trees.merge(folder, name)
