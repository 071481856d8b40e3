"""Conversations whose turns are performed by a program, on the real daemon, and sessions that work for others."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_kit import stand_in
from doc_kit import blocks, page_names
from e2e.harness import Daemon, program, running
from proc_kit import lives
from skill_actors.backends.agents.claude.arguments import FLAGS
from skill_actors.testing import FakeMessagesApi, Reply, Text, serve_in_thread

pytestmark = pytest.mark.e2e

# Prints the prompt; told to, it starts a process of its own that outlives its parent, says its id, and stays.
_PROGRAM = """
import json, os, sys, time
prompt = sys.stdin.read()
if prompt.endswith("hang"):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open("pids", "a").write(f"{os.getpid()}\\n")
            time.sleep(600)
        os._exit(0)
    os.wait()
    open("pids", "a").write(f"{os.getpid()}\\n")
    print("half an answer", flush=True)
    time.sleep(600)
print(prompt)
"""


@pytest.fixture(scope="module")
def api() -> Iterator[FakeMessagesApi]:
    with serve_in_thread(FakeMessagesApi(respond=lambda _body: Reply([Text("ok")]))) as api:
        yield api


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, api: FakeMessagesApi) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("agents")
    script = folder / "agent.py"
    script.write_text(_PROGRAM)
    config = f"""
[backends.command.mine]
argv = {json.dumps([sys.executable, str(script)])}
[backends.command.missing]
argv = ["no-such-program"]
"""
    env = {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
    with running(folder, config=config, env=env) as daemon:
        yield daemon


def ask(daemon: Daemon, session: str, text: str) -> dict[str, object]:
    """Send, wait for the ending, and return the turn."""
    with daemon.http() as http:
        turn = http.post(f"/v1/sessions/{session}/messages", json={"text": text}).raise_for_status().json()["turn"]
        found: dict[str, object] = http.get(f"/v1/turns/{turn}", params={"wait": 30}).json()
    return found


def make(daemon: Daemon, **settings: object) -> str:
    with daemon.http() as http:
        return str(http.post("/v1/sessions", json=settings).raise_for_status().json()["id"])


def pids(daemon: Daemon, session: str) -> list[int]:
    """Of the processes that wrote themselves down."""
    try:
        return [int(line) for line in (daemon.state / "workspaces" / session / "pids").read_text().split()]
    except FileNotFoundError:
        return []


def wait_for(count: int, daemon: Daemon, session: str) -> list[int]:
    deadline = time.monotonic() + 60
    while len(found := pids(daemon, session)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def wait_for_text(daemon: Daemon, session: str, text: str) -> None:
    """Return when the daemon has told it of a turn that goes on: a program's id can be read before what it prints."""
    with daemon.http() as http, http.stream("GET", f"/v1/sessions/{session}/events", params={"after": 0}) as told:
        assert any(text in line for line in told.iter_lines())


def wait_gone(found: list[int]) -> None:
    deadline = time.monotonic() + 20  # ten times the figure
    while any(map(lives, found)):
        assert time.monotonic() < deadline, [pid for pid in found if lives(pid)]
        time.sleep(0.02)


def test_a_program_answers_and_is_told_what_was_said_before(daemon: Daemon) -> None:
    first = daemon.skillctl("send", "--backend", "mine", "hello")
    assert first.returncode == 0, first.stderr
    assert "hello" in first.stdout
    second = daemon.skillctl("send", "-c", "and again")
    assert '{"user": "hello"}' in second.stdout
    assert second.stdout.rstrip().endswith("and again")


def test_backends_show_what_an_agent_can_do_and_why_one_cannot_be_had(daemon: Daemon) -> None:
    with daemon.http() as http:
        found = {item["name"]: item for item in http.get("/v1/backends").json()["items"]}
        refused = http.post("/v1/sessions", json={"backends": ["missing"]})
    assert found["mine"]["available"] is True
    assert found["mine"]["capabilities"]["budget"] == "none"
    assert found["mine"]["facts"]["program"] == sys.executable
    assert found["missing"]["available"] is False
    assert "no-such-program" in found["missing"]["problem"]
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "backend_unavailable")
    assert "install it" in refused.json()["error"]["message"]
    shown = daemon.skillctl("backends", "mine")
    assert shown.returncode == 0, shown.stderr
    assert "interrupt" in shown.stdout


