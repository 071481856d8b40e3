"""skillctl steer, pause, resume, and the options of send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fake_daemon import SESSION, TURN, FakeDaemon, fake_daemon
from skilld.cli.app import skillctl

ACCEPTED = {"turn": TURN, "session": SESSION, "seq": 9, "status": "steered", "duplicate": False}
STEER = f"/v1/sessions/{SESSION}/steer"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        yield daemon


def call(daemon: FakeDaemon, *args: str) -> Result:
    return CliRunner().invoke(skillctl, [f"--socket={daemon.path}", *args])


def test_steer_prints_the_turn_and_says_on_stderr_if_it_is_one_of_its_own(daemon: FakeDaemon) -> None:
    daemon.on_json("POST", STEER, ACCEPTED, 202)
    told = call(daemon, "steer", "-s", SESSION, "--key", "k", "more")
    assert (told.exit_code, told.stdout, told.stderr) == (0, f"{TURN}\n", "")
    assert json.loads(daemon.seen[0].body) == {"text": "more"}
    assert daemon.seen[0].headers["idempotency-key"] == "k"
    daemon.on_json("POST", STEER, {**ACCEPTED, "status": "queued"}, 202)
    late = call(daemon, "steer", "-s", SESSION, "more")
    assert (late.exit_code, late.stdout) == (0, f"{TURN}\n")
    assert "no turn could be reached: the message is queued" in late.stderr


def test_steer_takes_the_latest_session_and_says_so_if_there_is_none(daemon: FakeDaemon) -> None:
    daemon.on_json("GET", "/v1/sessions", {"items": [], "next": None})
    nothing = call(daemon, "steer", "more")
    assert nothing.exit_code == 1
    assert "you have no session to steer" in nothing.stderr


@pytest.mark.parametrize(("verb", "status"), [("pause", "paused"), ("resume", "queued")])
def test_pause_and_resume_print_the_status(daemon: FakeDaemon, verb: str, status: str) -> None:
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/{verb}", {"id": SESSION, "status": status})
    assert call(daemon, verb, SESSION).stdout == f"{status}\n"
    assert json.loads(call(daemon, verb, SESSION, "--json").stdout) == {"id": SESSION, "status": status}


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        ((), {}),
        (("--model", "m"), {"options": {"model": "m"}}),
        (("--effort", "max", "--max-tokens", "9"), {"options": {"effort": "max", "max_tokens": 9}}),
        (("--tool", "view", "--tool", "bash_tool"), {"options": {"tools": ["view", "bash_tool"]}}),
        (("--no-tools", "--mode", "interrupt"), {"options": {"tools": []}, "mode": "interrupt"}),
        (("--mode", "steer"), {"mode": "steer"}),
        (("--pin",), {"pinned": True}),
    ],
)
def test_send_passes_on_what_the_message_asks_for(
    daemon: FakeDaemon, args: tuple[str, ...], asked: dict[str, Any]
) -> None:
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/messages", {**ACCEPTED, "status": "queued"}, 202)
    sent = call(daemon, "send", "-s", SESSION, "--no-wait", *args, "hi")
    assert sent.exit_code == 0, sent.stderr
    assert json.loads(daemon.seen[0].body) == {"text": "hi", **asked}


def test_the_model_of_a_new_session_is_the_sessions(daemon: FakeDaemon) -> None:
    daemon.on_json("POST", "/v1/sessions", {"id": SESSION}, 201)
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/messages", {**ACCEPTED, "status": "queued"}, 202)
    call(daemon, "send", "--no-wait", "--model", "m", "hi")
    assert json.loads(daemon.seen[0].body) == {"model": "m"}
    assert json.loads(daemon.seen[1].body) == {"text": "hi"}


def test_sessions_can_be_chosen_by_the_new_statuses(daemon: FakeDaemon) -> None:
    daemon.on_json("GET", "/v1/sessions", {"items": [], "next": None})
    for status in ("waiting", "paused"):
        assert call(daemon, "sessions", "--status", status).exit_code == 0
        assert daemon.seen[-1].query["status"] == status
