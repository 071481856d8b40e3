"""The disk fills up under load: new messages are refused, none is lost, reads go on, and space heals it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.crash_kit import Follower, Sender, Toll, check_all, check_file, wait_for_acknowledged
from e2e.harness import Daemon, running, write_skill

pytestmark = pytest.mark.e2e

SCRIPT = """
import sys
with open({outside!r}, "a") as file:
    file.write(sys.argv[1] + "\\n")
print("did", sys.argv[1], "x" * 2000)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system can only be mounted by root with the right to mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Take all the space there is."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass
    return ballast


def refusals(daemon: Daemon, session: str, limit_s: float = 20.0) -> dict[str, object]:
    """Send until a message is refused for want of space; the error."""
    deadline = time.monotonic() + limit_s
    number = 0
    while time.monotonic() < deadline:
        answer = daemon.post(session, f"/job filler{number}-0", key=f"filler{number}-0")
        number += 1
        if answer.status_code == 507:
            error: dict[str, object] = answer.json()["error"]
            return error
    raise AssertionError("a full disk refused nothing")


def test_a_full_disk_refuses_new_messages_and_loses_none(small_disk: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    write_skill(tmp_path / "skills", "job", SCRIPT.format(outside=str(outside)))
    toll = Toll()
    with running(small_disk, skills=[tmp_path / "skills"]) as daemon:
        sessions = [daemon.create() for _ in range(2)]
        followers = [Follower(daemon, session) for session in sessions]
        senders = [Sender(daemon, session, f"s{n}", "/job {}".format) for n, session in enumerate(sessions)]
        for thread in (*followers, *senders):
            thread.start()
        time.sleep(0.5)
        for sender in senders:  # each conversation has to have something that can be lost
            wait_for_acknowledged([sender], 1)
        ballast = fill(small_disk)
        time.sleep(1.0)
        error = refusals(daemon, sessions[0])
        assert error["code"] == "storage_full"
        for session, sender in zip(sessions, senders, strict=True):
            sender.stop()
            toll.add(session, sender)
        with daemon.http() as http:  # reads go on
            assert http.get("/v1/sessions").status_code == 200
            assert http.get("/v1/health/live").status_code == 200
        assert daemon.events(sessions[1])

        ballast.unlink()
        deadline = time.monotonic() + 30
        while daemon.post(sessions[1], "/job healed-0", key="healed-0").status_code != 202:
            assert time.monotonic() < deadline, "it did not recover by itself"
            time.sleep(0.1)
        for session in sessions:
            rest(daemon, session)
        check_what_was_told(daemon, toll, followers, outside)
    check_file(daemon.state, toll.acked)


def rest(daemon: Daemon, session: str) -> None:
    """Wait until no turn of the session runs or waits."""
    deadline = time.monotonic() + 60
    with daemon.http() as http:
        while http.get(f"/v1/sessions/{session}").json()["status"] != "idle":
            assert time.monotonic() < deadline
            time.sleep(0.05)


def check_what_was_told(daemon: Daemon, toll: Toll, followers: list[Follower], outside: Path) -> None:
    for follower in followers:
        follower.finish(daemon.events(follower.session)[-1]["seq"])
    for session in toll.acked:  # fillers and the healing message were acknowledged too, or refused
        for event in daemon.events(session):
            if event["type"] == "turn.queued":
                toll.unsure.add(event["data"]["text"].split()[-1])
    check_all(daemon, toll, followers, outside)
