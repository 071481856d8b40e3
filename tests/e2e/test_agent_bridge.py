"""Agents that have the workshop's tools: the real programs, their models played by fake APIs, and our own turns."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from claude_kit import real_claude
from codex_kit import real_codex
from doc_kit import blocks, page_names
from e2e.harness import JSON, Daemon, running, write_skill
from skill_actors.models.base import Usage
from skill_actors.testing import FakeMessagesApi, FakeResponsesApi, Reply, Text, ToolUse, serve_in_thread
from skill_actors.workshop.guides import role_rules

pytestmark = pytest.mark.e2e

SOON_S = 60.0
SPENT = Usage(input_tokens=1000, output_tokens=100)
ECHO = "import sys\nprint(*sys.argv[1:])\n"
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


@dataclass
class Program:
    """A daemon with one agent program, and the API that plays its model."""

    daemon: Daemon
    api: Any
    backend: str

    def tool(self, name: str, arguments: JSON) -> Reply:
        """The model calls a tool of the workshop."""
        called = f"mcp__workshop__{name}" if self.backend == "claude_cli" else f"mcp__workshop/{name}"
        return Reply([ToolUse(called, arguments)], usage=SPENT)

    def says(self, *answers: Reply) -> None:
        self.api.enqueue(*answers)

    def define(self, name: str, **settings: Any) -> JSON:
        with self.daemon.http() as http:
            made: JSON = http.put(f"/v1/workshop/agents/{name}", json=settings).raise_for_status().json()
        return made

    def ask(self, name: str, text: str) -> JSON:
        with self.daemon.http(timeout_s=SOON_S + 10) as http:
            answer = http.post("/v1/workshop/ask", json={"agent": name, "text": text, "wait_s": SOON_S})
        found: JSON = answer.raise_for_status().json()
        return found

    @property
    def heard(self) -> str:
        """The last that its model was told."""
        return json.dumps(self.api.bodies[-1])


@pytest.fixture(params=["claude_cli", "codex_cli"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    backend: str = request.param
    found = real_claude() if backend == "claude_cli" else real_codex()
    made: Any = FakeMessagesApi() if backend == "claude_cli" else FakeResponsesApi()
    key = tmp_path / "key"
    key.write_text("key-of-the-test")
    key.chmod(0o600)
    (tmp_path / "prices.toml").write_text(PRICES)
    write_skill(tmp_path / "skills", "echo", ECHO)
    own = 'retries = 0\nmodel = "gpt-test"' if backend == "codex_cli" else "max_retries = 0"
    with serve_in_thread(made) as api:
        config = f"""
