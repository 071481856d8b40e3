"""Agents that stand in for one that is missing, on the real daemon: from the command line, and over a kill."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from doc_kit import blocks, page_names
from e2e.harness import Daemon, running

pytestmark = pytest.mark.e2e

_PROGRAM = """
import sys, time
prompt = sys.stdin.read()
if prompt.endswith("hang"):
    open("begun", "w").close()
    time.sleep(600)
print("second:", prompt)
"""
CHAIN: list[Any] = [{"backend": "first", "fallback": [{"backend": "second"}]}]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("fallback")
    script = folder / "second.py"
    script.write_text(_PROGRAM)
    config = f"""
[backends.command.first]
argv = ["no-such-program"]
[backends.command.second]
argv = {json.dumps([sys.executable, str(script)])}
"""
    with running(folder, config=config) as daemon:
        yield daemon


@pytest.mark.skipif(not page_names(), reason="reads the manual, and this is a copy of the tests")
def test_an_agent_whose_program_is_missing_is_answered_for_and_told_of(daemon: Daemon) -> None:
    """The commands of docs/agents.md."""
    (block,) = [block for block in blocks("docs/agents.md") if "test_fallback" in block.why]
    defined = daemon.skillctl(*shlex.split(block.text)[1:])
    assert defined.returncode == 0, defined.stderr
    answer = daemon.skillctl("ask", "writer", "hello")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("second:")
    with daemon.http() as http:
        info = http.get("/v1/workshop/agents/writer").json()
        metrics = http.get("/metrics").text
    assert info["settings"]["fallback"] == [{"backend": "second"}]
    shown = daemon.skillctl("show", info["session"])
    assert "second takes the turn" in shown.stdout + shown.stderr
    assert "no-such-program" in shown.stdout + shown.stderr
    assert 'skilld_agent_fallbacks_total{backend="first"} 1.0' in metrics


def test_a_turn_of_a_stand_in_that_a_kill_cuts_is_not_run_again_and_the_chain_goes_on(daemon: Daemon) -> None:
    session = daemon.create(backends=CHAIN)
    daemon.post(session, "hang")
    begun = daemon.state / "workspaces" / session / "begun"
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    begun.unlink()
    daemon.kill()
    daemon.start()
    turn = daemon.ask(session, "go on")
    assert turn["status"] == "finished"
    assert "hang" in turn["result"]["text"]  # the stand-in has no session, and was told
    assert not begun.exists()
    chosen = [event["data"]["backend"] for event in daemon.events(session) if event["type"] == "agent.chosen"]
    assert chosen == ["first", "second", "first", "second"]
    endings = [
        event["type"] for event in daemon.events(session) if event["type"] in ("turn.interrupted", "turn.finished")
    ]
    assert endings == ["turn.interrupted", "turn.finished"]


def test_what_is_no_whole_agent_stands_in_for_none(daemon: Daemon) -> None:
    with daemon.http() as http:
        refused = http.post(
            "/v1/sessions", json={"backends": [{"backend": "second", "fallback": [{"backend": "local"}]}]}
        )
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")
    assert "'local' is no whole agent" in refused.json()["error"]["message"]
