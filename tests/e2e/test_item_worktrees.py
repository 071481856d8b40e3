"""Items of the board in worktrees of their own, on the real daemon and by its command line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, running
from git_kit import git, repository

pytestmark = pytest.mark.e2e

_PROGRAM = """
import pathlib, sys
prompt = sys.stdin.read()
item = prompt.partition("Work item ")[2].partition(":")[0].strip()
pathlib.Path(f"{item}.txt").write_text("made by an agent\\n")
print("done")
"""


def ended(daemon: Daemon, id: str) -> dict[str, Any]:
    """An item once it is done."""
    deadline = time.monotonic() + 60
    with daemon.http() as http:
        while True:
            item: dict[str, Any] = http.get(f"/v1/workshop/board/items/{id}").json()
            assert item["status"] != "failed", item
            if item["status"] == "done":
                return item
            assert time.monotonic() < deadline, item
            time.sleep(0.05)


def test_items_are_done_in_worktrees_and_their_branches_are_merged(tmp_path: Path) -> None:
    project = repository(tmp_path / "project", **{"a.txt": "first\n"})
    script = tmp_path / "agent.py"
    script.write_text(_PROGRAM)
    config = f"""
[skills]
projects = ["{tmp_path}"]
[backends.command.writer]
argv = {json.dumps([sys.executable, str(script)])}
"""
    with running(tmp_path, config=config) as daemon:

        def do(*words: str) -> str:
            done = daemon.skillctl(*words)
            assert done.returncode == 0, done.stderr
            return done.stdout

        do("workshop", "profile", "define", "coder", "--backend", "writer", "--cwd", str(project))
        for id in ("one", "two"):
            do("board", "add", f"Make {id}", "--id", id, "--type", "code")
        do(
            *("workshop", "worker", "start", "coders", "--type", "code", "--profile", "coder", "--count", "2"),
            *("--worktree", "--merge", "on_done"),
        )
        for id in ("one", "two"):
            assert ended(daemon, id)["worktree"] == str(project / ".worktrees" / id)
        do("workshop", "worker", "stop", "coders")
        assert git(project, "ls-tree", "--name-only", "HEAD").split() == ["a.txt", "one.txt", "two.txt"]
        assert git(project, "branch", "--list", "work/*") == ""
        do("board", "add", "Keep it", "--id", "kept", "--type", "code")
        do("workshop", "worker", "start", "keepers", "--type", "code", "--profile", "coder", "--worktree")
        ended(daemon, "kept")
        do("workshop", "worker", "stop", "keepers")
        assert "item kept" in do("workshop", "worktree", "list")
