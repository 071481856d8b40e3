"""The page about hosted execution: its programs run, one after the other, and its tables are whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from skill_actors.backends import anthropic
from skill_actors.backends.anthropic import HOSTED_ERRORS

PAGE = Path(__file__).parents[4] / "docs" / "hosted.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the page is in the repository")


def test_the_page_runs_from_top_to_bottom(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_error_and_every_function_of_the_page_is_there() -> None:
    text = PAGE.read_text()
    errors = re.findall(r"^\| `(\w+)` \| ", text.partition("## Errors")[2], re.MULTILINE)
    assert sorted(errors) == sorted(HOSTED_ERRORS)
    parts = text.partition("## The parts")[2].partition("```")[0]
    functions = {name for row in parts.splitlines() for name in re.findall(r"`(\w+)\(", row.partition(" | ")[0])}
    assert len(functions) == 14
    assert functions <= set(anthropic.__all__)
