"""What the runner on the host does besides what every runner does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from skill_actors.backends.local_runner import check_program, usage_below


@pytest.mark.parametrize(
    ("name", "message"),
    [("no-such", "No such file"), ("plain", "Permission denied"), ("words", "Exec format error"), ("./x/y", "No such")],
)
def test_a_program_that_could_not_be_started_is_told_by_its_error(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    (tmp_path / "words").write_text("no interpreter line")
    (tmp_path / "words").chmod(0o755)
    with pytest.raises(OSError, match=message) as told:
        check_program(name, f"/no/such/folder:{tmp_path}", "/")
    assert told.value.filename == name


def test_a_program_is_found_by_path_or_from_where_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "script").chmod(0o755)
    check_program("sh", f"/no/such/folder:{tmp_path}", "/")
    check_program("./script", "", str(tmp_path))
    check_program("script", "", str(tmp_path))  # an empty part of PATH is the current folder
    check_program("/bin/sh", "", "/")


def test_usage_counts_all_below_and_not_the_process_itself() -> None:
    command = "sleep 60 & (sleep 60 & exec sleep 60) & while [ ! -e /no/such/file ]; do :; done"
    parent = subprocess.Popen(["bash", "-c", f"({command}) & wait"], start_new_session=True)
    try:
        deadline = time.monotonic() + 20
        processes, cpu_s, memory_bytes = 0, 0.0, 0
        while processes < 4 or cpu_s < 0.1:
            assert time.monotonic() < deadline
            processes, memory_bytes, cpu_s = usage_below(parent.pid)
        assert processes == 4
        assert usage_below(parent.pid, most=4)[0] == 4
        assert usage_below(parent.pid, most=2) == (3, 0, 0.0)  # no further than it takes to know
        assert 0 < memory_bytes < 100 << 20
        assert usage_below(os.getpid())[0] >= 5
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
