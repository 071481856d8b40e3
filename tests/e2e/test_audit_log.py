"""The audit log of the real daemon: what is in it after a life, and after one that was cut short."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, running, write_skill

pytestmark = pytest.mark.e2e

CANARY = "canary-7391"


def all_audited(daemon: Daemon) -> list[dict[str, Any]]:
    """Of a daemon that has stopped: no line of it is cut."""
    assert (daemon.state / "audit/audit.log").read_bytes().endswith(b"\n")
    return daemon.audited()


def wait_for_lines(daemon: Daemon, count: int) -> None:
    deadline, file = time.monotonic() + 60, daemon.state / "audit/audit.log"
    while not file.exists() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_life_is_written_down_without_what_was_said(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "hello", "import sys\nprint(*sys.argv[1:])\n")
    with running(tmp_path, skills=[tmp_path / "skills"]) as daemon:
        session = daemon.create(title=CANARY)
        daemon.ask(session, f"/hello {CANARY}")
        with daemon.http() as http:
            assert http.delete(f"/v1/sessions/{session}").status_code == 204
        daemon.stop()
        found = all_audited(daemon)
        assert [entry["what"] for entry in (found[0], found[-1])] == ["daemon.started", "daemon.stopping"]
        requests = [(entry["method"], entry["status"]) for entry in found if entry["what"] == "request"]
        assert requests == [("POST", 201), ("POST", 202), ("DELETE", 204)]
        assert next(entry["made"] for entry in found if "made" in entry) == session
        written = b"".join(path.read_bytes() for path in (daemon.state / "audit").iterdir())
        assert CANARY.encode() not in written
        assert (daemon.state / "audit").stat().st_mode & 0o777 == 0o700


def test_what_was_answered_before_a_kill_is_there_and_the_next_life_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        sessions = [daemon.create() for _ in range(20)]
        wait_for_lines(daemon, 8)  # they are written behind the answers
        daemon.kill()
        daemon.start()
        last = daemon.create()
        daemon.stop()
        found = all_audited(daemon)
    assert [entry["what"] for entry in found].count("daemon.started") == 2
    made = [entry["made"] for entry in found if "made" in entry]
    assert made[-1] == last
    assert made[:-1] == sessions[: len(made) - 1], "the latest before a kill may be missing, and no others"
    assert len(made) > 5
