"""Tool servers of conversations with the real daemon: approvals, kills, and that nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, processes_with, running
from skill_actors.testing import FakeMessagesApi, serve_in_thread

pytestmark = pytest.mark.e2e

SERVER = Path(__file__).parents[1] / "mcp_tool_server.py"
SOON_S = 60.0
CANCEL_S = 2.0
CONFIG = """
[mcp.servers.test]
command = "{python}"
args = ["{server}", "{folder}/notes"]
sandbox = "none"
env = {{ MARK = "{mark}" }}
secrets = {{ TOKEN = {{ file = "{folder}/token" }} }}
read_only = ["echo", "environment"]
[mcp.servers.broken]
command = "/bin/sh"
args = ["-c", "echo $TOKEN cannot be used >&2; exit 9"]
sandbox = "none"
secrets = {{ TOKEN = {{ file = "{folder}/token" }} }}
"""


class Service:
    """A daemon with tool servers, and the model that it asks."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder

    def session(self, *servers: str, **settings: Any) -> str:
        with self.daemon.http() as http:
            made = http.post("/v1/sessions", json={"mcp": list(servers), **settings})
            assert made.status_code == 201, made.text
            return str(made.json()["id"])

    def results(self, session: str) -> list[str]:
        events = self.daemon.events(session)
        return [event["data"]["content"] for event in events if event["type"] == "tool.finished"]

    def approval(self, session: str) -> dict[str, Any]:
        """The one that waits."""
        found: list[dict[str, Any]] = []

        def asked() -> bool:
            with self.daemon.http() as http:
                found[:] = http.get("/v1/approvals", params={"session": session}).json()["items"]
            return bool(found)

        until(asked)
        return found[0]

    def decide(self, id: str, **decision: Any) -> None:
        with self.daemon.http() as http:
            answer = http.post(f"/v1/approvals/{id}", json=decision)
            assert answer.status_code == 200, answer.text

    @property
    def notes(self) -> list[str]:
        file = self.folder / "notes"
        return file.read_text().splitlines() if file.exists() else []


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def call(tool: str, **input: Any) -> str:
    return f"#call mcp__test__{tool} {json.dumps(input)}"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "token").write_text("geheimnis-123")
    (tmp_path / "token").chmod(0o600)
    mark = f"mark-{tmp_path}"
    config = CONFIG.format(python=sys.executable, server=SERVER, folder=tmp_path, mark=mark)
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": api.base_url}
        with running(tmp_path, config=config, env=env) as daemon:
            yield Service(daemon, tmp_path)
        assert processes_with(mark) == [], "a tool server outlived the daemon"


def test_what_only_reads_is_called_and_secrets_come_back_hidden(started: Service) -> None:
    session = started.session("test")
    started.daemon.ask(session, call("echo", text="high tide"))
    started.daemon.ask(session, call("environment", text="TOKEN"))
    assert started.results(session) == ["echo: high tide", "***"]
    with started.daemon.http() as http:
        assert http.get(f"/v1/sessions/{session}").json()["mcp"] == ["test"]


def test_a_call_that_may_do_more_waits_and_is_made_once_when_it_is_allowed(started: Service) -> None:
    session = started.session("test")
    turn = started.daemon.post(session, call("count", text="")).json()["turn"]
    asked = started.approval(session)
    assert (asked["tool"], asked["place"]) == ("mcp__test__count", "mcp:test")
    assert "call count " not in started.notes
    started.decide(asked["id"], decision="allow")
    started.daemon.wait(turn)
    assert started.results(session) == ["1"]
    turn = started.daemon.post(session, call("count", text="")).json()["turn"]
    started.decide(started.approval(session)["id"], decision="deny", reason="not today")
    started.daemon.wait(turn)
    assert "not today" in started.results(session)[1]
    assert started.notes.count("call count ") == 1


def test_a_server_that_is_killed_in_a_call_is_told_of_and_comes_back(started: Service) -> None:
    session = started.session("test")
    turn = started.daemon.post(session, call("hang")).json()["turn"]
    started.decide(started.approval(session)["id"], decision="allow")
    until(lambda: "call hang " in started.notes)
    (pid,) = [pid for pid in processes_with(str(started.folder / "notes")) if is_server(pid)]
    os.kill(pid, signal.SIGKILL)
    started.daemon.wait(turn)
    assert "it ended by signal 9" in started.results(session)[0]
    started.daemon.ask(session, call("echo", text="back"))
    assert started.results(session)[1] == "echo: back"
    assert started.notes.count("call hang ") == 1


