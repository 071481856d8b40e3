"""What systemd is told."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from skilld.notify import Notifier, watchdog_interval_s


@pytest.mark.parametrize("abstract", [False, True])
def test_states_reach_the_manager(tmp_path: Path, abstract: bool) -> None:
    name = f"@skilld-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name[1:]}" if abstract else name)
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": name})
        assert notifier.active
        notifier.ready("3 skills\nREADY=0")
        notifier.status("busy")
        notifier.extend_timeout(1.5)
        notifier.watchdog()
        notifier.stopping()
        notifier.close()
        notifier.close()
        received = [manager.recv(999).decode() for _ in range(5)]
    assert received == [
        "READY=1\nSTATUS=3 skills READY=0",
        "STATUS=busy",
        "EXTEND_TIMEOUT_USEC=1500000",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


@pytest.mark.parametrize("address", ["", "relative", "tcp:1"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    assert not notifier.active
    notifier.ready()


def test_a_manager_that_is_gone_is_logged_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.ready()
    notifier.close()
    assert "cannot notify" in caplog.text


def test_the_watchdog_interval_counts_only_for_the_process_it_names() -> None:
    assert watchdog_interval_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, pid=7) == 30
    assert watchdog_interval_s({"WATCHDOG_USEC": "30000000"}) == 30
    assert watchdog_interval_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, pid=7) is None
    assert watchdog_interval_s({"WATCHDOG_USEC": "soon"}) is None
    assert watchdog_interval_s({}) is None
