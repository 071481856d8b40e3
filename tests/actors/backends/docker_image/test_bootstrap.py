"""The root filesystem: how the tool is called, and what becomes of it when it fails, hangs or is interrupted.

The real tool makes the slim image before the tests of CI; `test_images` looks into that.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from proc_kit import lives
from skill_actors.backends import BackendUnavailable
from skill_actors.backends.docker_image import BootstrapFailed, apt_sources
from skill_actors.backends.docker_image.bootstrap import bootstrap_command, make_root

DEBIAN = [
    "deb http://deb.debian.org/debian bookworm main",
    "deb http://deb.debian.org/debian bookworm-updates main",
    "deb http://deb.debian.org/debian-security bookworm-security main",
]


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is put here is found before anything else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def make(tar: Path, timeout_s: float = 30.0) -> list[str]:
    seen: list[str] = []
    make_root(tar, DEBIAN, timeout_s=timeout_s, progress=seen.append)
    return seen


def wait_gone(pid: int) -> None:
    until_s = time.monotonic() + 30
    while lives(pid):
        assert time.monotonic() < until_s, f"{pid} is still there"
        time.sleep(0.01)


def test_a_mirror_that_is_named_is_the_only_one() -> None:
    assert apt_sources("http://127.0.0.1:9/debian") == ["deb http://127.0.0.1:9/debian bookworm main"]


def test_the_sources_are_those_of_this_hosts_apt(bin_folder: Path) -> None:
    lines = [
        "http://127.0.0.1:9/debian/|bookworm|main|Debian",
        "http://127.0.0.1:9/debian/|bookworm|contrib|Debian",
        "http://127.0.0.1:9/debian/|bookworm-backports|main|Debian",
        "http://127.0.0.1:9/security/|bookworm-security|main|Debian",
        "http://127.0.0.1:9/security/|bookworm-security|main|Debian",
        "http://127.0.0.1:9/other/|bookworm|main|Somebody",
        "a line that is none",
    ]
    program(bin_folder, "apt-get", "cat <<'END'\n" + "\n".join(lines) + "\nEND")
    assert apt_sources() == [
        "deb http://127.0.0.1:9/debian/ bookworm main",
        "deb http://127.0.0.1:9/security/ bookworm-security main",
    ]


@pytest.mark.parametrize(
    "script",
    [
        "echo 'http://127.0.0.1:9/ubuntu/|noble|main|Ubuntu'",
        "echo 'http://127.0.0.1:9/security/|bookworm-security|main|Debian'",
        "echo 'http://127.0.0.1:9/debian/|bookworm|main|'",
        "exit 100",
    ],
)
def test_another_system_gets_debians_own_sources(bin_folder: Path, script: str) -> None:
    program(bin_folder, "apt-get", script)
    assert apt_sources() == DEBIAN


def test_a_host_without_apt_gets_debians_own_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert apt_sources() == DEBIAN


def test_the_tool_is_called_with_the_suite_the_tar_and_the_sources(tmp_path: Path) -> None:
    command = bootstrap_command(tmp_path / "root.tar", DEBIAN)
    assert command[0] == "mmdebstrap"
    assert command[-5:] == ["bookworm", str(tmp_path / "root.tar"), *DEBIAN]
    assert any(part.startswith("--include=") and "python3" in part for part in command)


def test_its_lines_are_the_progress_and_its_tar_is_the_result(bin_folder: Path, tmp_path: Path) -> None:
    program(
        bin_folder,
        "mmdebstrap",
        'echo "I: one" >&2; echo "I: two" >&2; for a; do case $a in *.tar) : >"$a";; esac; done',
    )
    assert make(tmp_path / "root.tar") == ["I: one", "I: two"]
    assert (tmp_path / "root.tar").exists()


def test_without_the_tool_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="apt-get install mmdebstrap"):
        make(tmp_path / "root.tar")


def test_a_failure_has_its_last_words(bin_folder: Path, tmp_path: Path) -> None:
    program(bin_folder, "mmdebstrap", 'echo "E: no such mirror" >&2; printf "\\377 odd\\n" >&2; exit 1')
    with pytest.raises(BootstrapFailed, match=r"E: no such mirror; . odd"):
        make(tmp_path / "root.tar")


def test_one_that_hangs_is_ended_with_what_it_started(bin_folder: Path, tmp_path: Path) -> None:
    program(bin_folder, "mmdebstrap", f"sleep 300 & echo $! >{tmp_path}/pid; wait")
    started = ""
    for timeout_s in (0.5, 5.0, 20.0):  # more, where it was ended before it could start anything
        with pytest.raises(BootstrapFailed, match="took longer than"):
            make(tmp_path / "root.tar", timeout_s=timeout_s)
        if (tmp_path / "pid").exists() and (started := (tmp_path / "pid").read_text()):
            break
    wait_gone(int(started))


def test_an_interrupt_ends_it_with_what_it_started(bin_folder: Path, tmp_path: Path) -> None:
    program(bin_folder, "mmdebstrap", "sleep 300 & echo $! >&2; wait")
    started: list[int] = []

    def interrupt(line: str) -> None:
        started.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_root(tmp_path / "root.tar", DEBIAN, timeout_s=30.0, progress=interrupt)
    wait_gone(started[0])
    assert [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)] == []
