"""Hooks of the real process: told over kill -9, never left behind, and no turn waits for them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, processes_with, running, write_skill

pytestmark = pytest.mark.e2e

WAIT_S = 60.0


def hook(folder: Path, body: str) -> str:
    """The configuration with this hook."""
    program = folder / "hook"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return f'[hooks]\nexec = ["{program}"]\ntimeout_s = 60.0\n'


def told(file: Path, count: int) -> list[dict[str, Any]]:
    """What the hook was told, once that is so much."""
    deadline = time.monotonic() + WAIT_S
    while not file.exists() or file.read_text().count("\n") < count:
        assert time.monotonic() < deadline, file.read_text() if file.exists() else "nothing was told"
        time.sleep(0.02)
    return [json.loads(line) for line in file.read_text().splitlines()]


def wait_for_tool(daemon: Daemon, session: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not any(event["type"] == "tool.started" for event in daemon.events(session)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_turn_that_a_kill_cut_is_told_of_when_the_daemon_is_back(tmp_path: Path) -> None:
    out = tmp_path / "told"
    config = hook(tmp_path, f"cat >> {out}; echo >> {out}")
    write_skill(tmp_path / "skills", "job", "import time; time.sleep(300)")
    with running(tmp_path, skills=[tmp_path / "skills"], config=config) as daemon:
        session = daemon.create()
        assert daemon.ask(session, "hello")["status"] == "finished"
        assert told(out, 1)[0]["event"] == "turn.finished"
        turn = daemon.post(session, "/job x").json()["turn"]
        wait_for_tool(daemon, session)
        daemon.kill()
        daemon.start()
        second = told(out, 2)[1]
        assert (second["event"], second["turn"], second["code"]) == ("turn.interrupted", turn, "interrupted")
        assert second["duration_ms"] is None


def test_a_hook_that_runs_dies_with_the_daemon(tmp_path: Path) -> None:
    marker = f"hook-of-{tmp_path.name}"
    config = hook(tmp_path, f"setsid sh -c 'sleep 300; : {marker}' & sleep 300; : {marker}")
    with running(tmp_path, config=config) as daemon:
        assert daemon.ask(daemon.create(), "hello")["status"] == "finished"
        deadline = time.monotonic() + WAIT_S
        while not processes_with(marker):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        daemon.kill()
        while processes_with(marker):
            assert time.monotonic() < deadline, "the hook outlives its daemon"
            time.sleep(0.02)


def test_a_stop_tells_of_the_turn_that_it_cuts(tmp_path: Path) -> None:
    out = tmp_path / "told"
    config = hook(tmp_path, f"sleep 0.3; cat >> {out}; echo >> {out}") + "[daemon]\ndrain_s = 0.2\n"
    write_skill(tmp_path / "skills", "job", "import time; time.sleep(300)")
    with running(tmp_path, skills=[tmp_path / "skills"], config=config) as daemon:
        session = daemon.create()
        turn = daemon.post(session, "/job x").json()["turn"]
        wait_for_tool(daemon, session)
        assert daemon.stop() == 0
    (notice,) = told(out, 1)
    assert (notice["event"], notice["turn"]) == ("turn.interrupted", turn)
