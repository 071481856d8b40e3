"""Whoever waits for an answer that does not come is told why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from approval_fakes import approval
from fake_daemon import SESSION, TURN, FakeDaemon, event, fake_daemon
from skilld.cli.app import skillctl

OTHER = "trn_" + "c" * 26
HINT = f"'skillctl resume {SESSION}' lets it go on"
DONE = [event(1, "turn.queued", {"text": "hi"}), event(2, "turn.started"), event(3, "turn.finished", {"text": "ok"})]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("GET", "/v1/approvals", {"items": [], "next": None})
        daemon.on_events("POST", f"/v1/sessions/{SESSION}/messages", (DONE, "clean"))
        yield daemon


def call(daemon: FakeDaemon, *args: str) -> Result:
    return CliRunner().invoke(skillctl, [f"--socket={daemon.path}", *args])


def be(daemon: FakeDaemon, status: str, *waiting: dict[str, Any]) -> None:
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"id": SESSION, "status": status, "last_seq": 3})
    daemon.on_json("GET", "/v1/approvals", {"items": list(waiting), "next": None})


def test_send_says_that_the_conversation_is_paused(daemon: FakeDaemon) -> None:
    be(daemon, "paused")
    sent = call(daemon, "send", "-s", SESSION, "hi")
    assert (sent.exit_code, sent.stdout) == (0, "ok\n")
    assert HINT in sent.stderr


def test_send_says_which_approval_the_turn_before_waits_for(daemon: FakeDaemon) -> None:
    waiting = approval(turn=OTHER)
    be(daemon, "waiting", waiting)
    told = call(daemon, "send", "-s", SESSION, "hi").stderr
    assert f"the turn before waits for approval {waiting['id']}; decide with: skillctl approve {waiting['id']}" in told


@pytest.mark.parametrize("status", ["idle", "queued", "running", "waiting"])
def test_nothing_is_said_where_nothing_holds_it_up(daemon: FakeDaemon, status: str) -> None:
    be(daemon, status, *([approval(turn=TURN)] if status == "waiting" else []))
    told = call(daemon, "send", "-s", SESSION, "hi").stderr
    assert "waits for" not in told
    assert "paused" not in told


def test_a_new_session_is_not_asked_about_nor_is_a_failure_to_ask_one_of_the_message(daemon: FakeDaemon) -> None:
    daemon.on_json("POST", "/v1/sessions", {"id": SESSION}, 201)
    assert call(daemon, "send", "hi").exit_code == 0
    assert daemon.requests("GET", f"/v1/sessions/{SESSION}") == []
    daemon.on_error("GET", f"/v1/sessions/{SESSION}", 503, "draining", "the daemon stops")
    assert call(daemon, "send", "-s", SESSION, "hi").exit_code == 0


def test_wait_and_compact_say_it_once(daemon: FakeDaemon) -> None:
    be(daemon, "paused")
    queued = {"turn": TURN, "session": SESSION, "seq": 1, "status": "queued", "result": None}
    ended = {**queued, "status": "finished", "result": {"text": "done"}}
    turns = [lambda exchange: exchange.json(200, queued)] * 3 + [lambda exchange: exchange.json(200, ended)]
    daemon.on("GET", f"/v1/turns/{TURN}", *turns)
    waited = call(daemon, "wait", TURN)
    assert (waited.exit_code, waited.stdout, waited.stderr.count(HINT)) == (0, "done\n", 1)
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/compact", {**queued, "duplicate": False}, 202)
    shorter = call(daemon, "compact", SESSION)
    assert (shorter.exit_code, shorter.stdout, shorter.stderr.count(HINT)) == (0, "done\n", 1)
