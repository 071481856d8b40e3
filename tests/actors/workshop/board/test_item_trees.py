"""Items that are worked on in worktrees of their own: merged when they are done, and nothing of anybody's is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from board_agents_kit import PlayedAgents, PlayedCommands
from board_kit import ME, BoardKit, open_board
from git_kit import commit, git, repository
from skill_actors.errors import Refused
from skill_actors.workshop.board import Workers
from skill_actors.workshop.board.hand import CommandResult
from skill_actors.workshop.board.item import Item
from skill_actors.workshop.board.item_trees import ItemTrees
from skill_actors.workshop.git.run import Git
from skill_actors.workshop.git.worktrees import Worktrees
from support import run

MERGING: Mapping[str, Any] = {"types": ["custom"], "worktree": True, "merge": "on_done"}
Writes = Callable[[Path, str], Awaitable[None]]


@dataclass
class TreesKit:
    """A board whose worker's items have worktrees of a real repository."""

    board: BoardKit
    workers: Workers
    agents: PlayedAgents
    project: Path
    trees: ItemTrees
    commands: PlayedCommands
    removals: list[str] = field(default_factory=list)

    async def ends(self, id: str) -> Item:
        """The item once it has ended."""
        while True:
            changed = self.board.board.changed(ME)
            item = await self.board.board.get(ME, id)
            if item.status in ("done", "failed"):
                return item
            await changed.wait()

    async def stops(self) -> None:
        """Wait for what the worker does after its items have ended."""
        await self.workers.stop(ME, "w", drain_s=30)

    def tree(self, id: str) -> Path:
        return self.project / ".worktrees" / id

    def text(self, name: str) -> str:
        return git(self.project, "show", f"HEAD:{name}")


@asynccontextmanager
async def open_trees(folder: Path, writes: Writes) -> AsyncIterator[TreesKit]:
    project = folder / "project"
    if not project.exists():
        repository(project, **{"a.txt": "first\n"})

    async def project_of(owner_uid: int, name: str) -> Path:
        return project

    async def play(agent: str, text: str) -> Mapping[str, Any]:
        where = agents.folders[-1]
        assert where is not None
        await writes(Path(where), text)
        return {"text": "done", "stop_reason": "end_turn"}

    async with open_board(folder, running=True) as board, trio.open_nursery() as nursery:
        agents, commands = PlayedAgents(nursery, play), PlayedCommands()
        documents, trees = board.journal.documents, ItemTrees(Git(), project_of)
        workers = Workers(board.board, agents, commands, documents, documents.apply, trees=trees)
        await nursery.start(workers.run)
        yield TreesKit(board, workers, agents, project, trees, commands)
        nursery.cancel_scope.cancel()


def with_trees(folder: Path, check: Callable[[TreesKit], Awaitable[None]], writes: Writes) -> None:
    async def main() -> None:
        async with open_trees(folder, writes) as kit:
            with trio.fail_after(60):
                await check(kit)

    run(main)


async def writes_b(folder: Path, text: str) -> None:
    (folder / "b.txt").write_text("made\n")


def test_what_is_done_is_committed_merged_and_cleaned_up(tmp_path: Path) -> None:
    async def check(kit: TreesKit) -> None:
        await kit.board.add("fix", title="Fix it")
        await kit.workers.start(ME, "w", MERGING)
        item = await kit.ends("fix")
        assert (item.status, item.worktree) == ("done", str(kit.tree("fix")))
        assert kit.agents.folders == [str(kit.tree("fix"))]
        assert kit.text("b.txt") == "made\n"
        assert "fix: Fix it" in git(kit.project, "log", "--format=%s")
        await kit.stops()
        assert not kit.tree("fix").exists()
        assert git(kit.project, "branch", "--list", "work/*") == ""
        assert await kit.workers.worktrees(ME) == []

    with_trees(tmp_path, check, writes_b)


def test_without_merge_the_branch_is_kept_with_all_that_was_made(tmp_path: Path) -> None:
    async def check(kit: TreesKit) -> None:
        await kit.board.add("fix")
        await kit.workers.start(ME, "w", {"types": ["custom"], "worktree": True})
        await kit.ends("fix")
        assert git(kit.project, "show", "work/fix:b.txt") == "made\n"
        assert not (kit.project / "b.txt").exists()
        (tree,) = await kit.workers.worktrees(ME)
        assert (tree["item"], tree["state"], tree["branch"], tree["ahead"], tree["changed"]) == (
            *("fix", "done", "work/fix", 1),
            [],
        )

    with_trees(tmp_path, check, writes_b)