def test_a_cancel_ends_the_program_and_all_that_it_started(daemon: Daemon) -> None:
    session = make(daemon, backends=["mine"])
    with daemon.http() as http:
        turn = http.post(f"/v1/sessions/{session}/messages", json={"text": "hang"}).json()["turn"]
        found = wait_for(2, daemon, session)
        wait_for_text(daemon, session, "half an answer")
        assert all(map(lives, found))
        http.post(f"/v1/turns/{turn}/cancel").raise_for_status()
        ended = http.get(f"/v1/turns/{turn}", params={"wait": 20}).json()
    assert ended["status"] == "cancelled"
    assert ended["result"]["text"].strip() == "half an answer"
    wait_gone(found)


def test_a_killed_daemon_leaves_no_program_and_the_turn_is_interrupted(daemon: Daemon) -> None:
    session = make(daemon, backends=["mine"])
    with daemon.http() as http:
        turn = http.post(f"/v1/sessions/{session}/messages", json={"text": "hang"}).json()["turn"]
    found = wait_for(2, daemon, session)
    daemon.kill()
    wait_gone(found)
    daemon.start()
    with daemon.http() as http:
        assert http.get(f"/v1/turns/{turn}", params={"wait": 20}).json()["status"] == "interrupted"
    after = ask(daemon, session, "go on")
    assert after["status"] == "finished", after["result"]
    assert "the daemon was restarted" in str(after["result"])


def test_a_program_whose_spending_nobody_can_see_is_refused_under_a_cap_on_money(daemon: Daemon) -> None:
    session = make(daemon, backends=["mine"], budget={"usd": 5})
    turn = ask(daemon, session, "hello")
    error = turn["result"]["error"]  # type: ignore[index]
    assert error["code"] == "budget_exceeded"
    assert "cannot tell what a turn takes" in error["message"]
    free = make(daemon, backends=["mine"], budget={"tool_calls": 5})
    assert ask(daemon, free, "hello")["status"] == "finished"


def test_a_child_is_bound_by_the_budget_of_its_parent_and_charged_to_it(daemon: Daemon) -> None:
    parent = make(daemon, budget={"usd": 1.0})
    child = daemon.skillctl("send", "--parent", parent, "--json", "hello")
    assert child.returncode == 0, child.stderr
    with daemon.http() as http:
        id = json.loads(child.stdout.splitlines()[0])["session"]
        assert http.get(f"/v1/sessions/{id}").json()["parents"] == [parent]
        used = {
            item["key"]: item["cost_usd"] for item in http.get("/v1/usage", params={"by": "session"}).json()["items"]
        }
        http.patch(f"/v1/sessions/{parent}", json={"budget": {"usd": used[id] + 1e-6}}).raise_for_status()
    refused = ask(daemon, id, "more")
    error = refused["result"]["error"]  # type: ignore[index]
    assert error["code"] == "budget_exceeded"
    assert f"session/{parent}" in error["message"]


def test_a_parent_has_to_be_ones_own_and_there_is_an_end_to_depth(daemon: Daemon) -> None:
    with daemon.http() as http:
        nobody = http.post("/v1/sessions", json={"parent": "ses_" + "a" * 26})
        assert (nobody.status_code, nobody.json()["error"]["code"]) == (404, "not_found")
        above = make(daemon)
        for _ in range(8):
            above = make(daemon, parent=above)
        deep = http.post("/v1/sessions", json={"parent": above})
        assert (deep.status_code, deep.json()["error"]["code"]) == (400, "bad_request")
        fixed = http.patch(f"/v1/sessions/{above}", json={"parent": above})
        assert fixed.status_code == 400


# -- the claude program, played by a stand-in -------------------------------------------------------------------------

ASKS = {"backends": ["claude_cli"], "policy": {"rules": [{"effect": "ask"}]}}


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[Daemon]:
    key = tmp_path / "key"
    key.write_text("sk-ant-secret-of-the-test")
    key.chmod(0o600)
    config = f"""
[backends]
agents = ["claude_cli"]
[backends.claude_cli]
program = "{stand_in(tmp_path)}"
api_key_file = "{key}"
answer_budget_usd = 0.5
environment = {{ STAND_IN_HELP = "{" ".join(sorted(FLAGS))}" }}
"""
    with running(tmp_path, config=config) as daemon:
        yield daemon


