"""What a service manager hears from the real daemon."""

from __future__ import annotations

import signal
import socket
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
