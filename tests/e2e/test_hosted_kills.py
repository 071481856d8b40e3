"""A daemon that is killed at each step of a hosted turn: nothing is run again, and the conversation goes on.

The fake API refuses what the real one refuses, so that a next turn that finishes shows a history that can be sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from e2e.harness import Daemon, running
from skill_actors.testing import CodeExecution, FakeMessagesApi, Reply, Text, Thinking, ToolUse, serve_in_thread

pytestmark = pytest.mark.e2e

NEVER = Reply([Text("never")], first_delay_s=600)
HALF = CodeExecution("make", half="call")
BASH = {"description": "d"}
STEPS: dict[str, tuple[Sequence[Reply], str]] = {
    "before an answer": ([NEVER], "turn.started"),
    "in a pause": ([Reply([Thinking("hm"), HALF], stop_reason="pause_turn"), NEVER], "model.message"),
    "after a file was named": (
        [Reply([CodeExecution("a", files={"a.txt": b"1"}), HALF], stop_reason="pause_turn"), NEVER],
        "file.created",
    ),
    "in a tool of ours beside code that runs": (
        [Reply([HALF, ToolUse("bash_tool", {"command": "sleep 60", **BASH})])],
        "tool.started",
    ),
    "after a tool of ours beside code that runs": (
        [Reply([HALF, ToolUse("bash_tool", {"command": "echo 1", **BASH})]), NEVER],
        "tool.finished",
    ),
    "after a file was sent there": (
        [Reply([HALF, ToolUse("hand_over", {"name": "in.txt", "from": "local", "to": "anthropic"})]), NEVER],
        "tool.finished",
    ),
    "after the container was lost": ([NEVER], "session.container_lost"),
}
SOON_S = 60.0


@pytest.fixture  # for each case, since what a killed daemon had sent may arrive later and take another's answer
def api() -> Iterator[FakeMessagesApi]:
    with serve_in_thread(FakeMessagesApi([])) as api:
        yield api


@pytest.fixture
def daemon(tmp_path: Path, api: FakeMessagesApi) -> Iterator[Daemon]:
    env = {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
    with running(tmp_path, env=env) as daemon:
        yield daemon


def changes_since(api: FakeMessagesApi, began_s: float) -> list[str]:
    """Paths of requests that came since then and ask for anything to be done."""
    return [request.path for request in api.requests if request.received_s > began_s and request.method != "GET"]


def wait_arrived(api: FakeMessagesApi) -> None:
    """Return when all that a killed daemon had sent was taken: connections are, in the order they were made."""
    for _ in range(3):
        assert httpx.get(f"{api.base_url}/after-the-kill", trust_env=False, timeout=30).status_code == 404
    deadline = time.monotonic() + SOON_S
    while any(request.outcome == "open" for request in api.requests):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for(daemon: Daemon, session: str, turn: str, type: str) -> None:
    deadline = time.monotonic() + 60
    about = None if type.startswith("session.") else turn
    while not any(event["type"] == type and event["turn"] == about for event in daemon.events(session)):
        assert time.monotonic() < deadline, f"no {type} within 60 s"
        time.sleep(0.005)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_of_a_hosted_turn_repeats_nothing_and_costs_no_conversation(
    daemon: Daemon, api: FakeMessagesApi, step: str
) -> None:
    replies, until = STEPS[step]
    session = daemon.create(backends=["local", "anthropic"])
    with daemon.http() as http:
        http.put(f"/v1/sessions/{session}/files/in.txt", content=b"12").raise_for_status()
    if until == "session.container_lost":
        api.enqueue(Reply([CodeExecution("a"), Text("x")]))
        assert daemon.ask(session, "begin")["status"] == "finished"
        api.hosted.expire()
    api.enqueue(*replies)
    turn = daemon.post(session, "go").json()["turn"]
    wait_for(daemon, session, turn, until)
    daemon.kill()
    wait_arrived(api)
    began_s = time.monotonic()
    daemon.start()
    wait_for(daemon, session, turn, "turn.interrupted")  # the start does not wait for the endings that it writes
    ended = daemon.wait(turn)
    assert (ended["status"], ended["result"]["cost_usd"]) == ("interrupted", None)
    api._answers.clear()  # what the killed turn had still been about to get
    api.enqueue(Reply([Text("on")]))
    assert daemon.ask(session, "go on")["result"].get("text") == "on"
    assert changes_since(api, began_s) == ["/v1/messages"]
    told = str(api.bodies[-1]["messages"])
    assert "make" not in told, "a call that will have no result is not sent again"
    assert ("may or may not have taken effect" in told) == (until == "tool.started")