def begun(daemon: Daemon, session: str, text: str) -> str:
    """The id of a turn that waits for an approval."""
    turn = str(daemon.post(session, text).json()["turn"])
    deadline = time.monotonic() + 60
    with daemon.http() as http:
        while not http.get("/v1/approvals").json()["items"]:
            assert time.monotonic() < deadline, daemon.events(session)
            time.sleep(0.02)
    return turn


def test_what_the_program_asks_is_an_approval_and_its_session_is_gone_on_with_after_a_kill(claude: Daemon) -> None:
    session = claude.create(**ASKS)
    turn = begun(claude, session, 'ask Bash {"command": "echo hi"}')
    with claude.http() as http:
        (asked,) = http.get("/v1/approvals").json()["items"]
    assert (asked["tool"], asked["command"], asked["backend"]) == ("Bash", "echo hi", "claude_cli")
    assert claude.skillctl("approve", asked["id"]).returncode == 0
    ended = claude.wait(turn)
    assert ended["status"] == "finished", ended
    assert ended["result"]["cost_usd"] > 0
    known = [event["data"]["session_id"] for event in claude.events(session) if event["type"] == "agent.session"]
    waits = begun(claude, session, 'ask Bash {"command": "echo again"}')
    claude.kill()
    claude.start()
    assert claude.wait(waits)["status"] == "interrupted"  # its program is gone: nobody can allow it any more
    with claude.http() as http:
        assert http.get("/v1/approvals").json()["items"] == []
    assert claude.ask(session, "hello")["status"] == "finished"
    after = [event["data"]["session_id"] for event in claude.events(session) if event["type"] == "agent.session"]
    assert set(after) == set(known)
    assert len(known[0]) > 0


def test_the_program_gets_what_the_caps_leave_as_its_own_cap(claude: Daemon) -> None:
    session = claude.create(backends=["claude_cli"], budget={"usd": 0.75})
    assert claude.ask(session, "hello")["status"] == "finished"
    (file,) = (claude.state / "agents" / "claude_cli").rglob("stand-in.jsonl")
    starts = [json.loads(line) for line in file.read_text().splitlines()]
    words = next(start["argv"] for start in starts if "--max-budget-usd" in start.get("argv", ()))
    assert float(words[words.index("--max-budget-usd") + 1]) == pytest.approx(0.25, abs=0.001)
    assert "sk-ant-secret-of-the-test" not in json.dumps([start.get("argv") for start in starts])
    tight = claude.create(backends=["claude_cli"], budget={"usd": 0.4})
    assert claude.ask(tight, "hello")["result"]["error"]["code"] == "budget_exceeded"


def typed(page: str) -> list[str]:
    """The commands of a page that this test types."""
    here = "tests/e2e/test_agents.py"
    found = [block.text for block in blocks(page) if block.mark == "run by" and block.why.startswith(here)]
    return [line for text in found for line in text.splitlines()]


@pytest.mark.skipif(not page_names(), reason="reads the manual, and this is a copy of the tests")
def test_the_commands_of_the_manual_do_what_it_says(tmp_path: Path, daemon: Daemon) -> None:
    """docs/agents.md, with the configuration it shows but for programs that are not here; docs/budgets.md."""
    config = next(block.text for block in blocks("docs/agents.md") if block.kind == "toml")
    with running(tmp_path, config=re.sub(r"(?m)^agents = .*$", "", config)) as shown:
        done = [shown.skillctl(*shlex.split(line)[1:]) for line in typed("docs/agents.md")]
        assert [each.returncode for each in done] == [0, 0, 0], [each.stderr for each in done]
        assert "HELLO" in done[1].stdout
        assert "AND AGAIN" in done[2].stdout
    (line,) = typed("docs/budgets.md")
    child = daemon.skillctl(*shlex.split(line.replace("$session", make(daemon)))[1:])
    assert child.returncode == 0, child.stderr


def test_config_check_and_doctor_know_agents(tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text('[backends]\nagents = ["claude-cli"]\n')
    environment = {**os.environ, "SKILLD_SOCKET": str(tmp_path / "s.sock"), "SKILLD_STATE_DIR": str(tmp_path)}
    done = subprocess.run(
        [*program("skilld"), "--config", str(file)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 78
    assert "there is no agent backend 'claude-cli'; there are claude_cli, codex_cli" in done.stderr
    file.write_text('[backends.command.mine]\nargv = ["no-such-program"]\n')
    doctor = subprocess.run(
        [*program("skillctl"), "doctor", "--config", str(file)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert "no-such-program" in doctor.stdout
