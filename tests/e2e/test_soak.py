"""Many turns in one daemon: its memory, descriptors and tasks stay what they were. `make deep` runs 100,000."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.harness import Daemon, running, write_skill

pytestmark = pytest.mark.e2e

SESSIONS = 8
SAMPLES = 10
SETTLE_S = 30.0  # for connections that close, conversations that are unloaded, and threads without work
CONFIG = "[limits]\nidle_unload_s = 1\n"
SCRIPT = "import sys\nprint('did', *sys.argv[1:])\n"


@dataclass(frozen=True)
class Sample:
    turns: int
    rss_kb: int
    descriptors: int
    threads: int


def sample(pid: int, turns: int) -> Sample:
    """What the process holds now."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return Sample(turns, int(status["VmRSS"].split()[0]), descriptors, int(status["Threads"]))


def slope(samples: list[Sample]) -> float:
    """KB of memory by which the daemon grows in 1,000 turns: least squares over the second half."""
    half = samples[len(samples) // 2 :]
    mean_turns = sum(each.turns for each in half) / len(half)
    mean_kb = sum(each.rss_kb for each in half) / len(half)
    spread = sum((each.turns - mean_turns) ** 2 for each in half)
    return 1000 * sum((each.turns - mean_turns) * (each.rss_kb - mean_kb) for each in half) / spread


def talk(daemon: Daemon, turns: int, number: int) -> None:
    """Conversations of fifty turns each; every other one is deleted. Some turns run a tool."""
    session = ""
    with daemon.http() as http:
        for turn in range(turns):
            if turn % 50 == 0:
                if session and turn % 100 == 0:
                    assert http.delete(f"/v1/sessions/{session}").status_code == 204
                session = http.post("/v1/sessions", json={}).json()["id"]
            text = f"/job {turn}" if turn % 25 == 24 else f"thread {number}, message {turn}"
            answer = http.post(f"/v1/sessions/{session}/messages", json={"text": text})
            assert answer.status_code == 202, answer.text
            ended = http.get(f"/v1/turns/{answer.json()['turn']}", params={"wait": 20}).json()
            assert ended["status"] == "finished", ended


def soak(folder: Path, turns: int) -> list[Sample]:
    """So many turns in all, by several clients at once; a sample after each tenth."""
    write_skill(folder / "skills", "job", SCRIPT)
    part = turns // SAMPLES // SESSIONS
    with running(folder, skills=[folder / "skills"], config=CONFIG) as daemon:
        samples = [sample(daemon.pid, 0)]
        print(f"{'turns':>8} {'RSS KB':>8} {'files':>6} {'threads':>8} {'turns/s':>8}")
        for done in range(1, SAMPLES + 1):
            began_s = time.monotonic()
            talkers = [threading.Thread(target=talk, args=(daemon, part, number)) for number in range(SESSIONS)]
            for talker in talkers:
                talker.start()
            for talker in talkers:
                talker.join()
            now = sample(daemon.pid, done * part * SESSIONS)
            rate = part * SESSIONS / (time.monotonic() - began_s)
            print(f"{now.turns:8} {now.rss_kb:8} {now.descriptors:6} {now.threads:8} {rate:8.1f}")
            samples.append(now)
        deadline = time.monotonic() + SETTLE_S
        while not is_as_it_was(samples) and time.monotonic() < deadline:
            time.sleep(0.1)
            samples[-1] = sample(daemon.pid, samples[-1].turns)
        with daemon.http() as http:
            status = http.get("/v1/status").json()
        assert status["turns_running"] == status["turns_queued"] == 0
    print(f"slope: {slope(samples):.1f} KB in 1,000 turns")
    return samples


def is_as_it_was(samples: list[Sample]) -> bool:
    first, last = samples[1], samples[-1]
    return last.descriptors <= first.descriptors + 20 and last.threads <= first.threads + 8


def check(samples: list[Sample], max_slope_kb: float) -> None:
    assert slope(samples) < max_slope_kb
    assert is_as_it_was(samples), (samples[1], samples[-1])


def test_a_thousand_turns_leave_the_daemon_as_it_was(tmp_path: Path) -> None:
    # So short a run still fills caches and the allocator's arenas: a leak of 10 KB a turn would be seen.
    check(soak(tmp_path, 1_000), max_slope_kb=10_000)


@pytest.mark.deep
def test_a_hundred_thousand_turns_leave_the_daemon_as_it_was(tmp_path: Path) -> None:
    check(soak(tmp_path, int(os.environ.get("SKILLD_TEST_TURNS", "100000"))), max_slope_kb=50)