def test_a_conflict_is_a_failed_attempt_and_the_next_one_begins_with_what_is_there_now(tmp_path: Path) -> None:
    seen: list[str] = []
    told: list[str] = []

    async def writes(folder: Path, text: str) -> None:
        seen.append((folder / "a.txt").read_text())
        told.append(text)
        (folder / "a.txt").write_text(f"{seen[-1].strip()} and mine\n")
        if len(seen) == 1:
            commit(folder.parent.parent, "somebody else", **{"a.txt": "theirs\n"})

    async def check(kit: TreesKit) -> None:
        await kit.board.add("fix")
        await kit.workers.start(ME, "w", MERGING)
        item = await kit.ends("fix")
        assert (item.status, item.attempts) == ("done", 2)
        assert seen == ["first\n", "theirs\n"]
        assert "conflicts in a.txt" in told[1]
        assert kit.text("a.txt") == "theirs and mine\n"

    with_trees(tmp_path, check, writes)


def test_conflicts_to_the_end_fail_the_item_with_the_paths_and_keep_the_work(tmp_path: Path) -> None:
    async def writes(folder: Path, text: str) -> None:
        (folder / "a.txt").write_text("mine\n")
        commit(folder.parent.parent, "again", **{"a.txt": f"theirs {text.count('attempt')} {len(text)}\n"})

    async def check(kit: TreesKit) -> None:
        await kit.board.add("fix", max_attempts=1)
        await kit.workers.start(ME, "w", MERGING)
        item = await kit.ends("fix")
        assert item.status == "failed"
        assert "work/fix cannot be merged: conflicts in a.txt" in (item.error or "")
        assert git(kit.project, "show", "work/fix:a.txt") == "mine\n"
        assert git(kit.project, "status", "--porcelain") == ""

    with_trees(tmp_path, check, writes)


def test_what_somebody_has_not_committed_is_not_touched_and_the_work_is_kept(tmp_path: Path) -> None:
    async def writes(folder: Path, text: str) -> None:
        (folder / "a.txt").write_text("mine\n")
        (folder.parent.parent / "a.txt").write_text("being written\n")

    async def check(kit: TreesKit) -> None:
        await kit.board.add("fix", max_attempts=3)
        await kit.workers.start(ME, "w", MERGING)
        item = await kit.ends("fix")
        assert (item.status, item.attempts) == ("failed", 1)  # another attempt would find it just so
        assert "was left as it is" in (item.error or "")
        assert (kit.project / "a.txt").read_text() == "being written\n"
        assert git(kit.project, "show", "work/fix:a.txt") == "mine\n"

    with_trees(tmp_path, check, writes)


def test_many_items_at_once_are_all_merged(tmp_path: Path) -> None:
    async def writes(folder: Path, text: str) -> None:
        name = text.split()[2].rstrip(":")
        (kit_folder / f"{name}").touch()
        (folder.parent / name / f"{name}.txt").write_text(name)

    kit_folder = tmp_path / "seen"
    kit_folder.mkdir()

    async def check(kit: TreesKit) -> None:
        for number in range(8):
            await kit.board.add(f"i{number}")
        await kit.workers.start(ME, "w", {**MERGING, "count": 4})
        for number in range(8):
            assert (await kit.ends(f"i{number}")).status == "done"
        await kit.stops()
        names = git(kit.project, "ls-tree", "--name-only", "HEAD").split()
        assert names == ["a.txt", *(f"i{number}.txt" for number in range(8))]
        assert list((kit.project / ".worktrees").iterdir()) == []

    with_trees(tmp_path, check, writes)


def test_a_verification_that_fails_keeps_the_work_out(tmp_path: Path) -> None:
    async def check(kit: TreesKit) -> None:
        kit.commands.results = [CommandResult(passed=False, told="red")]
        await kit.board.add("fix", verify={"argv": ["make"]}, max_attempts=1)
        await kit.workers.start(ME, "w", MERGING)
        assert (await kit.ends("fix")).status == "failed"
        assert git(kit.project, "ls-tree", "--name-only", "HEAD") == "a.txt\n"

    with_trees(tmp_path, check, writes_b)


def test_what_a_crash_left_of_done_work_is_cleaned_up_when_the_worker_starts_again(tmp_path: Path) -> None:
    async def before(kit: TreesKit) -> None:
        await kit.board.add("fix")
        await kit.workers.start(ME, "w", {"types": ["custom"], "worktree": True})
        await kit.ends("fix")
        git(kit.project, "merge", "-q", "work/fix")  # as the one who was killed before it had cleaned up
        await kit.workers.stop(ME, "w")

    async def after(kit: TreesKit) -> None:
        await kit.workers.start(ME, "w", MERGING)
        await kit.board.add("next")
        await kit.ends("next")
        await kit.stops()
        assert not kit.tree("fix").exists()

    with_trees(tmp_path, before, writes_b)
    with_trees(tmp_path, after, writes_b)


