"""The tutorial's command lines, word for word, against the real daemon, a log API and a model on loopback."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from e2e.harness import Daemon, clean_environment, program, running
from skill_actors.testing import FakeMessagesApi, serve_in_thread

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs/monitoring-agent.md"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not TUTORIAL.is_file(), reason="the tutorial is in the repository"),
]
CONFIG = """
[skills]
bundled_native = true
[backends]
offered = ["anthropic"]
"""


def command_lines() -> list[str]:
    """The lines of the tutorial that send something."""
    return re.findall(r"^(skillctl send .*)$", TUTORIAL.read_text(), re.MULTILINE) if TUTORIAL.is_file() else []


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        from monitoring.standins import log_api

        with log_api() as address:
            yield address
    finally:
        sys.path.remove(str(ROOT / "examples"))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, url: str) -> Iterator[Daemon]:
    from monitoring.standins import answer

    folder = tmp_path_factory.mktemp("agent")
    with serve_in_thread(FakeMessagesApi(respond=answer)) as api:
        environment = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": api.base_url}
        with running(folder, config=CONFIG, env=environment) as daemon:
            yield daemon


def shell(daemon: Daemon, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the tutorial as its reader does."""
    words = " ".join(f"'{word}'" for word in [*program("skillctl"), f"--socket={daemon.socket}"])
    return subprocess.run(
        ["bash", "-euc", line.replace("skillctl", words, 1)],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean_environment(**variables),
        cwd=daemon.folder,
    )


def session_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    found = re.search(r"session (ses_\w+)", done.stderr)
    assert found
    return found[1]


def test_there_is_a_line_for_each_step() -> None:
    assert len(command_lines()) == 4


def test_fetching(daemon: Daemon, url: str) -> None:
    done = shell(daemon, command_lines()[0], URL=url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"message"') == 200


def test_analyzing(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "some.log").write_text("2026-11-21T19:50:00Z ERROR payment 7 failed\n")
    done = shell(daemon, command_lines()[1].replace("/var/log/dpkg.log", str(tmp_path / "some.log")))
    assert done.returncode == 0, done.stderr
    assert "The service is CRITICAL" in done.stdout


def test_reporting(daemon: Daemon, tmp_path: Path) -> None:
    session = session_of(shell(daemon, command_lines()[2]))
    assert "incident_report.xlsx" in shell(daemon, f"skillctl files list {session}").stdout
    got = shell(daemon, f"skillctl files get {session} incident_report.xlsx")
    assert got.returncode == 0, got.stderr
    book: Any = openpyxl.load_workbook(daemon.folder / "incident_report.xlsx")
    assert book.sheetnames == ["Executive Summary", "Error Details", "Recommendations"]


def test_all_of_it_in_one_conversation(daemon: Daemon, url: str) -> None:
    session = session_of(shell(daemon, command_lines()[3], URL=url))
    called = [event["data"]["name"] for event in daemon.events(session) if event["type"] == "tool.started"]
    assert called == ["log_fetcher_execute", "create_file", "bash_tool"]
    files = shell(daemon, f"skillctl files list {session}").stdout
    assert "logs.json" in files
    assert "incident_report.xlsx" in files
