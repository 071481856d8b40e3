"""Worktrees of agents: real repositories, and the real git."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import trio

from git_kit import commit, git, repository
from skill_actors.workshop.git.run import Git, GitError, GitOutput
from skill_actors.workshop.git.worktrees import Worktrees
from support import run

trees = Worktrees(Git())


def made(folder: Path, name: str = "coder") -> Path:
    tree, new = run(trees.ensure, folder, name)
    assert new
    return tree.folder


def test_a_worktree_is_made_once_and_is_not_new_in_its_repository(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1")
    place = made(folder)
    assert place == folder / ".worktrees" / "coder"
    assert git(place, "branch", "--show-current").strip() == "agents/coder"
    assert (place / "a").read_text() == "1"
    assert git(folder, "status", "--porcelain") == ""
    tree, new = run(trees.ensure, folder, "coder")
    assert (tree.folder, new) == (place, False)
    assert (folder / ".git/info/exclude").read_text().count("/.worktrees/") == 1
    assert run(trees.ensure, place, "other")[0].folder == folder / ".worktrees" / "other"
    assert [tree.name for tree in run(trees.list, folder)] == ["coder", "other"]


def test_work_in_a_worktree_is_shown_committed_and_merged(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1\n", b="1\n")
    place = made(folder)
    (place / "a").write_text("2\n")
    (place / "new").write_text("n\n")
    tree = run(trees.show, folder, "coder")
    assert (tree.changed, tree.ahead) == (("a", "new"), 0)
    shown = run(trees.diff, folder, "coder")["diff"].splitlines()
    assert ("+2" in shown, "+n" in shown) == (True, True)
    with pytest.raises(GitError, match="2 files are not committed"):
        run(trees.merge, folder, "coder")
    assert run(trees.commit, folder, "coder", "the work") is True
    assert run(trees.commit, folder, "coder", "nothing more") is False
    commit(folder, "meanwhile", b="3\n")
    assert run(trees.show, folder, "coder").ahead == 1
    diff = run(trees.diff, folder, "coder")["diff"]
    assert "+n" in diff
    assert "b" not in [line[-1] for line in diff.splitlines() if line.startswith("+++")]
    merged = run(trees.merge, folder, "coder")
    assert (merged.merged, merged.conflicts) == (True, ())
    assert merged.commit == git(folder, "rev-parse", "HEAD").strip()
    assert [(folder / name).read_text() for name in ("a", "b", "new")] == ["2\n", "3\n", "n\n"]
    run(trees.remove, folder, "coder")
    assert not place.exists()
    assert "agents/coder" not in git(folder, "branch")
    assert run(trees.list, folder) == []


def test_a_conflict_is_reported_and_nothing_is_touched(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1\n", b="1\n")
    place = made(folder)
    commit(place, "theirs", a="2\n", b="2\n")
    commit(folder, "ours", a="3\n")
    before = git(folder, "rev-parse", "HEAD")
    found = run(trees.merge, folder, "coder")
    assert (found.merged, found.conflicts) == (False, ("a",))
    assert git(folder, "rev-parse", "HEAD") == before
    assert git(folder, "status", "--porcelain") == ""
    assert (folder / "b").read_text() == "1\n"


def test_a_change_in_the_repository_that_is_in_the_way_is_not_lost(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1\n")
    commit(made(folder), "theirs", a="2\n")
    (folder / "a").write_text("mine\n")
    with pytest.raises(GitError, match="git merge: "):
        run(trees.merge, folder, "coder")
    assert (folder / "a").read_text() == "mine\n"


def test_a_merge_that_is_cancelled_leaves_nobodys_repository_locked(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1\n")
    commit(made(folder), "theirs", a="2\n")
    commit(folder, "ours", b="1\n")
    begun = tmp_path / "begun"
    git(folder, "config", "filter.slow.smudge", f"touch {begun}; sleep 0.5; cat")
    (folder / ".git/info/attributes").write_text("a filter=slow\n")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trees.merge, folder, "coder")
            with trio.fail_after(20):
                while True:
                    if begun.exists():
                        break
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    run(main)
    assert not (folder / ".git/index.lock").exists()
    assert (git(folder, "status", "--porcelain"), (folder / "a").read_text()) == ("", "2\n")


def test_a_merge_that_cannot_be_after_all_changes_nothing(tmp_path: Path) -> None:
    """As where somebody commits between our look and the merge; a driver of the repository's own stands for that."""
    folder = repository(tmp_path / "r", a="1\n2\n3\n4\n5\n")
    commit(made(folder), "theirs", a="1\n2\n3\n4\n6\n")
    commit(folder, "ours", a="0\n2\n3\n4\n5\n")
    git(folder, "config", "merge.never.driver", "test ! -e .git/now")
    (folder / ".git/info/attributes").write_text("a merge=never\n")
    before = git(folder, "rev-parse", "HEAD")

    class Later(Git):
        async def run(
            self, folder: Path, *args: str, environment: Mapping[str, str] | None = None, ok: Sequence[int] = (0,)
        ) -> GitOutput:
            if "merge" in args:
                (folder / ".git/now").touch()
            return await super().run(folder, *args, environment=environment, ok=ok)

    with pytest.raises(GitError, match="nothing was changed"):
        run(Worktrees(Later()).merge, folder, "coder")
    assert git(folder, "rev-parse", "HEAD") == before
    assert git(folder, "status", "--porcelain") == ""
    assert not (folder / ".git/MERGE_HEAD").exists()


