"""`make demo` shows what it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo.py"


@pytest.mark.e2e
@pytest.mark.skipif(not DEMO.exists(), reason="the demo is in the repository, and this is a copy of the tests")
def test_the_demo_shows_every_part_in_under_a_minute_and_leaves_nothing(tmp_path: Path) -> None:
    """It checks each of its parts itself and fails where one is not as told."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("error rate", "HELLO AGAIN", "STILL HERE", "no process of it is left", "skillctl skills list"):
        assert part in done.stdout
    assert list(tmp_path.iterdir()) == []
