"""Worktrees: a folder and a branch of its own for each who works in a repository, and the way back.

A worktree of NAME is the folder `.worktrees/NAME` in the repository's own, with the branch `agents/NAME` checked out,
or `work/NAME` where it is for a piece of work. Whose it is stands in git's folder of it, and of a piece of work also
with its branch, before that is made: nobody takes up another's, and what was cut off in the middle is known.
Merging looks first whether it can be done without conflicts, in memory: where it cannot, nothing is touched and the
paths are named.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.workshop.git.patch import patch_since
from skill_actors.workshop.git.run import Git, GitError
from skill_actors.workshop.git.status import parse_status

__all__ = ["Merged", "Worktree", "Worktrees"]

_FOLDER: Final = ".worktrees"
_BRANCHES: Final = "agents/"
_OWNER: Final = "skilld-owner"  # a file in git's folder of the worktree
_BRANCH_OWNER: Final = "branch.{branch}.skilldowner"  # in the repository's configuration; goes with the branch
_CONFLICT: Final = 1  # as `git merge` says that it has begun a merge and cannot end it
_SLOW_S: Final = 60.0  # for what writes a whole working tree
# What is in a repository within the worktree is its own: to look into it could start what its configuration names.
_STATUS: Final = ("status", "--porcelain=v2", "--ignore-submodules=dirty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worktree:
    """One agent's worktree.

    Args:
        repository: the folder of the repository that it belongs to.
        folder: where it is.
        branch: what is checked out there.
        ahead: commits of the branch that the repository's own branch lacks.
        changed: paths in it that are not committed.

    """

    name: str
    repository: Path
    folder: Path
    branch: str
    ahead: int = 0
    changed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "repository": str(self.repository),
            "folder": str(self.folder),
            "branch": self.branch,
            "ahead": self.ahead,
            "changed": list(self.changed),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What became of a merge: the commit that the repository is at, or the paths that are in conflict."""

    merged: bool
    commit: str
    conflicts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"merged": self.merged, "commit": self.commit, "conflicts": list(self.conflicts)}