def test_a_worktree_that_leads_elsewhere_is_not_looked_into_and_hides_no_others(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1\n")
    place = made(folder)
    made(folder, "other")
    (place / ".git").unlink()
    repository(place)
    git(place, "config", "filter.evil.clean", f"touch {tmp_path / 'ran'}; cat")
    (place / ".gitattributes").write_text("* filter=evil\n")
    (place / ".git").rename(place / "set-up")
    (place / ".git").write_text("gitdir: set-up\n")
    for look in (trees.show, trees.merge, trees.remove, trees.ensure):
        with pytest.raises(GitError, match="does not belong to the repository any more"):
            run(look, folder, "coder")
    assert [tree.name for tree in run(trees.list, folder)] == ["other"]
    assert not (tmp_path / "ran").exists()


def test_what_is_not_merged_is_removed_by_force_only(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1\n")
    place = made(folder)
    (place / "a").write_text("2\n")
    with pytest.raises(GitError, match="1 files that are not committed, and 0 commits"):
        run(trees.remove, folder, "coder")
    run(trees.commit, folder, "coder", "work")
    with pytest.raises(GitError, match="0 files that are not committed, and 1 commits"):
        run(trees.remove, folder, "coder")
    assert place.exists()

    async def by_force() -> None:
        await trees.remove(folder, "coder", force=True)

    run(by_force)
    assert not place.exists()
    with pytest.raises(GitError, match="there is no worktree"):
        run(trees.show, folder, "coder")


def test_a_folder_that_was_removed_by_hand_is_made_again_with_its_branch(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1\n")
    place = made(folder)
    commit(place, "work", a="2\n")
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    assert run(trees.list, folder) == []
    assert (made(folder) / "a").read_text() == "2\n"


def test_no_worktree_is_made_outside(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1\n")
    (tmp_path / "elsewhere").mkdir()
    (folder / ".worktrees").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GitError, match="is a symbolic link"):
        run(trees.ensure, folder, "coder")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with pytest.raises(GitError):
        run(trees.ensure, tmp_path / "elsewhere", "coder")
    git(tmp_path, "init", "-q", "--bare", "bare")
    with pytest.raises(GitError, match="without a working tree"):
        run(trees.ensure, tmp_path / "bare", "coder")