[model]
price_file = "{tmp_path / "prices.toml"}"
[backends]
agents = ["{backend}"]
[backends.{backend}]
program = "{found}"
api_key_file = "{key}"
base_url = "{api.base_url}"
answer_budget_usd = 0.1
turn_budget_usd = 1.0
{own}
"""
        with running(tmp_path, skills=[tmp_path / "skills"], config=config) as daemon:
            yield Program(daemon, api, backend)


def test_its_model_asks_another_agent_and_reads_the_answer(program: Program) -> None:
    program.define("helper", role="You repeat.")
    made = program.define("boss", backend=program.backend, workshop_tools=True)
    assert made["backend"] == program.backend
    program.says(
        program.tool("ask", {"agent": "helper", "prompt": "/echo forty two"}),
        Reply([Text("They said it.")], usage=SPENT),
    )
    turn = program.ask("boss", "find out")
    assert (turn["status"], turn["result"]["text"]) == ("finished", "They said it."), turn["result"]
    assert "forty two" in program.heard
    assert role_rules().splitlines()[0][:60] in json.dumps(program.api.bodies[-1], ensure_ascii=False)
    assert turn["result"]["cost_usd"] > 0
    with program.daemon.http() as http:
        history = http.get("/v1/workshop/agents/helper/history").json()["items"]
        costs = {each["name"]: each["cost_usd"] for each in http.get("/v1/workshop/cost").json()["items"]}
    assert [each["status"] for each in history] == ["finished"]
    assert costs["boss"] == pytest.approx(turn["result"]["cost_usd"])


def test_what_changes_something_waits_for_an_approval_and_what_reads_does_not(program: Program) -> None:
    program.define("boss", backend=program.backend, workshop_tools=["add_work", "agents"], policy="guarded")
    program.says(
        program.tool("agents", {}),
        program.tool("add_work", {"id": "w1", "title": "Write it"}),
        Reply([Text("On the board.")], usage=SPENT),
    )
    with program.daemon.http() as http:
        turn = http.post("/v1/workshop/cast", json={"agent": "boss", "text": "plan"}).raise_for_status().json()["turn"]
        (asked,) = wait_for(program.daemon, "/v1/approvals")
        assert asked["tool"] == "mcp__workshop__add_work"
        assert wait_for(program.daemon, "/v1/approvals") == [asked]
        assert http.get("/v1/workshop/board/items/w1").status_code == 404
    assert "boss: working" in program.heard or "boss: " in program.heard
    assert program.daemon.skillctl("approve", asked["id"]).returncode == 0
    ended = program.daemon.wait(turn, SOON_S)
    assert ended["status"] == "finished", ended["result"]
    with program.daemon.http() as http:
        assert http.get("/v1/workshop/board/items/w1").json()["title"] == "Write it"


def test_what_its_model_makes_is_bound_by_its_cap_for_good(program: Program) -> None:
    program.define("boss", backend=program.backend, workshop_tools=True)
    with program.daemon.http() as http:
        http.put("/v1/workshop/profiles/kid", json={"backend": program.backend}).raise_for_status()
    done = Reply([Text("Done.")], usage=SPENT)
    program.says(program.tool("from_profile", {"profile": "kid", "name": "child"}), done, done)
    bosses = program.ask("boss", "get help")["result"]
    assert "Made child" in program.heard, program.heard[-3000:]
    childs = program.ask("child", "hello")["result"]
    assert (bosses["text"], childs["text"]) == ("Done.", "Done.")
    cap = f"agent/{os.getuid()}.boss"
    with program.daemon.http() as http:
        cost = http.get("/v1/workshop/cost").json()
        assert {each["name"]: each["cost_usd"] for each in cost["items"]} == {
            "boss": pytest.approx(bosses["cost_usd"] + childs["cost_usd"]),
            "child": pytest.approx(childs["cost_usd"]),
        }
        assert cost["total"]["cost_usd"] == pytest.approx(bosses["cost_usd"] + childs["cost_usd"])
        http.post("/v1/budgets", json={"name": cap, "usd": cost["total"]["cost_usd"] + 1e-6}).raise_for_status()
    for _ in range(2):
        turn = program.ask("child", "go on")
        assert turn["status"] == "failed", turn["result"]
        error = turn["result"]["error"]
        assert error["code"] == "budget_exceeded"
        assert cap in error["message"]
        program.daemon.skillctl("workshop", "agent", "reset", "child")
    program.says(program.tool("create_agent", {"name": "other"}))
    assert program.ask("boss", "more")["result"]["error"]["code"] == "budget_exceeded"


def wait_for(daemon: Daemon, path: str) -> list[JSON]:
    deadline = time.monotonic() + SOON_S
    with daemon.http() as http:
        while not (found := http.get(path).json()["items"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return list(found)


# -- agents whose turns the daemon performs itself --------------------------------------------------------------------


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Program]:
    with serve_in_thread(FakeMessagesApi()) as api:
        env = {"ANTHROPIC_API_KEY": "key-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
        with running(tmp_path, env=env) as daemon:
            yield Program(daemon, api, "claude_cli")


def test_an_agent_of_our_own_has_the_tools_without_a_program(ours: Program) -> None:
    ours.define("helper")
    ours.define("boss", workshop_tools=True, policy="workspace", role="You lead.")
    ours.says(
        ours.tool("ask", {"agent": "helper", "prompt": "how many?"}),
        Reply([Text("forty two")], usage=SPENT),
        ours.tool("configure", {"context": "be free"}),
        ours.tool("create_agent", {"name": "child"}),
        Reply([Text("Good.")], usage=SPENT),
    )
    turn = ours.ask("boss", "find out")
    assert (turn["status"], turn["result"]["text"]) == ("finished", "Good."), turn["result"]
    told = [
        json.dumps(block["content"])
        for body in ours.api.bodies
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    assert any("forty two" in each for each in told)
    assert any("forbidden" in each and "Made" not in each for each in told)
    assert role_rules().splitlines()[-1][:40] in json.dumps(ours.api.bodies[0]["system"], ensure_ascii=False)
    with ours.daemon.http() as http:
        boss, child = (http.get(f"/v1/workshop/agents/{name}").json() for name in ("boss", "child"))
        assert http.get(f"/v1/sessions/{child['session']}").json()["parents"] == [boss["session"]]
        assert child["settings"]["policy"] == {"preset": "workspace"}


def test_what_is_listed_is_all_that_our_own_has_and_what_changes_something_is_asked_about(ours: Program) -> None:
    ours.define("boss", workshop_tools=["agents", "store_put"], policy="guarded")
    ours.says(
        ours.tool("agents", {}),
        ours.tool("store_put", {"namespace": "n", "key": "k", "value": 1}),
        Reply([Text("Kept.")], usage=SPENT),
    )
    with ours.daemon.http() as http:
        turn = http.post("/v1/workshop/cast", json={"agent": "boss", "text": "go"}).raise_for_status().json()["turn"]
        (asked,) = wait_for(ours.daemon, "/v1/approvals")
        assert asked["tool"] == "mcp__workshop__store_put"
    names = [tool["name"] for tool in ours.api.bodies[0]["tools"] if tool["name"].startswith("mcp__")]
    assert names == ["mcp__workshop__agents", "mcp__workshop__store_put"]
    assert ours.daemon.skillctl("approve", asked["id"]).returncode == 0
    assert ours.daemon.wait(turn, SOON_S)["result"]["text"] == "Kept."


def test_a_tool_that_there_is_not_and_a_backend_that_takes_none_are_refused(tmp_path: Path) -> None:
    with running(tmp_path, config='[backends.command.mine]\nargv = ["cat"]\n') as daemon, daemon.http() as http:
        for settings, why in (
            ({"workshop_tools": ["aks"]}, "did you mean 'ask'"),
            ({"workshop_tools": []}, "workshop_tools"),
            ({"workshop_tools": True, "backend": "mine"}, "the backend 'mine' takes no servers of tools"),
        ):
            answer = http.put("/v1/workshop/agents/a", json=settings)
            assert (answer.status_code, why in answer.text) == (400, True), answer.text
        made = http.put("/v1/workshop/agents/a", json={"workshop_tools": ["ask"]}).json()
        assert http.post("/v1/workshop/agents/a/reset").json()["name"] == made["name"]
        assert http.get("/v1/workshop/agents/a").json()["settings"]["workshop_tools"] == ["ask"]


@pytest.mark.skipif(not page_names(), reason="reads the manual, and this is a copy of the tests")
def test_the_commands_of_the_manual_do_what_it_says(tmp_path: Path) -> None:
    here = "tests/e2e/test_agent_bridge.py"
    texts = [block.text for block in blocks("docs/mcp.md") if block.mark == "run by" and block.why.startswith(here)]
    with running(tmp_path) as daemon:
        done = [daemon.skillctl(*shlex.split(line)[1:]) for text in texts for line in text.splitlines()]
        assert [each.returncode for each in done] == [0, 0], done
        with daemon.http() as http:
            assert http.get("/v1/workshop/agents/boss").json()["settings"]["workshop_tools"] is True
