"""Worktrees: a folder and a branch of its own for each agent that works in a repository, and the way back.

A worktree of NAME is the folder `.worktrees/NAME` in the repository's own, with the branch `agents/NAME` checked out.
Merging looks first whether it can be done without conflicts, in memory: where it cannot, nothing is touched and the
paths are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.workshop.git.run import Git, GitError
from skill_actors.workshop.git.status import parse_status

__all__ = ["Merged", "Worktree", "Worktrees"]

_FOLDER: Final = ".worktrees"
_BRANCHES: Final = "agents/"


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
    """Makes worktrees, merges them back, and cleans up. All methods raise GitError."""

    def __init__(self, git: Git) -> None:
        self._git = git

    async def place(self, folder: Path, name: str) -> Worktree:
        """Where the worktree of this name is, or would be, for the repository that `folder` is in."""
        # Of the main folder, also where `folder` is in a worktree: it has the one .git that is a folder.
        found = await self._text(folder, "rev-parse", "--path-format=absolute", "--git-common-dir")
        repository = Path(found).parent
        if Path(found).name != ".git":
            raise GitError(f"{folder} is in a repository without a working tree: {found}")
        return Worktree(
            name=name, repository=repository, folder=repository / _FOLDER / name, branch=f"{_BRANCHES}{name}"
        )

    async def ensure(self, folder: Path, name: str) -> tuple[Worktree, bool]:
        """The worktree of this name, and whether it was made just now, from what is checked out in `folder`."""
        tree = await self.place(folder, name)
        if await self._is_there(tree):
            return await self.show(folder, name), False
        await trio.to_thread.run_sync(_prepare, tree.folder.parent)
        await self._hide(tree)
        has_branch = await self._git.run(
            folder, "show-ref", "--verify", "--quiet", f"refs/heads/{tree.branch}", ok=(0, 1)
        )
        begin = (str(tree.folder), tree.branch) if has_branch.code == 0 else ("-b", tree.branch, str(tree.folder))
        await self._git.run(tree.repository, "worktree", "prune")
        await self._git.run(tree.repository, "worktree", "add", *begin)
        return await self.show(folder, name), True

    async def show(self, folder: Path, name: str) -> Worktree:
        """The worktree as it is now. Raises GitError also where there is none."""
        tree = await self._get(folder, name)
        status = await self._git.run(tree.folder, "status", "--porcelain=v2", "--branch", "-z")
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
        """All worktrees of agents in the repository that `folder` is in, by name."""
        repository = (await self.place(folder, "any")).repository
        listed = await self._git.run(repository, "worktree", "list", "--porcelain", "-z")
        below = repository / _FOLDER
        paths = [Path(line[9:]) for line in listed.text.split("\0") if line.startswith("worktree ")]
        names = sorted(path.name for path in paths if path.parent == below and path.is_dir())
        return [await self.show(folder, name) for name in names]

    async def diff(self, folder: Path, name: str) -> dict[str, Any]:
        """What the worktree has changed since it left the repository's branch, as a patch: {"diff", "cut"}.

        What is not committed in it counts, but for files that git does not know yet.
        """
        tree = await self._get(folder, name)
        base = await self._text(tree.repository, "merge-base", "HEAD", tree.branch)
        found = await self._git.run(tree.folder, "diff", "--no-ext-diff", "--no-textconv", base)
        return {"diff": found.text, "cut": found.cut}

    async def commit(self, folder: Path, name: str, message: str) -> bool:
        """Commit all that the worktree has; False where there was nothing."""
        tree = await self.show(folder, name)
        if not tree.changed:
            return False
        await self._git.run(tree.folder, "add", "--all")
        await self._git.run(tree.folder, *await self._identity(tree.folder), "commit", "--quiet", "-m", message)
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
        await self._git.run(tree.repository, *who, "merge", "--quiet", "--no-edit", tree.branch)
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

    async def _get(self, folder: Path, name: str) -> Worktree:
        tree = await self.place(folder, name)
        if not await self._is_there(tree):
            raise GitError(f"there is no worktree {name} in {tree.repository}")
        return tree

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


def _add_line(file: Path, line: str) -> None:
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if line not in text.splitlines():
            file.parent.mkdir(exist_ok=True)
            with file.open("a", encoding="utf-8") as out:
                out.write(f"{line}\n" if not text or text.endswith("\n") else f"\n{line}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GitError(f"{file} cannot be written: {error}") from error
