"""skillctl logs: the command line of journalctl that it becomes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from e2e.harness import clean_environment, program
from skilld.cli.commands.logs import journal_command


def run(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """With a journalctl that prints what it was called with."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    fake = tmp_path / "bin/journalctl"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    environment = clean_environment(PATH=path, XDG_RUNTIME_DIR=str(tmp_path / "run"), **environment)
    return subprocess.run(
        [*program("skillctl"), *arguments], capture_output=True, text=True, env=environment, timeout=60
    )


def test_what_is_asked_for_is_asked_of_the_journal(tmp_path: Path) -> None:
    flags = ["-f", "-n", "5", "--since", "10 min ago", "--session", "ses_x", "--warnings", "--json"]
    done = run(tmp_path, "--socket=/run/skilld/skilld.sock", "logs", *flags)
    assert done.stdout.splitlines() == [
        "--unit=skilld.service",
        "--lines=5",
        "--follow",
        "--since=10 min ago",
        "--priority=warning",
        "--output=json",
        "SKILLD_SESSION=ses_x",
    ]


def test_whose_service_is_that_of_the_socket(tmp_path: Path) -> None:
    own = f"--socket={tmp_path}/run/skilld/skilld.sock"
    assert run(tmp_path, own, "logs").stdout.splitlines() == ["--user-unit=skilld.service", "--lines=200"]
    assert run(tmp_path, own, "logs", "--system").stdout.splitlines()[0] == "--unit=skilld.service"
    assert journal_command(for_user=True)[1] == "--user-unit=skilld.service"


def test_without_a_journal_it_says_where_the_log_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [*program("skillctl"), "logs"],
        capture_output=True,
        text=True,
        env=clean_environment(PATH=str(tmp_path)),
        timeout=60,
    )
    assert done.returncode == 1
    assert "no journalctl here" in done.stderr


@pytest.mark.parametrize("wrong", [["-n", "-1"], ["-n", "x"], ["surplus"]])
def test_usage(tmp_path: Path, wrong: list[str]) -> None:
    assert run(tmp_path, "logs", *wrong).returncode == 2
