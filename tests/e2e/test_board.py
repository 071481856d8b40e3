"""The board of the real daemon: by skillctl, with board workers and the offline model, and through kill -9."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import JSON, Daemon, running, write_skill

pytestmark = pytest.mark.e2e

SLUMBER = """
import pathlib, time
while not pathlib.Path({gate!r}).exists():
    time.sleep(0.02)
time.sleep(0.1)
print("slept well")
"""
OPEN = ("new", "ready", "claimed", "in_progress")


def cli(daemon: Daemon, *arguments: str, code: int = 0, input: str | None = None) -> str:
    done = daemon.skillctl(*arguments, input=input)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout.strip() or done.stderr.strip()


def items_of(daemon: Daemon) -> dict[str, JSON]:
    with daemon.http() as http:
        answer = http.get("/v1/workshop/board/items", params={"limit": 1000})
    assert answer.status_code == 200, answer.text
    return {item["id"]: item for item in answer.json()["items"]}


def ends_of(daemon: Daemon) -> Counter[str]:
    """How often each item was completed or has failed for good."""
    with daemon.http() as http:
        answer = http.get(
            "/v1/workshop/events", params={"topic": "work", "name": "completed,failed", "follow": "false"}
        )
    assert answer.status_code == 200, answer.text
    return Counter(json.loads(line)["data"]["item"] for line in answer.text.splitlines())


def settle(daemon: Daemon, timeout_s: float) -> dict[str, JSON]:
    deadline = time.monotonic() + timeout_s
    while any(item["status"] in OPEN for item in items_of(daemon).values()):
        assert time.monotonic() < deadline, Counter(item["status"] for item in items_of(daemon).values())
        time.sleep(0.05)
    return items_of(daemon)


def settle_begun(daemon: Daemon) -> list[str]:
    """Items that are being worked on, as soon as there are some; none if all have ended."""
    while True:
        items = items_of(daemon).values()
        begun = [str(item["id"]) for item in items if item["status"] == "in_progress"]
        if begun or all(item["status"] not in OPEN for item in items):
            return begun
        time.sleep(0.005)


def work_through_kills(folder: Path, *, items: int, hands: int, kills: int, timeout_s: float) -> None:
    gate = folder / "gate"  # opened by the first kill: until then nothing can end that could be met by it
    script = SLUMBER.format(gate=str(gate))
    write_skill(folder / "skills", "slumber", script, "Slumbers for a while. Use it to slumber.")
    daemon = Daemon(folder, skills=[folder / "skills"]).start()
    try:
        with daemon.http() as http:
            for number in range(items):
                before = [f"i{number - 3}"] if number % 4 == 3 else []
                draft = {"id": f"i{number}", "title": "Slumber", "spec": "Please slumber.", "depends_on": before}
                assert http.post("/v1/workshop/board/items", json={**draft, "max_attempts": 10}).status_code == 201
            given = {"name": "w", "types": ["custom"], "count": hands, "lease_s": 5}
            assert http.post("/v1/workshop/board/workers", json=given).status_code == 201
        for _ in range(kills):
            begun = settle_begun(daemon)
            daemon.kill()
            gate.touch()
            daemon.start()
            assert begun, "there was nothing left to kill"
        found = settle(daemon, timeout_s)
        ends = ends_of(daemon)
        with daemon.http() as http:
            (worker,) = http.get("/v1/workshop/board/workers").json()["items"]
        assert worker["count"] == hands
        assert {item["status"] for item in found.values()} == {"done"}
        assert all("slept well" in item["result"] for item in found.values())
        assert ends == Counter(list(found))
    finally:
        daemon.stop()


def test_what_workers_had_when_the_daemon_was_killed_is_done_once(tmp_path: Path) -> None:
    work_through_kills(tmp_path, items=20, hands=3, kills=1, timeout_s=60)


@pytest.mark.deep
def test_hundreds_of_items_are_done_once_through_many_kills(tmp_path: Path) -> None:
    work_through_kills(tmp_path, items=300, hands=12, kills=12, timeout_s=300)


def test_the_board_by_hand(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        assert (
            cli(daemon, "board", "add", "Fix the build", "--id", "fix", "-t", "code", "--spec", "-", input="how")
            == "fix"
        )
        assert "waits for fix" in daemon.skillctl("board", "add", "Release", "--id", "out", "-d", "fix").stderr
        cli(daemon, "board", "add", "Again", "--id", "fix", code=1)
        assert "there is no such item" in cli(daemon, "board", "add", "Lost", "-d", "ghost", code=1)

        id, token = cli(daemon, "board", "claim", "--type", "code").split()
        assert id == "fix"
        cli(daemon, "board", "claim", "--type", "code", code=1)
        assert cli(daemon, "board", "start", "fix", "--token", token) == "fix: in_progress"
        assert cli(daemon, "board", "heartbeat", "fix", "--token", token) == "fix: in_progress"
        assert "another's" in cli(daemon, "board", "complete", "fix", "--token", "guess", code=1)

        daemon.kill()
        daemon.start()
        assert cli(daemon, "board", "complete", "fix", "--token", token, "--result", "it was the linker") == "fix: done"
        shown: dict[str, Any] = json.loads(cli(daemon, "board", "show", "fix", "--json"))
        assert (shown["result"], shown["spec"]) == ("it was the linker", "how")
        assert "it was the linker" in cli(daemon, "board", "show", "fix")

        assert "out" in cli(daemon, "board", "list", "--status", "ready")
        assert cli(daemon, "board", "cancel", "out", "--reason", "not now") == "out: cancelled"
        assert cli(daemon, "workshop", "board", "retry", "out") == "out: ready"
        assert cli(daemon, "board", "edit", "out", "-p", "1", "--no-depends-on") == "out: ready"
        cli(daemon, "board", "rm", "out")
        assert json.loads(cli(daemon, "board", "summary", "--json"))["total"] == 1
        assert "CODE" in cli(daemon, "board", "summary").upper()
        assert "completed" in cli(daemon, "workshop", "events", "--topic", "work")


def test_a_worker_does_items_and_verifies_them(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        cli(daemon, "workshop", "worker", "start", "w", "-t", "docs", "-t", "test")
        cli(daemon, "workshop", "work", "Good", "--id", "good", "-t", "docs", "--verify", "true")
        cli(daemon, "board", "add", "Bad", "--id", "bad", "-t", "test", "--verify", "false", "--max-attempts", "1")
        cli(daemon, "board", "add", "After", "--id", "after", "-t", "docs", "-d", "bad")
        found = settle(daemon, 60)
        assert {id: item["status"] for id, item in found.items()} == {
            "good": "done",
            "bad": "failed",
            "after": "blocked",
        }
        assert "did not pass" in found["bad"]["error"]
        assert "offline model" in found["good"]["result"]
        assert "w-1" in cli(daemon, "workshop", "worker", "list")
        cli(daemon, "board", "add", "More", "--id", "more", "--from", "w-1")
        assert json.loads(cli(daemon, "board", "show", "more", "--json"))["meta"]["from_agent"] == "w-1"
        cli(daemon, "workshop", "worker", "stop", "w")
        assert json.loads(cli(daemon, "workshop", "worker", "list", "--json"))["items"] == []
