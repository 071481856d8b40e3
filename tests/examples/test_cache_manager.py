"""The CacheManager of ADR-0020, in the process of the program and in a worker process: both say the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "cache_manager.py"

pytestmark = pytest.mark.skipif(
    not EXAMPLE.exists(), reason="the example is in the repository, and this is a copy of the tests"
)

SAID = """\
  cache_manager_write greeting: greeting is kept
  cache_manager_read greeting: hello
  cache_manager_read stats: {"entries": 1, "bytes": 5}
  cache_manager_execute clear: Cache cleared
  cache_manager_read stats: {"entries": 0, "bytes": 0}
  I have cleared the cache.
"""


def test_the_cache_is_managed_in_this_process_and_from_a_worker_process(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for first in (2, 9):  # these two are read at the same time: either may be the first
        lines[first : first + 2] = sorted(lines[first : first + 2])
    assert lines == ["in this process:", *SAID.splitlines(), "in a worker process:", *SAID.splitlines()]
