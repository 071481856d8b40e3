"""The check against the real API runs here against the fake one, and notices what is not as it should be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from skill_actors.testing import Answer, CodeExecution, FakeMessagesApi, Reply, Text, serve_in_thread

EXAMPLE = Path(__file__).parents[2] / "examples" / "hosted_check.py"

pytestmark = pytest.mark.skipif(
    not EXAMPLE.exists(), reason="the example is in the repository, and this is a copy of the tests"
)


class Model:
    """Answers as a model would that does what it is told; `lazy` makes no file."""

    def __init__(self, *, lazy: bool = False) -> None:
        self.lazy = lazy

    def __call__(self, body: Mapping[str, Any]) -> Answer:
        last = body["messages"][-1]
        if last["role"] == "assistant":
            files = {} if self.lazy else {"visits.xlsx": b"PK\3\4"}
            return Reply([CodeExecution(half="result", files=files), Text("Done.")])
        text = last["content"][0]["text"]
        if "uploaded visits.csv" in text:
            return Reply([CodeExecution("python make.py", half="call")], stop_reason="pause_turn")
        if "July" in text:
            return Reply([CodeExecution("python more.py", files={"visits2.xlsx": b"PK\3\4"}), Text("Done.")])
        return Reply([CodeExecution("cat SKILL.md"), Text("Kingfisher.")])


def check(api: FakeMessagesApi, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ANTHROPIC_API_KEY": "key"}
    command = [sys.executable, "-W", "error", str(EXAMPLE), f"--folder={folder}", f"--base-url={api.base_url}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def test_all_steps_are_as_expected_and_nothing_is_left_at_the_api(tmp_path: Path) -> None:
    with serve_in_thread(FakeMessagesApi(respond=Model())) as api:
        done = check(api, tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert done.stdout.endswith("all steps as expected\n")
        assert "paused, 1" in done.stdout
        assert (api.hosted.files.files, api.hosted.skills.custom()) == ({}, [])
    assert sorted(path.name for path in tmp_path.glob("*.xlsx")) == ["visits.xlsx", "visits2.xlsx"]


def test_a_step_that_fails_is_told_and_the_others_run(tmp_path: Path) -> None:
    with serve_in_thread(FakeMessagesApi(respond=Model(lazy=True))) as api:
        done = check(api, tmp_path)
    assert done.returncode == 1
    assert "FAIL  a spreadsheet in two turns: no file was made" in done.stdout
    assert done.stdout.endswith("1 steps failed\n")


def test_without_a_key_it_says_so(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, "ANTHROPIC_API_KEY" in done.stderr) == (2, True)
