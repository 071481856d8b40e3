"""scripts/engine: an engine for the tests, started and ended whole. Each test has a /run of its own, where none is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import require

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts/engine"

pytestmark = pytest.mark.skipif(
    not SCRIPT.exists(), reason="runs the repository's script, and this is a copy of the tests"
)

PRELUDE = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
unset DOCKER_HOST
engine() { scripts/engine "$@"; }
left() { ls -d /run/skilld-engine-* /var/lib/skilld-engine-"$(pwd | sha256sum | cut -c1-12)" 2>/dev/null || true; }
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script, at a place that no other test has."""
    (tmp_path / "scripts").mkdir()
    for name in ("engine", "need"):
        shutil.copy2(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    return tmp_path


def run(checkout: Path, script: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run shell lines in a mount namespace of their own."""
    require(os.getuid() == 0, "needs root: the script starts an engine")
    environment = {"PATH": ":".join([*map(str, path), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])}
    command = ["unshare", "--mount", "bash", "-c", PRELUDE + script]
    return subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, timeout=120, env=environment, check=False
    )


def demand_engine_program() -> None:
    require(shutil.which("dockerd", path="/usr/sbin:/usr/bin:/usr/local/bin") is not None, "dockerd is not installed")


def test_it_starts_one_engine_and_ends_it_with_its_containers(checkout: Path) -> None:
    demand_engine_program()
    done = run(
        checkout,
        """
        first=$(engine up); second=$(engine up)
        [ "$first" = "$second" ]
        export DOCKER_HOST=$first
        [ "$(engine up)" = "$first" ]
        curl --silent --fail --unix-socket "${first#unix://}" http://engine/info | grep -o '"Containers":[0-9]*'
        pid=$(cat /run/skilld-engine-*/pid)
        unset DOCKER_HOST
        engine down; engine down
        ! kill -0 "$pid" 2>/dev/null
        left
        """,
    )
    assert (done.returncode, done.stdout) == (0, '"Containers":0\n'), done.stderr


def test_a_killed_engine_is_cleared_away_and_another_one_started(checkout: Path) -> None:
    demand_engine_program()
    done = run(
        checkout,
        """
        engine up >/dev/null
        kill -KILL "$(cat /run/skilld-engine-*/pid)"
        while [ -d "/proc/$(cat /run/skilld-engine-*/pid)" ]; do sleep 0.05; done
        engine up | sed 's/-[0-9a-f]*\\/docker/-KEY\\/docker/'
        engine down
        left
        """,
    )
    assert (done.returncode, done.stdout) == (0, "unix:///run/skilld-engine-KEY/docker.sock\n"), done.stderr


def test_it_says_why_an_engine_cannot_start_and_leaves_nothing(checkout: Path, tmp_path: Path) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "dockerd").write_text("#!/bin/sh\necho 'failed to start daemon: Devices cgroup is not mounted'\nexit 1\n")
    (broken / "dockerd").chmod(0o755)
    done = run(checkout, "engine up || echo $?; left", broken)
    assert done.stdout == "1\n"
    assert "dockerd ended" in done.stderr
    assert "Devices cgroup is not mounted" in done.stderr


def test_an_address_that_is_given_is_used_or_refused(checkout: Path) -> None:
    done = run(checkout, "DOCKER_HOST=unix:///run/none.sock engine up || echo $?; left")
    assert done.stdout == "1\n"
    assert "nothing answers at DOCKER_HOST=unix:///run/none.sock" in done.stderr


def test_down_does_not_end_a_process_that_has_taken_the_number(checkout: Path) -> None:
    done = run(
        checkout,
        """
        folder=/run/skilld-engine-$(pwd | sha256sum | cut -c1-12)
        mkdir -p "$folder"
        sleep 60 & echo $! >"$folder/pid"
        engine down
        kill -0 $! && echo lives
        kill $!
        left
        """,
    )
    assert (done.returncode, done.stdout) == (0, "lives\n"), done.stderr
