"""Skills that change under the real daemon: pushed, edited while turns run, and told on the socket."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.harness import JSON, Daemon, clean_environment, program, running, write_skill

pytestmark = pytest.mark.e2e

SAY = "print('says {}')\n"


def wait_for(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    """Look from outside until it is so."""
    ends = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends, "it never was so"
        time.sleep(0.02)


def said(daemon: Daemon, session: str) -> str:
    """What the skill `tides` prints in this session's next turn."""
    return str(daemon.ask(session, "/tides")["result"]["text"]).strip()


def test_a_pushed_skill_is_used_survives_restart_and_reload_and_goes_when_removed(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "tides", SAY.format("disk"))
    write_skill(tmp_path / "elsewhere", "tides", SAY.format("pushed"))
    with running(tmp_path, skills=[tmp_path / "skills"]) as daemon:
        session = daemon.create()
        assert said(daemon, session) == "says disk"
        pushed = json.loads(daemon.skillctl("skills", "push", "--json", str(tmp_path / "elsewhere/tides")).stdout)
        assert (pushed["name"], pushed["replaced"], pushed["used"]) == ("tides", False, True)
        assert said(daemon, session) == "says pushed"
        daemon.skillctl("skills", "reload")
        daemon.kill()
        daemon.start()
        assert said(daemon, session) == "says pushed"
        used = [event for event in daemon.events(session) if event["type"] == "tool.started"]
        assert used[-1]["data"]["skill"] == {"name": "tides", "digest": pushed["digest"]}
        events = daemon.events(session)
        started = [event["data"]["skills_digest"] for event in events if event["type"] == "turn.started"]
        assert len(started) == 3
        assert started[0] != started[1] == started[2]
        with daemon.http() as http:
            bad = http.post("/v1/skills", content=b"PK no zip", headers={"content-type": "application/zip"})
            assert (bad.status_code, bad.json()["error"]["code"]) == (422, "invalid_skill_spec")
            assert http.delete("/v1/skills/moon").status_code == 404
        daemon.skillctl("skills", "remove", "tides")
        assert said(daemon, session) == "says disk"


def test_changes_are_told_on_the_socket_and_a_running_turn_keeps_what_it_began_with(tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow = (
        "import os, sys, time\n"
        "while not os.path.exists(sys.argv[1]):\n"
        "    time.sleep(0.02)\n"
        "print('says', open(sys.argv[0]).read()[-2:].strip())\n"
        "#"
    )
    folder = write_skill(tmp_path / "skills", "tides", f"{slow}1\n")
    with running(tmp_path, skills=[tmp_path / "skills"]) as daemon:
        command = [*program("skillctl"), f"--socket={daemon.socket}", "skills", "changes", "--json"]
        follower = subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment(), text=True)
        assert follower.stdout is not None
        told: list[JSON] = []
        reader = threading.Thread(target=lambda: told.extend(map(json.loads, follower.stdout or ())))
        reader.start()
        try:
            session = daemon.create()
            turn = daemon.post(session, f"/tides {go}").json()["turn"]
            wait_for(lambda: any(event["type"] == "tool.started" for event in daemon.events(session)))
            write_skill(tmp_path / "skills", "tides", f"{slow}2\n")
            wait_for(lambda: any("tides" in event["data"]["changed"] for event in told))
            go.touch()
            assert daemon.wait(turn)["result"]["text"].strip() == "says 1"
            assert str(daemon.ask(session, f"/tides {go}")["result"]["text"]).strip() == "says 2"
            (folder / "SKILL.md").write_text("---\nname: [")
            wait_for(lambda: any(event["data"]["failed"] == [str(folder)] for event in told))
            assert str(daemon.ask(session, f"/tides {go}")["result"]["text"]).strip() == "says 2"
        finally:
            follower.terminate()
            follower.wait(20)
            reader.join(20)
            follower.stdout.close()
        assert {event["type"] for event in told} == {"skill.changed"}
        assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
