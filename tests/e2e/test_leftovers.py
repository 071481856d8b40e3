"""What is left when daemon, runner and keepers are killed at once is ended by the next start, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from e2e.harness import processes_with, running, write_skill

pytestmark = pytest.mark.e2e

SCRIPT = """
import os, subprocess, sys
subprocess.Popen(["sleep", "700"], start_new_session=True)
open({started!r}, "w").close()
os.execvp("sleep", ["sleep", "701"])
"""


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(entry.name), *children_of(int(entry.name))]
        except OSError:
            continue
    return found


def test_the_next_start_ends_what_a_simultaneous_kill_left(tmp_path: Path) -> None:
    started = tmp_path / "started"
    write_skill(tmp_path / "skills", "job", SCRIPT.format(started=str(started)))
    with running(tmp_path, skills=[tmp_path / "skills"]) as daemon:
        session = daemon.create()
        daemon.post(session, "/job")
        deadline = time.monotonic() + 60
        while not started.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        workspace = str(daemon.state / "workspaces" / session)
        left = processes_with(workspace)
        # Stopped first, so that nobody can clean up after anybody: as if all were out of memory in one moment.
        guards = [pid for pid in [daemon.pid, *children_of(daemon.pid)] if pid not in left]
        bystander = subprocess.Popen(["sleep", "702"], env={"HOME": workspace})
        for kill in (signal.SIGSTOP, signal.SIGKILL):
            for pid in guards:
                os.kill(pid, kill)
        assert daemon.process is not None
        daemon.process.wait(30)
        assert set(processes_with(workspace)) - {bystander.pid}, "nothing was left: this shows nothing"
        daemon.start()
        assert [pid for pid in processes_with(workspace) if pid != bystander.pid] == []
        assert bystander.poll() is None
        bystander.kill()
        bystander.wait(10)
        assert daemon.ask(session, "still there?")["status"] == "finished"
