"""What a service manager hears from the real daemon, and what it may send it."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from e2e.harness import Daemon

pytestmark = pytest.mark.e2e


def test_ready_is_said_when_the_socket_answers_and_stopping_before_the_end(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        daemon = Daemon(tmp_path, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        daemon.launch()
        try:
            assert b"READY=1" in manager.recv(4096)
            with daemon.http() as http:
                assert http.get("/v1/health/ready").status_code == 200
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            assert b"STOPPING=1" in manager.recv(4096)
        finally:
            assert daemon.stop() == 0


def test_hangups_during_the_start_do_not_end_it(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.launch()
    try:
        deadline = time.monotonic() + 30
        while not catches_hangups(daemon.pid):
            assert time.monotonic() < deadline, daemon.log.read_text()
            time.sleep(0.002)
        while not daemon.listens():
            os.kill(daemon.pid, signal.SIGHUP)
            assert time.monotonic() < deadline, daemon.log.read_text()
            time.sleep(0.005)
        with daemon.http() as http:
            assert http.get("/v1/health/live").status_code == 200
    finally:
        assert daemon.stop() == 0


def catches_hangups(pid: int) -> bool:
    """Whether the process has a handler for SIGHUP by now."""
    (mask,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (signal.SIGHUP - 1) & 1)
