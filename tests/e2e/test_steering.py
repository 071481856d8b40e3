"""Steering, interrupting, pausing and options of one message: the real programs and the fake API."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, clean_environment, program, running, write_skill
from skill_actors.testing import FakeMessagesApi, Reply, Text, ToolUse, serve_in_thread
from terminal_kit import Terminal, at_terminal

pytestmark = pytest.mark.e2e

SOON_S = 60.0
WAITS = ToolUse("bash_tool", {"command": "while [ ! -e go ]; do sleep 0.02; done", "description": "d"})


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, FakeMessagesApi]]:
    """One daemon for all tests here; two of them kill it and start it again."""
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "sk-ant-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
        folder = tmp_path_factory.mktemp("steering")
        write_skill(folder / "skills", "echo", "import sys\nprint(*sys.argv[1:])\n")
        with running(folder, skills=[folder / "skills"], env=env) as daemon:
            yield daemon, api


def said(body: Any) -> list[str]:
    """What the user says in a request, without what the program says."""
    blocks = [block for message in body["messages"] if message["role"] == "user" for block in message["content"]]
    return [block["text"] for block in blocks if block["type"] == "text" and not block["text"].startswith("[")]


def see(daemon: Daemon, session: str, type: str) -> None:
    deadline = time.monotonic() + SOON_S
    while type not in [event["type"] for event in daemon.events(session)]:
        assert time.monotonic() < deadline, f"no {type} within {SOON_S:g} s"
        time.sleep(0.02)


def begin(daemon: Daemon, api: FakeMessagesApi, *answers: Reply) -> tuple[str, str]:
    """A session, and a turn of it that runs a tool until `let`."""
    api.enqueue(Reply([WAITS]), *answers)
    session = daemon.create()
    turn = str(daemon.post(session, "begin").json()["turn"])
    see(daemon, session, "tool.started")
    return session, turn


def let(daemon: Daemon, session: str) -> None:
    (daemon.state / "workspaces" / session / "go").touch()


def test_a_word_to_the_running_turn_is_in_its_next_request(started: tuple[Daemon, FakeMessagesApi]) -> None:
    daemon, api = started
    session, turn = begin(daemon, api, Reply([Text("as you say")]))
    steered = daemon.skillctl("steer", "-s", session, "--json", "--key", "k1", "only the last ten")
    answer = json.loads(steered.stdout)
    assert (answer["status"], answer["turn"], answer["duplicate"]) == ("steered", turn, False)
    again = json.loads(daemon.skillctl("steer", "--json", "--key", "k1", "only the last ten").stdout)
    assert (again["seq"], again["duplicate"]) == (answer["seq"], True)
    let(daemon, session)
    assert daemon.wait(turn)["result"]["text"] == "as you say"
    assert said(api.requests[-1].body) == ["begin", "only the last ten"]
    shown = daemon.skillctl("show", session).stdout
    assert "only the last ten" in shown


def test_without_a_turn_the_word_is_a_message_and_stderr_says_so(started: tuple[Daemon, FakeMessagesApi]) -> None:
    daemon, api = started
    api.enqueue(Reply([Text("here")]))
    session = daemon.create()
    steered = daemon.skillctl("steer", "-s", session, "anybody?")
    assert "queued" in steered.stderr
    assert daemon.wait(steered.stdout.strip())["result"]["text"] == "here"


def test_what_was_acknowledged_is_there_after_a_kill_and_not_twice(started: tuple[Daemon, FakeMessagesApi]) -> None:
    daemon, api = started
    session, turn = begin(daemon, api)
    answer = json.loads(daemon.skillctl("steer", "-s", session, "--json", "--key", "k2", "remember this").stdout)
    daemon.kill()
    daemon.start()
    assert daemon.wait(turn)["status"] == "interrupted"
    again = json.loads(daemon.skillctl("steer", "-s", session, "--json", "--key", "k2", "remember this").stdout)
    assert (again["seq"], again["status"], again["duplicate"]) == (answer["seq"], "steered", True)
    api.enqueue(Reply([Text("yes")]))
    assert daemon.ask(session, "and?")["status"] == "finished"
    assert said(api.requests[-1].body) == ["begin", "remember this", "and?"]


def test_an_interrupting_message_is_the_next_one(started: tuple[Daemon, FakeMessagesApi]) -> None:
    daemon, api = started
    session, turn = begin(daemon, api, Reply([Text("now this")]), Reply([Text("then that")]))
    waiting = str(daemon.post(session, "later").json()["turn"])
    sent = daemon.skillctl("send", "-s", session, "--mode", "interrupt", "this instead")
    assert (sent.returncode, sent.stdout.strip()) == (0, "now this")
    assert daemon.wait(turn)["status"] == "cancelled"
    assert daemon.wait(waiting)["result"]["text"] == "then that"
    assert said(api.requests[-1].body) == ["begin", "this instead", "later"]


def test_a_paused_session_waits_over_a_kill_until_it_is_resumed(started: tuple[Daemon, FakeMessagesApi]) -> None:
    daemon, api = started
    session = daemon.create()
    assert daemon.skillctl("pause", session).stdout.strip() == "paused"
    turn = daemon.skillctl("send", "-s", session, "--no-wait", "are you there?").stdout.strip()
    daemon.kill()
    daemon.start()
    assert daemon.wait(turn, wait_s=0.3)["status"] == "queued"
    listed = json.loads(daemon.skillctl("sessions", "--json", "--status", "paused").stdout)
    assert [item["id"] for item in listed["items"]] == [session]
    api.enqueue(Reply([Text("I am")]))
    assert daemon.skillctl("resume", session).stdout.strip() in ("queued", "running")
    assert daemon.wait(turn)["result"]["text"] == "I am"


def test_options_of_one_message_are_in_its_request_and_in_no_other(started: tuple[Daemon, FakeMessagesApi]) -> None:
    daemon, api = started
    api.enqueue(Reply([Text("short")]), Reply([Text("usual")]))
    session = daemon.create()
    options = ["--model", "claude-haiku-4-5", "--effort", "low", "--max-tokens", "99", "--no-tools"]
    assert daemon.skillctl("send", "-s", session, *options, "in short").stdout.strip() == "short"
    assert daemon.skillctl("send", "-s", session, "as ever").stdout.strip() == "usual"
    first, second = (request.body for request in api.requests[-2:])
    assert (first["model"], first["max_tokens"], first["output_config"]) == ("claude-haiku-4-5", 99, {"effort": "low"})
    assert not first.get("tools")
    assert second["model"] != "claude-haiku-4-5"
    assert second["tools"]
    refused = daemon.skillctl("send", "-s", session, "--tool", "rm", "x")
    assert refused.returncode != 0
    assert "offers no tool 'rm'" in refused.stderr


def test_a_schema_of_the_session_holds_for_its_messages(
    started: tuple[Daemon, FakeMessagesApi], tmp_path: Path
) -> None:
    daemon, api = started
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    session = daemon.create(schema=schema)
    api.enqueue(Reply([Text('{"n": 1}')]))
    assert daemon.ask(session, "how many?")["result"]["text"] == '{"n": 1}'
    assert api.requests[-1].body["output_config"]["format"]["schema"] == schema


@contextmanager
def chat_at_work(daemon: Daemon, api: FakeMessagesApi, answer: str) -> Iterator[tuple[Terminal, str]]:
    """A chat whose turn runs a tool until `let`, and its session; the chat is left once there is its prompt again."""
    api.enqueue(Reply([WAITS]), Reply([Text(answer)]))
    command = [*program("skillctl"), f"--socket={daemon.socket}", "chat", "--no-history"]
    with at_terminal(command, clean_environment(TERM="dumb", HOME=str(daemon.folder))) as at:
        at.until("> ")
        at.type("begin\n")
        session = re.search(r"ses_[a-z2-7]{26}", at.until(r"session ses_[a-z2-7]{26}"))
        assert session
        at.until(r"\[bash_tool\]")
        yield at, session[0]
        at.until("> ")
        at.type("\x04")
        assert at.end() == 0


def test_a_line_typed_in_a_chat_while_a_turn_runs_is_said_to_that_turn(started: tuple[Daemon, FakeMessagesApi]) -> None:
    daemon, api = started
    with chat_at_work(daemon, api, "as you say") as (at, session):
        at.type(":session\n")
        at.until(r"\[:session: when the turn has ended\]")
        at.type("only the last ten\n")
        at.until(r"\[said to the turn that runs\]")
        let(daemon, session)
        at.until("as you say")
        at.until(session)
    assert said(api.requests[-1].body) == ["begin", "only the last ten"]
    assert [event["type"] for event in daemon.events(session)].count("turn.queued") == 1


def test_a_command_typed_in_a_chat_while_a_turn_runs_comes_next(started: tuple[Daemon, FakeMessagesApi]) -> None:
    daemon, api = started
    with chat_at_work(daemon, api, "the first answer") as (at, session):
        at.type("/echo hello again\n")
        at.until(r"\[comes next, in a turn of its own\]")
        let(daemon, session)
        at.until("the first answer")
        at.until("hello again")
