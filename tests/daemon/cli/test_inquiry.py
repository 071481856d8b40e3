"""skillctl asks at a terminal about a call that waits, and elsewhere says how to decide."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from approval_fakes import approval
from fake_daemon import SESSION, TURN, Exchange, FakeDaemon, a_turn, event, fake_daemon
from skilld.cli.app import skillctl
from terminal_kit import Terminal, at_terminal

MESSAGES = f"/v1/sessions/{SESSION}/messages"
EVENTS = f"/v1/sessions/{SESSION}/events"
NASTY = (
    "ls\x1b[2J\x1b[1;1H\x1b]0;owned\x07\x9b31m\r\x00\u202egpj.exe\u2066\n"
    "  why         harmless\n\x1b[8mrm -rf /\x08\x08\x7f"
)
READLINE = re.compile(rb"\x1b\[\?2004[hl]\r?")  # its own marks around a paste
QUESTION = r"\[l\]eave it: "
Run = Callable[..., Result]


class Asked:
    """A daemon with one turn that waits for one approval, and the answers that it was given."""

    def __init__(self, daemon: FakeDaemon, **differs: Any) -> None:
        self.daemon = daemon
        self.view = approval(session=SESSION, turn=TURN, **differs)
        self.id = self.view["id"]
        self.path = f"/v1/approvals/{self.id}"
        self.said: list[dict[str, Any]] = []
        self.refusal: tuple[int, str, str] | None = None
        daemon.on("GET", self.path, lambda exchange: exchange.json(200, self.view))
        daemon.on("GET", "/v1/approvals", lambda exchange: exchange.json(200, {"items": self.pending(), "next": None}))
        daemon.on("POST", self.path, self._decide)
        daemon.on_json("POST", "/v1/sessions", {"id": SESSION}, 201)
        asked = event(3, "approval.requested", self.view)
        daemon.on("POST", MESSAGES, self._stream([*a_turn()[:2], asked], a_turn("Done.", first=4)[2:]))

    def pending(self) -> list[dict[str, Any]]:
        return [self.view] if self.view["status"] == "pending" else []

    def _stream(self, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Callable[[Exchange], None]:
        def behave(exchange: Exchange) -> None:
            self.daemon.on("GET", EVENTS, lambda again: again.stream([*before, *after]))
            exchange.stream(before, end="cut")

        return behave

    def _decide(self, exchange: Exchange) -> None:
        said = json.loads(exchange.body)
        self.said.append(said)
        if self.refusal is not None:
            status, code, message = self.refusal
            exchange.json(status, {"error": {"code": code, "message": message, "retryable": False, "details": {}}})
            return
        self.view["status"] = "denied" if said["decision"] == "deny" else "allowed"
        self.view["decision"] = {**said, "by_uid": 0}
        exchange.json(200, self.view)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        yield daemon


@contextmanager
def terminal(daemon: FakeDaemon, *args: str, columns: int = 0, **env: str) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "skilld.cli", *args]
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "EDITOR", "VISUAL")}
    with at_terminal(
        command, {**kept, "SKILLD_SOCKET": str(daemon.path), "TERM": "xterm", **env}, columns=columns
    ) as at:
        yield at


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("a\n", {"decision": "allow", "scope": "once"}),
        ("Session\n", {"decision": "allow", "scope": "session"}),
        ("\nwhat?\na\n", {"decision": "allow", "scope": "once"}),
        ("stop\nabort\nsudo\nallow it not\nALLOW\n", {"decision": "allow", "scope": "once"}),
    ],
)
def test_send_asks_and_goes_on_with_the_answer(daemon: FakeDaemon, typed: str, said: dict[str, Any]) -> None:
    asked = Asked(daemon)
    with terminal(daemon, "send", "hi") as at:
        for line in typed.splitlines(keepends=True):
            at.until(QUESTION)
            at.type(line)
        at.until(r"Done\.")
        assert at.end() == 0
    assert asked.said == [said]


def test_a_denial_takes_a_reason(daemon: FakeDaemon) -> None:
    asked = Asked(daemon)
    with terminal(daemon, "send", "hi") as at:
        at.until(QUESTION)
        at.type("d\n")
        at.until("why, for the model")
        at.type("not on this host\n")
        at.until(r"Done\.")
    assert asked.said == [{"decision": "deny", "scope": "once", "reason": "not on this host"}]


def test_bytes_that_are_no_text_are_no_answer_and_no_reason(daemon: FakeDaemon) -> None:
    asked = Asked(daemon)
    with terminal(daemon, "send", "hi", PYTHONUTF8="1") as at:
        for before, typed in (
            (QUESTION, b"\xff\n"),
            (QUESTION, b"d\n"),
            ("why, for", b"\xff\xfe\n"),
            ("why, for", b"no\n"),
        ):
            at.until(before)
            at.type_bytes(typed)
        at.until(r"Done\.")
    assert asked.said == [{"decision": "deny", "scope": "once", "reason": "no"}]
    with terminal(daemon, "deny", asked.id, "--reason", "\udcff") as at:
        at.until("not valid UTF-8")
        assert at.end() == 2


@pytest.mark.parametrize("typed", ["l\n", "\x04"])
def test_what_is_left_waits_on_and_ends_with_3(daemon: FakeDaemon, typed: str) -> None:
    asked = Asked(daemon)
    with terminal(daemon, "send", "hi") as at:
        at.until(QUESTION)
        at.type(typed)
        at.until(f"decide with: skillctl approve {asked.id}")
        assert at.end() == 3
    assert asked.said == []


def test_ctrl_c_at_the_question_cancels_the_turn(daemon: FakeDaemon) -> None:
    asked = Asked(daemon)
    daemon.on_json("POST", f"/v1/turns/{TURN}/cancel", {"turn": TURN, "status": "running"})
    daemon.on_json("GET", f"/v1/turns/{TURN}", {"turn": TURN, "status": "cancelled"})
    with terminal(daemon, "send", "hi") as at:
        at.until(QUESTION)
        at.interrupt()
        at.until("cancelled")
        assert at.end() == 130
    assert asked.said == []


def editor(folder: Path, body: str) -> str:
    file = folder / "editor"
    file.write_text(f"#!{sys.executable}\nimport json, sys\nfile = sys.argv[1]\n{body}\n")
    file.chmod(0o755)
    return str(file)


def test_a_command_is_edited_as_it_is_and_shown_before_it_is_sent(daemon: FakeDaemon, tmp_path: Path) -> None:
    asked = Asked(daemon)
    change = editor(tmp_path, "text = open(file).read()\nopen(file, 'w').write(text.replace('rm -rf', 'ls\\t'))")
    with terminal(daemon, "send", "hi", EDITOR=change) as at:
        at.until(QUESTION)
        at.type("e\n")
        at.until(r"\| ls\\t build")
        at.until(r"instead\?.*: ")
        at.type("n\n")
        at.until(QUESTION)
        at.type("e\n")
        at.until(r"instead\?.*: ")
        at.type("y\n")
        at.until(r"Done\.")
    edited = {"command": "ls\t build", "description": "clean up"}
    assert asked.said == [{"decision": "edit", "scope": "once", "input": edited}]


def test_what_an_editor_could_not_show_is_edited_as_json(daemon: FakeDaemon, tmp_path: Path) -> None:
    asked = Asked(daemon, command=NASTY, input={"command": NASTY})
    body = (
        "raw = open(file, 'rb').read()\nassert all(32 <= byte < 127 or byte == 10 for byte in raw), raw\n"
        "value = json.loads(raw)\nvalue['command'] = 'ls'\nopen(file, 'w').write(json.dumps(value))"
    )
    with terminal(daemon, "send", "hi", EDITOR=editor(tmp_path, body)) as at:
        at.until(QUESTION)
        at.type("e\n")
        at.until(r"instead\?.*: ")
        at.type("y\n")
        at.until(r"Done\.")
    assert asked.said[0]["input"] == {"command": "ls"}


@pytest.mark.parametrize(
    ("body", "told"),
    [("pass", "nothing was changed"), ("sys.exit(1)", "[Ee]dit"), ("open(file, 'w').write('[]')", "no JSON object")],
)
def test_an_edit_that_is_none_is_said_and_asked_again(daemon: FakeDaemon, tmp_path: Path, body: str, told: str) -> None:
    asked = Asked(daemon, command=None, input={"path": "x"})
    with terminal(daemon, "send", "hi", EDITOR=editor(tmp_path, body)) as at:
        at.until(QUESTION)
        at.type("e\n")
        at.until(told)
        at.until(QUESTION)
        at.type("l\n")
        assert at.end() == 3
    assert asked.said == []


def test_who_may_not_decide_is_told_and_leaves_it(daemon: FakeDaemon) -> None:
    asked = Asked(daemon)
    asked.refusal = (403, "forbidden", "uid 7 lacks the role 'approve'\x1b[2J")
    with terminal(daemon, "send", "hi") as at:
        at.until(QUESTION)
        at.type("a\n")
        at.until(r"lacks the role 'approve'\\x1b\[2J")
        assert at.end() == 3


def test_somebody_who_was_faster_is_told_of_and_the_turn_goes_on(daemon: FakeDaemon) -> None:
    asked = Asked(daemon)
    asked.refusal = (409, "conflict", "it was denied by uid 8")
    with terminal(daemon, "send", "hi") as at:
        at.until(QUESTION)
        at.type("a\n")
        at.until("denied by uid 8")
        at.until(r"Done\.")
        assert at.end() == 0


def test_what_was_decided_before_is_not_asked(daemon: FakeDaemon) -> None:
    asked = Asked(daemon)
    asked.view["status"] = "allowed"
    with terminal(daemon, "send", "hi") as at:
        at.until(r"Done\.")
        assert at.end() == 0
    assert asked.said == []


def test_what_was_typed_before_the_question_answers_nothing(daemon: FakeDaemon) -> None:
    """The stream stands still until the keys are in, so that they are surely there when the question comes."""
    asked = Asked(daemon)
    started = threading.Event()
    shown = daemon.released.is_set

    def slow(exchange: Exchange) -> None:
        assert started.wait(20)
        assert not shown()
        at.type("a\n")
        daemon.on("GET", asked.path, lambda again: again.json(200, asked.view))
        exchange.json(200, asked.view)

    daemon.on("GET", asked.path, slow)
    with terminal(daemon, "send", "hi") as at:
        started.set()
        at.until(QUESTION)
        at.type("l\n")
        assert at.end() == 3
    assert asked.said == []


@pytest.mark.parametrize(("columns", "pad"), [(20, 14), (80, 64)])
def test_no_row_is_made_up_of_what_the_terminal_breaks_off(daemon: FakeDaemon, columns: int, pad: int) -> None:
    """At its end a terminal goes on in the first column of the next line, where the labels stand."""
    Asked(daemon, command=f"{'#' * pad}  folder  /harmless", files=[], cwd="/srv/real")
    with terminal(daemon, "approvals", columns=columns) as at:
        assert at.end() == 0
        screen = at.screen(columns)
    assert [line for line in screen if line.startswith("  folder")] != []
    assert not any(re.match(r"  folder +/harmless", line) for line in screen), screen


@pytest.mark.parametrize("command", ["send", "chat", "attach", "approvals", "watch", "wait", "complete"])
def test_nothing_of_a_command_reaches_the_terminal(daemon: FakeDaemon, command: str) -> None:
    hostile = {"cwd": NASTY, "place": NASTY, "reason": NASTY, "rule": NASTY, "environment": [NASTY], "shown": NASTY}
    files = [{"path": NASTY, "sha256": None, "note": NASTY}]
    asked = Asked(daemon, command=NASTY, input={"command": NASTY, NASTY: NASTY}, files=files, tool=NASTY, **hostile)
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"last_seq": 0})
    daemon.on_json("GET", f"/v1/turns/{TURN}", {"turn": TURN, "session": SESSION, "status": "running", "result": None})
    requested = event(3, "approval.requested", asked.view)
    daemon.on_events("GET", EVENTS, ([requested], "hang"))
    daemon.on_events("GET", "/v1/approvals/events", ([requested], "hang"))
    words = {
        "send": ("send", "-s", SESSION, "hi"),
        "chat": ("chat", "--no-history", "-s", SESSION),
        "attach": ("attach", SESSION),
        "approvals": ("approvals",),
        "watch": ("approvals", "--watch"),
        "wait": ("wait", TURN),
        "complete": ("approvals", asked.id),
    }[command]
    with terminal(daemon, *words, TERM="dumb") as at:
        if command == "chat":
            at.until("> ")
            at.type("hi\n")
        at.until(r"rm -rf /\\x08\\x08\\x7f")
        at.until(r"state +waits")
        if command in ("send", "chat", "attach", "wait"):
            at.until(QUESTION)
        written = READLINE.sub(b"", at.raw).replace(b"\r\n", b"\n").decode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e-\u200f\u202a-\u202e\u2066-\u2069]", written), written
    assert not re.search(r"^\s*why\s+harmless", written, re.MULTILINE)


def test_json_on_a_terminal_is_json_and_inert(daemon: FakeDaemon) -> None:
    asked = Asked(daemon, command=NASTY, input={"command": NASTY})
    with terminal(daemon, "approvals", asked.id, "--json") as at:
        assert at.end() == 0
        written = at.raw.replace(b"\r\n", b"\n").decode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", written)
    assert json.loads(written)["command"] == NASTY


def test_a_very_long_command_is_cut_on_the_screen_and_can_be_read_whole(daemon: FakeDaemon, tmp_path: Path) -> None:
    long = "echo begin\n" + "\n".join(f"echo {number}" for number in range(5_000)) + "\nrm -rf /"
    Asked(daemon, command=long, input={"command": long})
    pager = editor(tmp_path, "pass")
    read = tmp_path / "read"
    Path(pager).write_text(f"#!/bin/sh\ncat > {read}\n")
    with terminal(daemon, "send", "hi", PAGER=pager) as at:
        shown = at.until(r"\[v\]iew all of it: ")
        assert "LINES NOT SHOWN" in shown
        assert "rm -rf /" in shown
        assert shown.count("\n") < 80
        at.type("v\n")
        at.until("it: ")
        at.type("l\n")
        assert at.end() == 3
    assert "echo 2500\n" in read.read_text()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*args: str, input: str | None = None) -> Result:
        return CliRunner().invoke(
            skillctl, list(args), input=input, env={"SKILLD_SOCKET": str(tmp_path / "skilld.sock")}
        )

    return call


def test_without_a_terminal_send_ends_with_3_and_says_how_to_decide(daemon: FakeDaemon, run: Run) -> None:
    asked = Asked(daemon)
    result = run("send", "hi", input="a\n")
    assert result.exit_code == 3
    assert f"decide with: skillctl approve {asked.id}, or: skillctl deny {asked.id} --reason TEXT" in result.stderr
    assert asked.said == []
    as_json = run("send", "--json", "hi")
    assert as_json.exit_code == 3
    assert [json.loads(line)["type"] for line in as_json.stdout.splitlines()][-1] == "approval.requested"
    assert f"skillctl approve {asked.id}" in as_json.stderr
    daemon.on_json("GET", f"/v1/turns/{TURN}", {"turn": TURN, "session": SESSION, "status": "running", "result": None})
    waited = run("wait", TURN)
    assert (waited.exit_code, waited.stdout) == (3, "")
    assert f"skillctl approve {asked.id}" in waited.stderr
    piped = run("chat", "-s", SESSION, input="hi\nagain\n")
    assert piped.exit_code == 3


def test_chat_asks_again_before_it_sends_and_when_it_is_told_to(daemon: FakeDaemon) -> None:
    asked = Asked(daemon)
    with terminal(daemon, "chat", "--no-history", "-s", SESSION, TERM="dumb") as at:
        at.until("> ")
        at.type(":approval\n")
        at.until("none waits here")
        at.until("> ")
        at.type("hi\n")
        for _ in range(2):
            at.until(QUESTION)
            at.type("l\n")
            at.until("waiting for approval")
            at.until("> ")
            at.type("more\n")
        at.until(QUESTION)
        at.type("l\n")
        at.until("not sent: the turn before waits for an approval")
        at.until("> ")
        at.type(":appr\n")
        at.until(QUESTION)
        at.type("a\n")
        at.until(r"Done\.")
        at.until("> ")
        at.type("\x04")
        assert at.end() == 0
    assert [said["decision"] for said in asked.said] == ["allow"]
    assert len(daemon.requests("POST", MESSAGES)) == 1


def test_wait_asks_and_prints_the_answer(daemon: FakeDaemon) -> None:
    asked = Asked(daemon)
    running = {"turn": TURN, "session": SESSION, "status": "running", "result": None}
    ended = {**running, "status": "finished", "result": {"text": "Done."}}
    daemon.on("GET", f"/v1/turns/{TURN}", lambda exchange: exchange.json(200, ended if asked.said else running))
    with terminal(daemon, "wait", TURN) as at:
        at.until(QUESTION)
        at.type("a\n")
        at.until(r"Done\.")
        assert at.end() == 0
