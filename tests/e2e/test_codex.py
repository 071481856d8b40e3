"""Conversations of the real daemon with the real `codex` program, whose models are a fake Responses API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_kit import real_codex
from e2e.harness import Daemon, processes_with, running
from skill_actors.models.base import Usage
from skill_actors.testing import Answer, FakeResponsesApi, Reply, Stall, Text, ToolUse, serve_in_thread

pytestmark = pytest.mark.e2e

ONE = Usage(input_tokens=1000, output_tokens=100)
COST_USD = (1000 * 10 + 100 * 50) / 1e6
PRICES = """
dated = 2026-01-01
web_search_per_1000 = 10
[[price]]
models = ["gpt-test"]
input = 10
cache_write_5m = 10
cache_write_1h = 10
cache_read = 1
output = 50
"""


def says(*parts: Text | ToolUse, fail: Stall | None = None) -> Answer:
    return Reply(parts, usage=ONE, fail=fail)


@pytest.fixture(scope="module")
def api() -> Iterator[FakeResponsesApi]:
    with serve_in_thread(FakeResponsesApi()) as api:
        yield api


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, api: FakeResponsesApi) -> Iterator[Daemon]:
    codex = real_codex()
    folder = tmp_path_factory.mktemp("codex")
    (folder / "prices.toml").write_text(PRICES)
    key = folder / "key"
    key.write_text("key-of-the-test")
    key.chmod(0o600)
    config = f"""
[model]
price_file = "{folder / "prices.toml"}"
[backends]
agents = ["codex_cli"]
[backends.codex_cli]
program = "{codex}"
api_key_file = "{key}"
base_url = "{api.base_url}"
model = "gpt-test"
retries = 0
unasked = true
answer_budget_usd = 0.1
turn_budget_usd = 1.0
"""
    with running(folder, config=config) as daemon:
        yield daemon


def test_a_turn_runs_its_commands_is_priced_and_the_next_goes_on(daemon: Daemon, api: FakeResponsesApi) -> None:
    api.enqueue(says(ToolUse("exec_command", {"cmd": "echo made > here"})), says(Text("It is done.")))
    session = daemon.create(backends=["codex_cli"])
    turn = daemon.ask(session, "make it")
    assert (turn["status"], turn["result"]["text"]) == ("finished", "It is done.")
    assert turn["result"]["cost_usd"] == pytest.approx(2 * COST_USD)
    assert (daemon.state / "workspaces" / session / "here").read_text() == "made\n"
    told = [event["type"] for event in daemon.events(session)]
    assert ("tool.started" in told, "tool.finished" in told) == (True, True)
    api.enqueue(says(Text("Still here.")))
    again = daemon.ask(session, "and now?")
    assert (again["result"]["text"], again["result"]["cost_usd"]) == ("Still here.", pytest.approx(COST_USD))
    assert "make it" in str(api.bodies[-1]["input"])


def test_a_killed_daemon_leaves_no_program_and_the_conversation_goes_on(daemon: Daemon, api: FakeResponsesApi) -> None:
    api.enqueue(says(Text("First.")), says(Text("half an answer"), fail=Stall(after=1)))
    session = daemon.create(backends=["codex_cli"])
    daemon.ask(session, "begin")
    before = len(api.bodies)
    daemon.post(session, "stall")
    _until(lambda: len(api.bodies) > before)
    mark = f"CODEX_HOME={daemon.state}"
    assert processes_with(mark)
    daemon.kill()
    _until(lambda: not processes_with(mark))
    daemon.start()
    api.enqueue(says(Text("Once more.")))
    turn = daemon.ask(session, "go on")
    assert turn["result"]["text"] == "Once more."
    assert "begin" in str(api.bodies[-1]["input"])


def test_a_turn_is_interrupted_before_it_passes_its_cap(daemon: Daemon, api: FakeResponsesApi) -> None:
    api.forget_answers()
    api.enqueue(*[says(ToolUse("exec_command", {"cmd": "true"})) for _ in range(40)])
    cap_usd = 20 * COST_USD
    session = daemon.create(backends=["codex_cli"], budget={"usd": cap_usd})
    before = len(api.bodies)
    turn = daemon.ask(session, "work for ever")
    api.forget_answers()
    assert turn["status"] == "failed"
    assert turn["result"]["error"]["code"] == "budget_exceeded"
    answers = len(api.bodies) - before
    assert answers * COST_USD <= cap_usd
    told = turn["result"]["usage"]["output_tokens"] / ONE.output_tokens
    assert told in (answers, answers - 1)  # the one that was under way is charged as the dearest that it can be
    assert turn["result"]["cost_usd"] is None


def _until(condition: object, within_s: float = 20.0) -> None:  # ten times the figure
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_backends_tell_which_program_it_is(daemon: Daemon) -> None:
    with daemon.http() as http:
        found = {item["name"]: item for item in http.get("/v1/backends").json()["items"]}
    assert found["codex_cli"]["available"] is True
    assert found["codex_cli"]["facts"]["version"] == "0.169.0"
    assert found["codex_cli"]["capabilities"]["budget"] == "tokens"
    assert Path(found["codex_cli"]["facts"]["folder"]).is_relative_to(daemon.state)