class Worktrees:
    """Makes worktrees, merges them back, and cleans up. All methods raise GitError.

    Args:
        branches: what the names of their branches begin with.
        owner: whose they are; "" are those of agents.

    """

    def __init__(self, git: Git, *, branches: str = _BRANCHES, owner: str = "") -> None:
        self._git = git
        self._slow = replace(git, timeout_s=max(git.timeout_s, _SLOW_S))
        self._branches = branches
        self._owner = owner

    async def place(self, folder: Path, name: str) -> Worktree:
        """Where the worktree of this name is, or would be, for the repository that `folder` is in."""
        # Of the main folder, also where `folder` is in a worktree: it has the one .git that is a folder.
        found = await self._text(folder, "rev-parse", "--path-format=absolute", "--git-common-dir")
        repository = Path(found).parent
        if Path(found).name != ".git":
            raise GitError(f"{folder} is in a repository without a working tree: {found}")
        return Worktree(
            name=name, repository=repository, folder=repository / _FOLDER / name, branch=f"{self._branches}{name}"
        )

    async def ensure(self, folder: Path, name: str) -> tuple[Worktree, bool]:
        """The worktree of this name, and whether it was made just now, from what is checked out in `folder`."""
        tree = await self.place(folder, name)
        if await self._is_there(tree):
            await self._check_owner(tree)
            return await self.show(folder, name), False
        await trio.to_thread.run_sync(_prepare, tree.folder.parent)
        await self._hide(tree)
        has_branch = await self._has_branch(tree)
        if self._owner:
            await self._claim(tree, taken=has_branch)
        begin = (str(tree.folder), tree.branch) if has_branch else ("-b", tree.branch, str(tree.folder))
        await self._git.run(tree.repository, "worktree", "prune")
        with trio.CancelScope(shield=True):  # else there would be half of one
            await self._slow.run(tree.repository, "worktree", "add", *begin)
        if self._owner:
            await trio.Path(await self._own_folder(tree), _OWNER).write_text(self._owner)
        return await self.show(folder, name), True

    async def show(self, folder: Path, name: str) -> Worktree:
        """The worktree as it is now. Raises GitError also where there is none."""
        tree = await self._get(folder, name)
        status = await self._git.run(tree.folder, *_STATUS, "--branch", "-z")
        ahead = await self._text(tree.repository, "rev-list", "--count", f"HEAD..{tree.branch}")
        return Worktree(
            name=name,
            repository=tree.repository,
            folder=tree.folder,
            branch=tree.branch,
            ahead=int(ahead),
            changed=tuple(parse_status(status.text).changed),
        )

    async def list(self, folder: Path) -> list[Worktree]:
        """All worktrees of this owner in the repository that `folder` is in, by name."""
        repository = (await self.place(folder, "any")).repository
        listed = await self._git.run(repository, "worktree", "list", "--porcelain", "-z")
        below = repository / _FOLDER
        paths = [Path(line[9:]) for line in listed.text.split("\0") if line.startswith("worktree ")]
        found = []
        for name in sorted(path.name for path in paths if path.parent == below and path.is_dir()):
            tree = await self.place(folder, name)
            if await self._leads_home(tree) and await self._owner_of(tree) == self._owner:
                found.append(await self.show(folder, name))
        return found

    async def diff(self, folder: Path, name: str) -> dict[str, Any]:
        """What the worktree has changed since it left the repository's branch, as a patch: {"diff", "cut"}.

        What is not committed in it counts, files that git does not know yet included.
        """
        tree = await self._get(folder, name)
        base = await self._text(tree.repository, "merge-base", "HEAD", tree.branch)
        found = await patch_since(self._git, tree.folder, base)
        return {"diff": found.text, "cut": found.cut}

    async def commit(self, folder: Path, name: str, message: str) -> bool:
        """Commit all that the worktree has; False where there was nothing."""
        tree = await self.show(folder, name)
        if not tree.changed:
            return False
        await self._slow.run(tree.folder, "add", "--all")
        await self._slow.run(tree.folder, *await self._identity(tree.folder), "commit", "--quiet", "-m", message)
        return True

    async def merge(self, folder: Path, name: str) -> Merged:
        """Merge the worktree's branch into what the repository has checked out, or say what is in the way.

        Raises: GitError also where something is not committed in the worktree, or is changed in the repository that the
        merge would change. Nothing was touched then.
        """
        tree = await self.show(folder, name)
        if tree.changed:
            raise GitError(f"{len(tree.changed)} files are not committed in {tree.folder}; commit them first")
        tried = await self._git.run(
            tree.repository, "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", "HEAD", tree.branch,
            ok=(0, 1),
        )  # fmt: skip
        if tried.code == 1:
            conflicts = tuple(dict.fromkeys(path for path in tried.text.split("\0")[1:] if path))
            return Merged(merged=False, commit=await self._head(tree.repository), conflicts=conflicts)
        who = await self._identity(tree.repository)
        with trio.CancelScope(shield=True):  # else somebody's repository would stay locked, in the middle of it
            done = await self._slow.run(
                tree.repository, *who, "merge", "--quiet", "--no-edit", tree.branch, ok=(0, _CONFLICT)
            )
            if done.code == _CONFLICT:  # the repository has changed since we looked, or is set up to merge otherwise
                await self._slow.run(tree.repository, "merge", "--abort", ok=(0, 128))
                raise GitError(f"git merge: {done.text.strip() or done.error or 'conflicts'}; nothing was changed")
        return Merged(merged=True, commit=await self._head(tree.repository))

    async def remove(self, folder: Path, name: str, *, force: bool = False) -> None:
        """Remove the worktree and its branch.

        Args:
            force: also if something in it is not committed, or not merged: that is lost then.

        """
        tree = await self.show(folder, name)
        if not force and (tree.changed or tree.ahead):
            raise GitError(
                f"the worktree {name} has {len(tree.changed)} files that are not committed, and {tree.ahead} commits "
                "that are not merged; force it, and they are lost"
            )
        await self._git.run(tree.repository, "worktree", "remove", "--force", str(tree.folder))
        await self._git.run(tree.repository, "branch", "--quiet", "-D", tree.branch)

    async def is_left(self, folder: Path, name: str) -> bool:
        """Whether there is anything of it: its folder, or a branch that is this owner's."""
        tree = await self.place(folder, name)
        there = await trio.to_thread.run_sync(os.path.lexists, tree.folder)
        return there or (await self._has_branch(tree) and await self._owner_of_branch(tree) == self._owner)

    async def discard(self, folder: Path, name: str) -> None:
        """Remove what there is of a worktree of a piece of work, whatever it holds, and also where it is half made.

        Raises GitError also where it may be somebody else's.
        """
        tree = await self.place(folder, name)
        if await self._owner_of_branch(tree) != self._owner:
            await self.remove(folder, name, force=True)
            return
        await trio.to_thread.run_sync(_remove_tree, tree.folder)
        await self._git.run(tree.repository, "worktree", "remove", "--force", "--force", str(tree.folder), ok=(0, 128))
        await self._git.run(tree.repository, "branch", "--quiet", "-D", tree.branch, ok=(0, 1))

    async def _claim(self, tree: Worktree, *, taken: bool) -> None:
        """Write down whose the branch is, before it is made."""
        if taken:
            raise GitError(f"there is a branch {tree.branch} already, which may be somebody else's: rename it")
        await self._git.run(tree.repository, "config", _BRANCH_OWNER.format(branch=tree.branch), self._owner)

    async def _has_branch(self, tree: Worktree) -> bool:
        found = await self._git.run(
            tree.repository, "show-ref", "--verify", "--quiet", f"refs/heads/{tree.branch}", ok=(0, 1)
        )
        return found.code == 0

    async def _owner_of_branch(self, tree: Worktree) -> str:
        name = _BRANCH_OWNER.format(branch=tree.branch)
        found = await self._git.run(tree.repository, "config", "--local", "--get", name, ok=(0, 1))
        return found.text.rstrip("\n") if found.code == 0 else ""

    async def _get(self, folder: Path, name: str) -> Worktree:
        tree = await self.place(folder, name)
        if not await self._is_there(tree):
            raise GitError(f"there is no worktree {name} in {tree.repository}")
        await self._check_owner(tree)
        return tree

    async def _check_owner(self, tree: Worktree) -> None:
        if not await self._leads_home(tree):
            raise GitError(f"{tree.folder} does not belong to the repository any more that it was made for")
        if await self._owner_of(tree) != self._owner and not await self._was_cut_off(tree):
            raise GitError(f"{tree.folder} is somebody else's: take another name")

    async def _leads_home(self, tree: Worktree) -> bool:
        """Whether it belongs to its repository: who works in it can have it lead to another, set up as they like."""
        try:
            return (await self.place(tree.folder, tree.name)).folder == tree.folder
        except GitError:
            return False

    async def _owner_of(self, tree: Worktree) -> str:
        file = trio.Path(await self._own_folder(tree), _OWNER)
        try:
            return await file.read_text() if await file.is_file() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise GitError(f"{file} cannot be read: {error}") from error

    async def _was_cut_off(self, tree: Worktree) -> bool:
        """Whether it was just being made for this owner, and there is nothing in it that could be lost."""
        if not self._owner or await self._owner_of(tree):
            return False
        head = await self._git.run(tree.folder, "symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1))
        status = await self._git.run(tree.folder, *_STATUS, "-z")
        ahead = await self._git.run(tree.repository, "rev-list", "--count", f"HEAD..{tree.branch}", ok=(0, 128))
        return (head.text.strip(), status.text, ahead.text.strip()) == (tree.branch, "", "0")

    async def _own_folder(self, tree: Worktree) -> str:
        """Git's folder of the worktree."""
        return await self._text(tree.folder, "rev-parse", "--absolute-git-dir")

    async def _is_there(self, tree: Worktree) -> bool:
        return await trio.Path(tree.folder / ".git").is_file()

    async def _hide(self, tree: Worktree) -> None:
        """Keep the folder of worktrees out of what the repository shows as new, without a file of its own for it."""
        exclude = Path(await self._text(tree.repository, "rev-parse", "--path-format=absolute", "--git-path", "info"))
        await trio.to_thread.run_sync(_add_line, exclude / "exclude", f"/{_FOLDER}/")

    async def _identity(self, folder: Path) -> tuple[str, ...]:
        """Whoever the repository says commits, else we."""
        found = await self._git.run(folder, "config", "--get", "user.email", ok=(0, 1))
        return () if found.code == 0 else ("-c", "user.name=skilld", "-c", "user.email=skilld@localhost")

    async def _head(self, folder: Path) -> str:
        return await self._text(folder, "rev-parse", "HEAD")

    async def _text(self, folder: Path, *args: str) -> str:
        return (await self._git.run(folder, *args)).text.rstrip("\n")


def _prepare(folder: Path) -> None:
    """Make the folder of worktrees. Raises GitError where it is elsewhere: a link may lead anywhere."""
    if folder.is_symlink():
        raise GitError(f"{folder} is a symbolic link")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise GitError(f"{folder} cannot be made: {error.strerror}") from error


def _remove_tree(folder: Path) -> None:
    try:
        if folder.is_symlink():
            raise GitError(f"{folder} is a symbolic link")
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise GitError(f"{folder} cannot be removed: {error}") from error


def _add_line(file: Path, line: str) -> None:
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if line not in text.splitlines():
            file.parent.mkdir(exist_ok=True)
            with file.open("a", encoding="utf-8") as out:
                out.write(f"{line}\n" if not text or text.endswith("\n") else f"\n{line}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GitError(f"{file} cannot be written: {error}") from error