def is_server(pid: int) -> bool:
    return b"launcher.py" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_daemon_that_is_killed_takes_its_servers_and_what_they_started_along(started: Service) -> None:
    session = started.session("test", policy={"rules": []})
    turn = started.daemon.post(session, call("fork")).json()["turn"]
    started.decide(started.approval(session)["id"], decision="allow")
    started.daemon.wait(turn)
    child = int(started.results(session)[0])
    turn = started.daemon.post(session, call("hang")).json()["turn"]
    started.decide(started.approval(session)["id"], decision="allow")
    until(lambda: "call hang " in started.notes)
    started.daemon.kill()
    until(lambda: not processes_with(f"mark-{started.folder}"))
    until(lambda: not Path(f"/proc/{child}/environ").exists())
    started.daemon.start()
    assert started.daemon.wait(turn)["result"] is not None
    assert started.notes.count("call hang ") == 1  # it may have taken effect, and is never made again
    started.daemon.ask(session, "hello")
    started.daemon.ask(session, call("echo", text="again"))
    assert started.results(session)[-1] == "echo: again"


def test_a_server_that_cannot_be_used_is_said_and_the_others_are_there(started: Service) -> None:
    session = started.session("broken", "test")
    started.daemon.ask(session, call("echo", text="there"))
    (told,) = [event["data"] for event in started.daemon.events(session) if event["type"] == "tools.changed"]
    assert told["source"] == "broken"
    assert "it ended with 9; its last words: *** cannot be used" in told["missing"]
    assert started.results(session) == ["echo: there"]
    with started.daemon.http() as http:
        broken, test = sorted(http.get("/v1/mcp/servers").json()["items"], key=lambda item: item["name"])
        metrics = http.get("/metrics").text
    assert (broken["running"], test["running"], test["problem"]) == (0, 1, None)
    assert "*** cannot be used" in broken["problem"]
    assert 'skilld_tool_server_ends_total{reason="not_started",server="broken"} 1.0' in metrics
    assert 'backend="mcp",outcome="ok"' in metrics
    listed = started.daemon.skillctl("mcp-servers", "list")
    assert "broken" in listed.stdout
    shown = started.daemon.skillctl("show", session)
    assert "[the tools of broken are missing: " in shown.stdout + shown.stderr
    assert "geheimnis-123" not in started.daemon.log.read_text() + listed.stdout + metrics


def test_a_server_that_there_is_not_is_refused_with_the_nearest(started: Service) -> None:
    with started.daemon.http() as http:
        refused = http.post("/v1/sessions", json={"mcp": ["tset"]})
        assert refused.status_code == 400
        assert "did you mean 'test'?" in refused.text


def test_one_message_may_have_fewer_tools_of_a_server_or_none(started: Service) -> None:
    session = started.session("test")
    with started.daemon.http() as http:
        messages = f"/v1/sessions/{session}/messages"
        wanted = {"text": call("echo", text="one"), "options": {"tools": ["mcp__test__echo"]}}
        turn = http.post(messages, json=wanted)
        assert turn.status_code == 202, turn.text
        started.daemon.wait(turn.json()["turn"])
        refused = http.post(messages, json={"text": "x", "options": {"tools": ["mcp__other__echo"]}})
        assert refused.status_code == 400
        assert "offers no tool 'mcp__other__echo'" in refused.text
    assert started.results(session) == ["echo: one"]


def test_a_cancelled_turn_lets_go_of_its_call_within_two_seconds_and_the_server_is_told(started: Service) -> None:
    session = started.session("test", policy={"rules": [{"effect": "allow", "tool": "mcp__test__*"}]})
    turn = started.daemon.post(session, call("hang")).json()["turn"]
    started.decide(started.approval(session)["id"], decision="allow")
    until(lambda: "call hang " in started.notes)
    began = time.monotonic()
    with started.daemon.http() as http:
        assert http.post(f"/v1/turns/{turn}/cancel").status_code in (200, 202)
    ended = started.daemon.wait(turn)
    assert time.monotonic() - began < 10 * CANCEL_S
    assert ended["status"] == "cancelled"
    until(lambda: "hang was cancelled" in started.notes)
    started.daemon.ask(session, "hello")
    started.daemon.ask(session, call("echo", text="still there"))
    assert started.results(session)[-1] == "echo: still there"
    assert started.notes.count("started") == 1, "the server itself was ended"