def test_work_that_was_merged_when_the_daemon_was_killed_is_done_and_not_done_again(tmp_path: Path) -> None:
    async def check(kit: TreesKit) -> None:
        await kit.board.add("fix")
        claimed = await kit.board.board.claim(ME, "w-1", types=["custom"], names=set(), lease_s=60, worker=True)
        assert claimed is not None
        assert claimed.lease is not None
        folder = await kit.trees.fresh(ME, "w-1", claimed)
        turn = await kit.agents.begin(ME, "w-1", "go", key="k", schema=None, folder=folder)
        item = await kit.board.board.start(ME, "fix", claimed.lease.token, turn=turn, worktree=folder)
        await kit.agents.ended(ME, turn)
        await kit.trees.bring_home(ME, item, merge=True)
        head = git(kit.project, "rev-parse", "HEAD")
        await kit.workers.start(ME, "w", MERGING)
        done = await kit.ends("fix")
        assert (done.status, done.attempts, len(kit.agents.turns)) == ("done", 1, 1)
        assert git(kit.project, "rev-parse", "HEAD") == head
        await kit.stops()
        assert not kit.tree("fix").exists()

    with_trees(tmp_path, check, writes_b)


def test_a_worktree_of_somebody_else_is_never_taken(tmp_path: Path) -> None:
    """An agent of the same name, an item of another user: their work would be removed with the first attempt."""

    async def check(kit: TreesKit) -> None:
        mine = Worktrees(Git())
        await mine.ensure(kit.project, "fix")
        await writes_b(kit.tree("fix"), "")
        await kit.board.add("fix", max_attempts=1)
        await kit.workers.start(ME, "w", MERGING)
        item = await kit.ends("fix")
        assert "somebody else's" in (item.error or "")
        assert (kit.tree("fix") / "b.txt").exists()
        other = await kit.board.board.get(ME, "fix")
        await kit.trees.fresh(ME, "w-1", Item(id="theirs", title="x"))
        with pytest.raises(Refused, match="somebody else's"):
            await kit.trees.fresh(ME + 1, "w-1", Item(id="theirs", title="x"))
        assert other.status == "failed"
        assert [tree.name for tree in await mine.list(kit.project)] == ["fix"]

    with_trees(tmp_path, check, writes_b)


def test_one_that_was_being_made_when_the_daemon_was_killed_is_made_again(tmp_path: Path) -> None:
    async def check(kit: TreesKit) -> None:
        item = Item(id="fix", title="x")
        git(kit.project, "worktree", "add", "-q", "-b", "work/fix", str(kit.tree("fix")))
        assert await kit.trees.fresh(ME, "w-1", item) == str(kit.tree("fix"))

    with_trees(tmp_path, check, writes_b)


def unmark(folder: Path) -> None:
    Path(git(folder, "rev-parse", "--absolute-git-dir").strip(), "skilld-owner").unlink()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def cut_when_removed(kit: TreesKit, item: Item) -> None:
    """Killed between the worktree's removal and its branch's."""
    git(kit.project, "worktree", "remove", "--force", str(kit.tree(item.id)))


async def cut_without_link(kit: TreesKit, item: Item) -> None:
    """Killed while git made it: locked by git, and with files that nothing knows of."""
    git(kit.project, "worktree", "lock", "--reason", "initializing", str(kit.tree(item.id)))
    (kit.tree(item.id) / ".git").unlink()


async def cut_at_checkout(kit: TreesKit, item: Item) -> None:
    """Killed while git wrote its files, before it was written down whose it is."""
    git(kit.project, "worktree", "lock", "--reason", "initializing", str(kit.tree(item.id)))
    unmark(kit.tree(item.id))
    (kit.tree(item.id) / "a.txt").unlink()


@pytest.mark.parametrize("cut", [cut_when_removed, cut_without_link, cut_at_checkout])
def test_an_attempt_begins_fresh_wherever_the_one_before_was_cut(
    tmp_path: Path, cut: Callable[[TreesKit, Item], Awaitable[None]]
) -> None:
    async def check(kit: TreesKit) -> None:
        item = Item(id="fix", title="x")
        folder = Path(await kit.trees.fresh(ME, "w-1", item))
        commit(folder, "half of it", **{"b.txt": "half\n"})
        await cut(kit, item)
        assert await kit.trees.fresh(ME, "w-1", item) == str(folder)
        assert names(folder) == [".git", "a.txt"]
        assert git(kit.project, "log", "--format=%s", "work/fix") == "first\n"

    with_trees(tmp_path, check, writes_b)


