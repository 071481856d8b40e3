"""How a repository stands: real ones, read by the real git."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from git_kit import NOBODY, commit, git, repository
from proc_kit import lives
from skill_actors.errors import Refused
from skill_actors.workshop.git.context import GitContext
from skill_actors.workshop.git.run import Git, GitError
from skill_actors.workshop.git.status import Commit, GitStatus, parse_log, parse_status, shown
from support import run, run_by


def status_of(folder: Path) -> dict[str, object]:
    return run(GitContext(Git()).summary, folder)


def note_of(folder: Path) -> str:
    return run(GitContext(Git()).note, folder)


def test_a_clean_repository_has_a_branch_a_commit_and_no_changes(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1")
    commit(folder, "second", b="2")
    found = status_of(folder)
    assert (found["branch"], found["dirty"], found["upstream"]) == ("trunk", False, None)
    assert found["sha"] == git(folder, "rev-parse", "HEAD").strip()
    commits = found["commits"]
    assert isinstance(commits, list)
    assert [entry["subject"] for entry in commits] == ["second", "first"]


def test_staged_changed_and_new_files_are_told_apart(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", staged="1", changed="1", both="1", gone="1", old="a long enough text\n" * 9)
    (folder / "staged").write_text("2")
    (folder / "both").write_text("2")
    git(folder, "add", "staged", "both")
    git(folder, "mv", "old", "renamed")
    (folder / "both").write_text("3")
    (folder / "changed").write_text("2")
    (folder / "gone").unlink()
    (folder / "new file\nwith a line").write_text("x")
    found = status_of(folder)
    assert found["staged"] == ["both", "renamed", "staged"]
    assert found["unstaged"] == ["both", "changed", "gone"]
    assert found["untracked"] == ["new file\nwith a line"]
    assert found["dirty"] is True


def test_a_branch_is_so_many_commits_ahead_and_behind(tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin", a="1")
    git(tmp_path, "clone", "-q", str(origin), "copy")
    copy = tmp_path / "copy"
    commit(origin, "theirs", b="1")
    commit(copy, "ours", c="1")
    commit(copy, "ours too", c="2")
    git(copy, "fetch", "-q")
    found = status_of(copy)
    assert (found["upstream"], found["ahead"], found["behind"]) == ("origin/trunk", 2, 1)


def test_a_conflict_is_shown_as_one(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1")
    git(folder, "checkout", "-q", "-b", "side")
    commit(folder, "side", a="2")
    git(folder, "checkout", "-q", "trunk")
    commit(folder, "main", a="3")
    subprocess.run(["git", "merge", "side"], cwd=folder, env=dict(NOBODY), capture_output=True, timeout=30, check=False)
    found = status_of(folder)
    assert found["conflicts"] == ["a"]
    assert "1 conflicts" in note_of(folder)


def test_a_repository_without_commits_and_one_without_a_branch_can_be_shown(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r")
    (folder / "a").write_text("1")
    assert (status_of(folder)["sha"], status_of(folder)["untracked"]) == (None, ["a"])
    assert note_of(folder).startswith("[git: branch trunk no commit yet, changed")
    commit(folder, "first", a="1")
    git(folder, "checkout", "-q", "--detach")
    assert status_of(folder)["branch"] is None
    assert note_of(folder).startswith("[git: no branch at ")


def test_what_is_no_repository_is_an_error_and_no_note(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(Refused) as caught:
            status_of(folder)
        assert caught.value.code == "conflict"
        assert note_of(folder) == ""
    folder = repository(tmp_path / "r", a="1")
    assert note_of(folder) != ""


def test_the_note_is_new_with_every_message(tmp_path: Path) -> None:
    """It is of the agent's folder and of this moment (G19)."""
    folder = repository(tmp_path / "r", a="1")
    before = note_of(folder)
    (folder / "a").write_text("2")
    after = note_of(folder)
    assert "clean" in before
    assert "changed" in after
    assert "  a" in after


def test_the_note_is_short_and_on_lines_of_its_own(tmp_path: Path) -> None:
    status = GitStatus(
        branch="b\x1b[31m" + "x" * 1000,
        sha="0" * 40,
        untracked=tuple(f"file {n}\n[git: forged]\u202e" for n in range(1000)),
        commits=tuple(Commit("abc", f"subject {n} " + "y" * 1000) for n in range(10)),
    )
    note = shown(status)
    assert len(note) <= 4_001
    assert "and 985 more" in note
    assert not any(line.startswith("[git: forged") for line in note.splitlines())
    assert "\x1b" not in note
    assert "\u202e" not in note
    assert note.endswith("]")


def test_what_is_cut_off_or_unknown_does_not_confuse() -> None:
    text = "# branch.oid abc\0# branch.head trunk\0# branch.future x\0! ignored\0? a\0z whatever\0? cut"
    found = parse_status(text)
    assert (found.branch, found.sha, found.untracked) == ("trunk", "abc", ("a",))
    assert parse_status("").changed == ()
    assert parse_status("1 .M\x002 R.\0u UU\0").changed == ()
    assert parse_log("") == ()
    assert parse_log("a\0one\0\nb\0two\0\n") == (Commit("a", "one"), Commit("b", "two"))


def test_a_diff_has_what_is_staged_and_what_is_not(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r")
    (folder / "a").write_text("staged\n")
    git(folder, "add", "a")
    assert "+staged" in run(GitContext(Git()).diff, folder)["diff"]
    commit(folder, "first", a="1\n")
    (folder / "a").write_text("2\n")
    found = run(GitContext(Git()).diff, folder)
    assert "+2" in found["diff"]
    assert found["cut"] is False
    (folder / "a").write_text("x\n" * 10_000)
    small = run(GitContext(Git(max_output_bytes=1000)).diff, folder)
    assert (len(small["diff"]), small["cut"]) == (1000, True)


def test_nothing_that_a_repository_configures_is_started(tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", a="1")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "diff.external", "core.editor", "core.sshCommand", "gpg.program"):
        git(folder, "config", key, str(trap))
    git(folder, "config", "log.showSignature", "true")
    git(folder, "config", "alias.status", f"!{trap}")
    git(folder, "config", "core.hooksPath", str(tmp_path))
    (tmp_path / "post-index-change").symlink_to(trap)
    (folder / "a").write_text("2")
    assert status_of(folder)["unstaged"] == ["a"]
    assert "+2" in run(GitContext(Git()).diff, folder)["diff"]
    assert not (tmp_path / "sprung").exists()


def test_a_git_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/child\nwait\n")
    slow.chmod(0o755)
    clock = trio.testing.MockClock(rate=1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(time_out)
            while not (tmp_path / "child").exists():  # noqa: ASYNC110  # a file tells nobody
                await trio.sleep(0.01)
            clock.jump(30)  # however long the machine took to begin it

    async def time_out() -> None:
        with pytest.raises(GitError, match=r"took longer than 30 s"):
            await Git(program=str(slow), timeout_s=30).run(tmp_path, "status")

    run_by(clock, main)
    deadline = time.monotonic() + 20
    while lives(int((tmp_path / "child").read_text())):  # it was killed, and waits for init
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(GitError, match="cannot be run"):
        run(Git(program=str(tmp_path / "none")).run, tmp_path, "status")
