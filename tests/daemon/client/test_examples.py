"""The example programs, run as a reader of the manual would run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fake_daemon import SESSION, FakeDaemon, a_turn, fake_daemon

EXAMPLES = Path(__file__).parents[3] / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="examples come with the sources, not with the wheel")


def start(daemon: FakeDaemon, name: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *args],
        env={**os.environ, "SKILLD_SOCKET": str(daemon.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_send_message_prints_the_answer(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("POST", "/v1/sessions", {"id": SESSION}, 201)
        daemon.on_events("POST", f"/v1/sessions/{SESSION}/messages", (a_turn("Hel", "lo"), "clean"))
        with start(daemon, "send_message.py", "hi") as process:
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "Hello\n(turn.finished, cost in USD: 0.0)\n", "")


def test_follow_events_follows_until_ctrl_c(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"last_seq": 2})
        daemon.on_events("GET", f"/v1/sessions/{SESSION}/events", (a_turn("x")[2:], "hang"))
        with start(daemon, "follow_events.py", SESSION) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline().split()[1:] for _ in range(3)]
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
    assert lines == [["3.1", "model.delta"], ["4", "model.message"], ["5", "turn.finished"]]
    assert (process.returncode, err) == (0, "")
