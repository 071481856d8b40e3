"""What a patch of a working tree holds, and that looking at it changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_kit import commit, git, repository
from skill_actors.workshop.git.patch import patch_since
from skill_actors.workshop.git.run import Git, GitError
from support import run


async def patch(folder: Path) -> str:
    return (await patch_since(Git(), folder, "HEAD")).text


def test_new_changed_staged_and_removed_files_are_all_in_it_and_the_index_stays(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1\n", b="1\n", gone="1\n")
    (folder / ".gitignore").write_text("ignored\n")
    commit(folder, "rules")
    (folder / "a").write_text("changed\n")
    (folder / "b").write_text("staged\n")
    git(folder, "add", "b")
    (folder / "gone").unlink()
    (folder / "below").mkdir()
    (folder / "below/-new file").write_text("new\n")
    (folder / "ignored").write_text("secret\n")
    before = (git(folder, "status", "--porcelain"), (folder / ".git/index").read_bytes())
    found = run(patch, folder)
    for line in ("+changed", "+staged", "+new", "-1"):
        assert line in found.splitlines()
    assert "+++ b/below/-new file" in found
    assert "deleted file" in found
    assert "secret" not in found
    assert (git(folder, "status", "--porcelain"), (folder / ".git/index").read_bytes()) == before
    assert run(patch, folder / "below") == found, "from wherever in it one looks"


def test_a_change_that_its_size_and_time_do_not_show_is_in_it(tmp_path: Path) -> None:
    """As one made in the second in which the index was written: it is looked for by the index's time."""
    folder = repository(tmp_path / "r", a="1\n")
    git(folder, "config", "core.trustctime", "false")
    second = 1_700_000_000
    os.utime(folder / "a", (second, second))
    git(folder, "update-index", "--refresh")
    (folder / "a").write_text("2\n")
    for path in (folder / "a", folder / ".git/index"):
        os.utime(path, (second, second))
    assert "+2" in run(patch, folder).splitlines()


@pytest.mark.parametrize("odd", ["pipe", "repository", "closed"])
def test_what_git_cannot_hold_hides_nothing_else(tmp_path: Path, odd: str) -> None:
    folder = repository(tmp_path / "r", a="1\n")
    if odd == "pipe":
        os.mkfifo(folder / "pipe")
    elif odd == "repository":
        repository(folder / "inner", x="1\n")
    else:
        (folder / "closed").write_text("x")
        (folder / "closed").chmod(0)
    (folder / "z").write_text("new\n")
    assert "+new" in run(patch, folder).splitlines()


def test_a_tree_without_changes_has_an_empty_one_and_an_unknown_commit_is_an_error(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1\n")
    assert run(patch, folder) == ""
    with pytest.raises(GitError):
        run(patch_since, Git(), folder, "nothing")


def test_nothing_of_it_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    folder = repository(tmp_path / "r", a="1\n")
    (folder / "n").write_text("new\n")
    assert "+new" in run(patch, folder)
    assert list((tmp_path / "tmp").iterdir()) == []