def test_a_branch_that_somebody_has_made_is_not_taken_for_an_items(tmp_path: Path) -> None:
    async def check(kit: TreesKit) -> None:
        git(kit.project, "checkout", "-q", "-b", "work/fix")
        commit(kit.project, "private", **{"secret.txt": "x"})
        git(kit.project, "checkout", "-q", "trunk")
        await kit.board.add("fix", max_attempts=1)
        await kit.workers.start(ME, "w", MERGING)
        item = await kit.ends("fix")
        assert (item.status, "branch work/fix already" in (item.error or "")) == ("failed", True)
        assert git(kit.project, "ls-tree", "--name-only", "HEAD") == "a.txt\n"
        assert git(kit.project, "show", "work/fix:secret.txt") == "x"

    with_trees(tmp_path, check, writes_b)


@pytest.mark.parametrize("how", ["file", "folder"])
def test_a_worktree_that_leads_elsewhere_is_not_looked_into(tmp_path: Path, how: str) -> None:
    """Its agent can write there, and in a sandbox nowhere else; the daemon's git would do what is configured there."""
    ran = tmp_path / "ran"

    async def writes(folder: Path, text: str) -> None:
        place = folder if how == "folder" else folder / "other"
        (folder / ".git").unlink()
        repository(place, **{"f.txt": "1\n"})
        git(place, "config", "filter.evil.clean", f"touch {ran}; cat")
        (place / ".gitattributes").write_text("* filter=evil\n")
        if how == "file":
            (folder / ".git").write_text(f"gitdir: {place / '.git'}\n")

    async def check(kit: TreesKit) -> None:
        await kit.board.add("fix", max_attempts=2)
        await kit.workers.start(ME, "w", MERGING)
        item = await kit.ends("fix")
        assert (item.status, item.attempts) == ("failed", 1)
        assert "does not belong to the repository any more" in (item.error or "")
        await kit.stops()
        assert await kit.workers.worktrees(ME) == []
        assert not ran.exists()

    with_trees(tmp_path, check, writes)


def test_a_repository_in_a_worktree_starts_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    async def writes(folder: Path, text: str) -> None:
        (folder / "b.txt").write_text("made\n")
        inner = repository(folder / "inner", x="1\n")
        git(folder, "add", "--all")
        git(folder, "commit", "-q", "-m", "mine")
        program = tmp_path / "monitor"
        program.write_text(f"#!/bin/sh\ntouch {ran}\n")
        program.chmod(0o755)
        git(inner, "config", "core.fsmonitor", str(program))
        (inner / "x").write_text("2\n")
        (folder / "c.txt").write_text("more\n")

    async def check(kit: TreesKit) -> None:
        await kit.board.add("fix", max_attempts=1)
        await kit.workers.start(ME, "w", MERGING)
        assert (await kit.ends("fix")).status == "done"
        assert kit.text("c.txt") == "more\n"
        assert git(kit.project, "ls-tree", "HEAD", "inner").startswith("160000 commit")  # that it is there, not what
        await kit.stops()
        assert not ran.exists()

    with_trees(tmp_path, check, writes)


def test_work_is_merged_also_where_somebody_works_with_the_repository_just_then(tmp_path: Path) -> None:
    async def writes(folder: Path, text: str) -> None:
        await writes_b(folder, text)
        (folder.parent.parent / ".git/index.lock").touch()

    async def check(kit: TreesKit) -> None:
        async def commits() -> None:
            lock = kit.project / ".git/index.lock"
            while True:
                if lock.exists() and "b.txt" in git(kit.project, "ls-tree", "--name-only", "work/fix"):
                    lock.unlink()
                    return
                await trio.sleep(0.01)

        await kit.board.add("fix", max_attempts=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commits)
            await kit.workers.start(ME, "w", MERGING)
            item = await kit.ends("fix")
        assert (item.status, item.error) == ("done", None)
        assert kit.text("b.txt") == "made\n"

    with_trees(tmp_path, check, writes)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"worktree": "yes"}, "worktree: expected true or false"),
        ({"merge": "on_done"}, "merge: expected on_done, with worktree"),
        ({"worktree": True, "merge": "always"}, "merge: expected on_done"),
    ],
)
def test_what_a_worker_cannot_be_is_refused(tmp_path: Path, given: Mapping[str, Any], says: str) -> None:
    async def check(kit: TreesKit) -> None:
        with pytest.raises(Refused, match=says):
            await kit.workers.start(ME, "w", {"types": ["custom"], **given})

    with_trees(tmp_path, check, writes_b)
