"""skillctl in the test's own process, against real HTTP on a real socket."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_daemon import SESSION, TURN, Exchange, FakeDaemon, a_turn, event, fake_daemon
from skilld.cli.app import skillctl

MESSAGES = f"/v1/sessions/{SESSION}/messages"
EVENTS = f"/v1/sessions/{SESSION}/events"

Run = Callable[..., Result]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("POST", "/v1/sessions", {"id": SESSION}, 201)
        yield daemon


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*args: str, input: bytes | None = None) -> Result:
        env = {"SKILLD_SOCKET": str(tmp_path / "skilld.sock")}
        return CliRunner().invoke(skillctl, list(args), input=input, env=env)

    return call


def said(result: Result) -> tuple[int, str]:
    """Exit code and stderr; nothing may have gone wrong in between."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


def test_the_answer_goes_to_stdout_and_what_it_took_to_stderr(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("Hel", "lo"), "clean"))
    result = run("send", "hi")
    assert said(result) == (0, f"session {SESSION}\noffline · 12 in / 40 out tokens · $0.00\n")
    assert result.stdout == "Hello\n"


def test_tools_are_shown_with_what_they_do_and_how_they_ended(daemon: FakeDaemon, run: Run) -> None:
    turn = a_turn("Let me look.")
    call = {"id": "t1", "name": "bash_tool", "input": {"command": "ls -la\nrm x", "description": ""}}
    done = {"id": "t1", "name": "bash_tool", "outcome": "ok", "exit_code": 0, "duration_ms": 1234, "content": "a"}
    denied = {"id": "t2", "name": "rm", "outcome": "error", "is_error": True, "content": "no tool 'rm'"}
    tools = [event(5, "tool.started", call), event(6, "tool.finished", done), event(7, "tool.finished", denied)]
    answer = a_turn("Done.", first=6)[2:]
    daemon.on_events("POST", MESSAGES, ([*turn[:4], *tools, *answer], "clean"))
    result = run("send", "-s", SESSION, "hi")
    assert result.stdout == "Let me look.\nDone.\n"
    assert result.stderr.splitlines() == [
        "[bash_tool] ls -la",
        "[bash_tool] ok · exit 0 · 1.23 s",
        "[rm] error: no tool 'rm'",
        "offline · 12 in / 40 out tokens · $0.00",
    ]


def test_an_answer_that_never_streamed_is_printed_once(daemon: FakeDaemon, run: Run) -> None:
    turn = [wire for wire in a_turn("Hello") if wire["type"] != "model.delta"]
    daemon.on_events("POST", MESSAGES, (turn, "clean"))
    assert run("send", "hi").stdout == "Hello\n"
    daemon.on_events("POST", MESSAGES, ([wire for wire in turn if wire["type"] != "model.message"], "clean"))
    assert run("send", "hi").stdout == "Hello\n"


def test_a_cut_stream_is_taken_up_again_and_nothing_is_printed_twice(daemon: FakeDaemon, run: Run) -> None:
    turn = a_turn("Hel", "lo")
    daemon.on_events("POST", MESSAGES, (turn[:3], "cut"))
    daemon.on_events("GET", EVENTS, (turn[2:], "clean"))
    assert run("send", "hi").stdout == "Hello\n"


def test_thoughts_are_not_part_of_the_answer(daemon: FakeDaemon, run: Run) -> None:
    thought = event(3, "model.delta", {"kind": "thinking", "text": "hmm"}, offset=3)
    daemon.on_events("POST", MESSAGES, ([thought, *a_turn("Hello", first=4)], "clean"))
    assert run("send", "hi").stdout == "Hello\n"


def test_an_unknown_price_is_said_and_never_zero(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("x", cost_usd=None, model="new-model"), "clean"))
    assert "new-model · 12 in / 40 out tokens · price unknown" in run("send", "hi").stderr
    daemon.on_events("POST", MESSAGES, (a_turn("x", cost_usd=0.00042), "clean"))
    assert "$0.0004" in run("send", "hi").stderr


def test_an_answer_that_ended_early_is_marked(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("x", stop_reason="max_tokens"), "clean"))
    result = run("send", "hi")
    assert result.exit_code == 0
    assert "the answer ended early: max_tokens" in result.stderr


@pytest.mark.parametrize(
    ("type", "code", "exit_code"),
    [
        ("turn.failed", "model_overloaded", 1),
        ("turn.failed", "budget_exceeded", 5),
        ("turn.failed", "policy_denied", 5),
        ("turn.failed", "turn_timeout", 124),
        ("turn.cancelled", "cancelled", 130),
        ("turn.interrupted", "shutdown", 1),
    ],
)
def test_how_a_turn_ends_is_the_exit_code(daemon: FakeDaemon, run: Run, type: str, code: str, exit_code: int) -> None:
    ending = event(3, type, {"text": "", "stop_reason": code, "error": {"code": code, "message": "because"}})
    daemon.on_events("POST", MESSAGES, ([*a_turn()[:2], ending], "clean"))
    result = run("send", "hi")
    assert result.exit_code == exit_code
    assert result.stderr.splitlines()[-1].startswith("skillctl: error: the turn ")
    assert result.stderr.endswith(": because\n")
    daemon.on_json("GET", f"/v1/turns/{TURN}", {"turn": TURN, "status": type[5:], "result": ending["data"]})
    assert run("wait", TURN).exit_code == exit_code, "wait ends as send does"


def test_an_approval_that_is_waited_for_ends_with_3(daemon: FakeDaemon, run: Run) -> None:
    asked = event(3, "approval.requested", {"id": "apr_x"})
    daemon.on_events("POST", MESSAGES, ([*a_turn()[:2], asked], "clean"))
    daemon.on_json("GET", "/v1/approvals/apr_x", {"id": "apr_x", "status": "pending"})
    result = run("send", "hi")
    assert result.exit_code == 3
    assert "waiting for approval apr_x; decide with: skillctl approve apr_x, or: skillctl deny apr_x" in result.stderr


def test_json_is_one_event_a_line_as_the_daemon_sent_it(daemon: FakeDaemon, run: Run) -> None:
    turn = a_turn("Hel", "lö")
    daemon.on_events("POST", MESSAGES, (turn, "clean"))
    lines = run("send", "--json", "hi").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [{k: v for k, v in w.items() if k != "offset"} for w in turn]


def test_a_new_session_gets_the_chosen_settings(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("x"), "clean"))
    run("send", "--new", "--backend", "local", "--skill", "echo", "--skill", "log-analyzer", "--model", "offline", "hi")
    chosen = {"backends": ["local"], "skills": ["echo", "log-analyzer"], "model": "offline"}
    assert json.loads(daemon.requests("POST", "/v1/sessions")[0].body) == chosen


def test_a_new_session_gets_the_options_of_its_backend(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("x"), "clean"))
    written = (
        "big=docker:image=localhost/mine:2,memory=512m,cpus=1.5,processes=64,allow=pypi.org:443,allow=*.a.org,x=true"
    )
    assert run("send", "--backend", written, "hi").exit_code == 0
    options = {"image": "localhost/mine:2", "memory": "512m", "cpus": 1.5, "processes": 64, "x": True}
    chosen = {"backend": "docker", "name": "big", "options": {**options, "allow": ["pypi.org:443", "*.a.org"]}}
    assert json.loads(daemon.requests("POST", "/v1/sessions")[0].body) == {"backends": [chosen]}


@pytest.mark.parametrize(
    "text", ["", ":memory=1g", "=docker", "a=", "docker:", "docker:memory", "docker:=1", "docker:a=1,,b=2"]
)
def test_a_backend_that_is_not_written_as_it_should_be_is_a_usage_error(run: Run, text: str) -> None:
    result = run("send", "--backend", text, "hi")
    assert result.exit_code == 2
    assert f"--backend {text!r}: " in result.stderr


def test_c_goes_on_with_the_callers_latest_session(daemon: FakeDaemon, run: Run) -> None:
    items = [{"id": "ses_other", "owner_uid": -1}, {"id": SESSION, "owner_uid": os.getuid()}]
    daemon.on_json("GET", "/v1/sessions", {"items": items, "next": None})
    daemon.on_events("POST", MESSAGES, (a_turn("x"), "clean"))
    assert run("send", "-c", "hi").exit_code == 0
    assert daemon.requests("POST", "/v1/sessions") == []
    daemon.on_json("GET", "/v1/sessions", {"items": [], "next": None})
    assert said(run("send", "-c", "hi")) == (
        1,
        "skillctl: error: you have no session to continue; send without -c to start one\n",
    )


def test_no_wait_prints_the_turn_and_leaves(daemon: FakeDaemon, run: Run) -> None:
    accepted = {"turn": TURN, "session": SESSION, "seq": 1, "status": "queued", "duplicate": False}
    daemon.on_json("POST", MESSAGES, accepted, 202)
    assert run("send", "-s", SESSION, "--no-wait", "--key", "k1", "hi").stdout == f"{TURN}\n"
    assert json.loads(run("send", "-s", SESSION, "--no-wait", "--json", "hi").stdout) == accepted
    assert daemon.requests("POST", MESSAGES)[0].headers["idempotency-key"] == "k1"


@pytest.mark.parametrize(
    "args",
    [
        ("send", "-s", "x", "-c", "hi"),
        ("send", "-c", "--new", "hi"),
        ("send", "-s", "x", "--skill", "m", "hi"),
        ("send", "--tool", "view", "--no-tools", "hi"),
        ("send", "--effort", "enormous", "hi"),
        ("send", "--mode", "shout", "hi"),
        ("send", "--max-tokens", "0", "hi"),
        ("steer", "-s", SESSION, " "),
        ("steer", "-s", SESSION, "--key", "two words", "hi"),
        ("pause",),
        ("send", "--no-wait", "--timeout", "3", "hi"),
        ("send",),
        ("send", " \n"),
        ("send", "--key", "two words", "hi"),
        ("attach", "--from", "x", SESSION),
        ("sned", "hi"),
        ("cancel", "--queued", TURN),
        ("wait", "--timeout", "-1", TURN),
        ("--socket", "/" + "x" * 120, "status"),
        ("completion", "tcsh"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(daemon: FakeDaemon, run: Run, args: tuple[str, ...]) -> None:
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"last_seq": 0})
    code, stderr = said(run(*args))
    lines = [line for line in stderr.splitlines() if not line.startswith("session ")]
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("skillctl: error: ")


def test_a_mistyped_command_is_corrected(run: Run) -> None:
    assert "there is no command 'sesions'; did you mean 'sessions'?" in run("sesions").stderr


def test_stdin_is_the_message_for_a_dash(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("x"), "clean"))
    assert run("send", "-", input="zwölf\n".encode()).exit_code == 0
    assert json.loads(daemon.requests("POST", MESSAGES)[0].body) == {"text": "zwölf\n"}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"abc\xff", "stdin is not UTF-8 at byte 3"),
        (b"x" * (8 * 1024 * 1024 + 1), "stdin holds more than 8388608 bytes"),
        (b"", "the message is empty"),
    ],
)
def test_stdin_that_cannot_be_a_message_is_refused_before_anything_is_sent(
    daemon: FakeDaemon, run: Run, data: bytes, complaint: str
) -> None:
    code, stderr = said(run("send", "-", input=data))
    assert code == 2
    assert complaint in stderr
    assert daemon.seen == []


def test_no_daemon_is_exit_4_with_the_socket_and_the_way_out(tmp_path: Path, run: Run) -> None:
    for command in (("status",), ("send", "hi"), ("health",), ("sessions",), ("skills", "list")):
        code, stderr = said(run(*command))
        assert code == 4
        assert stderr.count("\n") == 1
        assert str(tmp_path / "skilld.sock") in stderr
        assert "systemctl start skilld" in stderr
        assert "--socket" in stderr


@pytest.mark.parametrize(
    ("status", "code", "message", "exit_code"),
    [
        (404, "not_found", f"no session '{SESSION}'", 1),
        (409, "idempotency_conflict", "key 'k' belongs to another turn", 1),
        (402, "budget_exceeded", "0.50 of 0.50 USD used", 5),
        (403, "policy_denied", "not allowed", 5),
        (503, "draining", "the daemon is stopping", 1),
    ],
)
def test_a_refusal_is_one_line_with_the_daemons_words(
    daemon: FakeDaemon, run: Run, status: int, code: str, message: str, exit_code: int
) -> None:
    daemon.on_error("POST", MESSAGES, status, code, message)
    assert said(run("send", "-s", SESSION, "hi")) == (exit_code, f"skillctl: error: {message}\n")


def test_a_full_queue_says_when_to_try_again(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_error("POST", MESSAGES, 429, "overloaded", "16 messages wait", retry_after="5")
    expected = "skillctl: error: 16 messages wait (try again in 5 s)\n"
    assert said(run("send", "-s", SESSION, "hi")) == (1, expected)


def test_a_time_out_cancels_the_turn_and_is_124(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("Hel")[:3], "hang"))
    daemon.on_json("POST", f"/v1/turns/{TURN}/cancel", {"status": "running"})
    daemon.on_json("GET", f"/v1/turns/{TURN}", {"status": "cancelled"})
    result = run("send", "--timeout", "2", "hi")
    assert result.exit_code == 124
    assert result.stderr.splitlines()[-1] == "skillctl: error: no answer within 2 s; the turn was cancelled"
    assert len(daemon.requests("POST", f"/v1/turns/{TURN}/cancel")) == 1


def test_sessions_are_plain_columns_off_a_terminal(daemon: FakeDaemon, run: Run) -> None:
    item = {"id": SESSION, "status": "idle", "turns": 2, "cost_usd": 0.5, "updated": "2026", "owner_uid": 0}
    item["title"] = "evil\n\x1b[31mtitle"
    daemon.on_json("GET", "/v1/sessions", {"items": [item], "next": None})
    lines = run("sessions").stdout.splitlines()
    assert lines[0].split() == ["SESSION", "STATUS", "TURNS", "COST", "UPDATED", "TITLE"]
    assert lines[1].split(maxsplit=5) == [SESSION, "idle", "2", "$0.50", "2026", "evil [31mtitle"]
    assert len(lines) == 2
    assert json.loads(run("sessions", "--json").stdout) == {"items": [item]}


def test_show_reads_like_a_conversation(daemon: FakeDaemon, run: Run) -> None:
    head = {"id": SESSION, "title": "logs", "status": "idle", "turns": 1, "updated": "2026"}
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", head)
    daemon.on_json("GET", f"/v1/sessions/{SESSION}/files", {"used_bytes": 2048, "quota_bytes": 1 << 30})
    daemon.on_events("GET", EVENTS, (a_turn("Hello"), "clean"))
    result = run("show", SESSION)
    assert result.stdout.splitlines() == [
        f"{SESSION} · logs · idle · 1 turns · 2026",
        "files: 2.0 KiB of 1.0 GiB",
        "",
        "> hello",
        "Hello",
        "offline · 12 in / 40 out tokens · $0.00 · event 5",
    ]
    lines = run("show", "--json", SESSION).stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4, 5]


def test_show_tells_with_which_options_a_session_was_made(daemon: FakeDaemon, run: Run) -> None:
    chosen = {"backend": "docker", "options": {"memory_bytes": 1 << 29, "allow": ["pypi.org", "*.a.org"]}}
    found = {"id": SESSION, "status": "idle", "turns": 0, "updated": "2026", "backends": [chosen]}
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", found)
    daemon.on_json("GET", f"/v1/sessions/{SESSION}/files", {"used_bytes": 2048, "quota_bytes": 1 << 30})
    daemon.on_events("GET", EVENTS, ([], "clean"))
    shown = run("show", SESSION).stdout
    assert "places: docker (memory_bytes=536870912, allow=pypi.org *.a.org)\n" in shown


def test_show_tells_a_message_whose_turn_never_began(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"id": SESSION, "status": "idle", "turns": 1, "updated": "2026"})
    daemon.on_json("GET", f"/v1/sessions/{SESSION}/files", {"used_bytes": 2048, "quota_bytes": 1 << 30})
    ending = {"text": "", "stop_reason": "x", "error": {"code": "x", "message": "no such backend"}}
    events = [event(1, "turn.queued", {"text": "two\nlines"}), event(2, "turn.failed", ending)]
    daemon.on_events("GET", EVENTS, (events, "clean"))
    shown = run("show", SESSION).stdout
    assert "> two\n> lines\n[turn failed] no such backend\n" in shown


def test_attach_starts_now_or_where_it_is_told_to(daemon: FakeDaemon, run: Run) -> None:
    def gone(exchange: Exchange) -> None:
        error = {"code": "not_found", "message": "deleted", "retryable": False, "details": {}}
        exchange.json(404, {"error": error})

    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"last_seq": 7})
    daemon.on("GET", EVENTS, gone)
    assert said(run("attach", SESSION)) == (1, "skillctl: error: deleted\n")
    run("attach", "--from", "3.5", SESSION)
    assert [exchange.query["after"] for exchange in daemon.requests("GET", EVENTS)] == ["7", "3.5"]


def test_cancel_takes_a_session_or_a_turn(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/cancel", {"cancelled": [TURN]})
    daemon.on_json("POST", f"/v1/turns/{TURN}/cancel", {"turn": TURN, "status": "running"})
    assert run("cancel", "--queued", SESSION).stdout == f"{TURN}\n"
    assert run("cancel", TURN).stdout == f"{TURN}\n"
    assert json.loads(daemon.seen[0].body) == {"queued": True}
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/cancel", {"cancelled": []})
    assert said(run("cancel", SESSION)) == (0, "nothing was running\n")


def test_rm_deletes_each_session(daemon: FakeDaemon, run: Run) -> None:
    daemon.on("DELETE", f"/v1/sessions/{SESSION}", lambda exchange: exchange.answer(204, b"", "text/plain"))
    assert run("rm", SESSION, SESSION).exit_code == 0
    assert len(daemon.seen) == 2


def test_wait_prints_the_answer_and_gives_up_in_time(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("GET", f"/v1/turns/{TURN}", {"turn": TURN, "status": "finished", "result": {"text": "Hello"}})
    assert run("wait", TURN).stdout == "Hello\n"
    running = {"turn": TURN, "session": SESSION, "status": "running", "result": None}
    daemon.on_json("GET", f"/v1/turns/{TURN}", running)
    daemon.on_json("GET", "/v1/approvals", {"items": [], "next": None})
    code, stderr = said(run("wait", "--timeout", "0", TURN))
    assert (code, stderr) == (124, f"skillctl: error: turn {TURN} is still running after 0 s\n")


def test_rm_goes_on_behind_what_it_cannot_delete_but_not_without_a_daemon(daemon: FakeDaemon, run: Run) -> None:
    daemon.on("DELETE", f"/v1/sessions/{SESSION}", lambda exchange: exchange.answer(204, b"", "text/plain"))
    other = "ses_" + "c" * 26
    daemon.on_error("DELETE", f"/v1/sessions/{other}", 404, "not_found", "there is no such session")
    assert said(run("rm", other, SESSION)) == (1, "skillctl: error: there is no such session\n")
    assert len(daemon.requests("DELETE", f"/v1/sessions/{SESSION}")) == 1
    daemon.on("DELETE", f"/v1/sessions/{other}", lambda exchange: exchange.hang_up())
    assert said(run("rm", other, SESSION))[0] == 4
    assert len(daemon.requests("DELETE", f"/v1/sessions/{SESSION}")) == 1


def test_wait_for_a_session_waits_for_all_its_turns_and_prints_the_last_answer(daemon: FakeDaemon, run: Run) -> None:
    """A message that came while the model wrote is shown only when its block is complete."""
    second = "trn_" + "c" * 26
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"last_seq": 2_000})
    none: list[dict[str, object]] = []
    first, both = [event(1, "turn.queued")], [event(1, "turn.queued"), event(1_900, "turn.queued", turn=second)]
    daemon.on_events("GET", EVENTS, (none, "clean"), (first, "clean"), (both, "clean"))
    daemon.on_json("GET", f"/v1/turns/{TURN}", {"turn": TURN, "status": "finished", "result": {"text": "one"}})
    failed = {"text": "two", "error": {"code": "x", "message": "broken"}}
    daemon.on_json("GET", f"/v1/turns/{second}", {"turn": second, "status": "failed", "result": failed})
    result = run("wait", SESSION)
    assert (result.exit_code, result.stdout) == (1, "two\n")
    assert [exchange.query["after"] for exchange in daemon.requests("GET", EVENTS)][:2] == ["1500", "0"]
    assert len(daemon.requests("GET", f"/v1/turns/{TURN}")) == 1


def test_wait_for_a_session_gives_up_in_time_and_has_nothing_to_say_of_an_empty_one(
    daemon: FakeDaemon, run: Run
) -> None:
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"last_seq": 1})
    daemon.on_events("GET", EVENTS, ([event(1, "turn.queued")], "clean"))
    queued = {"turn": TURN, "session": SESSION, "status": "queued", "result": None}
    daemon.on_json("GET", f"/v1/turns/{TURN}", queued)
    daemon.on_json("GET", "/v1/approvals", {"items": [], "next": None})
    code, stderr = said(run("wait", "--timeout", "0", SESSION))
    assert (code, stderr) == (124, f"skillctl: error: turn {TURN} is still queued after 0 s\n")
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"last_seq": 0})
    daemon.on_events("GET", EVENTS, ([], "clean"))
    assert said(run("wait", SESSION)) == (0, "no message was ever sent to it\n")
    assert run("wait", "--json", SESSION).stdout == "null\n"


def test_status_health_and_metrics_say_what_the_daemon_says(daemon: FakeDaemon, run: Run) -> None:
    status = {"version": "9", "draining": False, "turns": {"running": 2}, "backends": ["local"], "model": None}
    daemon.on_json("GET", "/v1/status", status)
    daemon.on_json("GET", "/v1/health/live", {"status": "live"})
    daemon.on_json("GET", "/v1/health/ready", {"status": "ready"})
    daemon.on("GET", "/metrics", lambda exchange: exchange.answer(200, b"up 1\n", "text/plain"))
    shown = dict(line.split(maxsplit=1) for line in run("status").stdout.splitlines())
    assert shown["turns.running"] == "2"
    assert (shown["draining"], shown["backends"], shown["model"]) == ("no", "local", "-")
    assert json.loads(run("status", "--json").stdout) == status
    assert run("health").stdout == "ready\n"
    assert run("metrics").stdout == "up 1\n"
    daemon.on_json("GET", "/v1/health/ready", {"status": "not_ready"}, 503)
    assert run("health").exit_code == 1
    assert json.loads(run("health", "--json").stdout) == {"live": True, "ready": False}


def test_skills_are_listed_shown_judged_and_reloaded(daemon: FakeDaemon, run: Run) -> None:
    finding = {"code": "no_name", "message": "no name", "severity": "error", "line": 2, "remedy": "Add one."}
    echo = {
        "name": "echo",
        "description": "says it",
        "path": "/s/echo",
        "diagnostics": [],
        "body": "Do so.",
        "files": [],
    }
    failure = {"path": "/s/broken", "kept": "broken", "diagnostics": [finding]}
    listing = {"items": [echo], "next": None, "failures": [failure], "generation": 3, "loaded_at": "now"}
    daemon.on_json("GET", "/v1/skills", listing)
    daemon.on_json("GET", "/v1/skills/echo", echo)
    daemon.on_json("POST", "/v1/skills/reload", {"loaded": 1, "changed": ["echo"]})
    assert run("skills", "list").stdout.splitlines()[1].split(maxsplit=1) == ["echo", "says it"]
    assert run("skills", "show", "echo").stdout.endswith("\n\nDo so.\n")
    judged = run("skills", "status")
    assert judged.exit_code == 1
    assert "failed: /s/broken; the last good version of broken serves" in judged.stdout
    assert "error: no name (line 2). Add one. [no_name]" in judged.stdout
    assert json.loads(run("skills", "status", "--json").stdout)["failures"] == [failure]
    assert run("skills", "reload").stdout == "loaded: 1\nchanged: echo\n"
    assert run("skills", "show", "nope").exit_code == 1


def test_skills_are_pushed_removed_and_their_changes_followed(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    made = {"name": "tides", "digest": "d1", "replaced": False, "used": True}
    daemon.on_json("POST", "/v1/skills", made, 201)
    daemon.on_json("DELETE", "/v1/skills/tides", {"removed": ["tides"]})
    folder = tmp_path / "tides"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: tides\ndescription: Tells the tide\n---\nDo so.\n")
    assert run("skills", "push", str(folder)).stdout == "tides: stored, digest d1\n"
    package = daemon.requests("POST", "/v1/skills")[0].body
    assert package.startswith(b"PK")
    (tmp_path / "tides.skill").write_bytes(package)
    daemon.on_json("POST", "/v1/skills", {**made, "replaced": True, "used": False})
    again = run("skills", "push", str(tmp_path / "tides.skill"))
    assert again.stdout == "tides: replaced, digest d1\nit is not used: see skillctl skills status\n"
    assert json.loads(run("skills", "push", "--json", str(folder)).stdout)["digest"] == "d1"
    assert run("skills", "push", str(tmp_path / "nothing")).exit_code == 1
    assert run("skills", "remove", "tides").stdout == "removed: tides\n"
    data = {"added": {"moon": "d2"}, "changed": {}, "removed": ["tides"], "failed": [], "missed": True}
    daemon.on_events("GET", "/v1/skill-changes", ([event(7, "skill.changed", data)], "clean"))
    shown = run("skills", "changes", "--no-follow", "--after", "2")
    assert shown.stdout.endswith("generation 7: added: moon; removed: tides (some before are not remembered)\n")
    assert daemon.requests("GET", "/v1/skill-changes")[0].query == {"after": "2", "follow": "false"}


def test_skills_are_approved_as_they_are_or_as_they_were_seen(daemon: FakeDaemon, run: Run) -> None:
    remark = {"code": "not_approved", "message": "no version was approved", "severity": "warning", "remedy": "Look."}
    other = {"code": "unknown_field", "message": "a field", "severity": "warning"}
    tides = {"name": "tides", "description": "d", "digest": "d2", "diagnostics": [other, remark]}
    path = "/v1/skills/tides/approve"
    daemon.on_json("GET", "/v1/skills", {"items": [tides], "failures": []})
    daemon.on_json("GET", "/v1/skills/tides", tides)
    daemon.on_json("POST", path, {"name": "tides", "digest": "d2", "before": "d1"})
    daemon.on_json("DELETE", path, {"name": "tides", "digest": None, "before": "d2"})
    listed = run("skills", "list").stdout
    assert listed.endswith("  warning: no version was approved. Look. [not_approved]\n")
    assert "a field" not in listed
    assert run("skills", "approve", "tides").stdout == "tides: d2 is approved, d1 is not any more\n"
    assert json.loads(daemon.requests("POST", path)[0].body) == {"digest": "d2"}
    run("skills", "approve", "tides", "--digest", "seen")
    assert json.loads(daemon.requests("POST", path)[1].body) == {"digest": "seen"}
    daemon.on_json("POST", path, {"name": "tides", "digest": "d2", "before": None})
    assert run("skills", "approve", "tides").stdout == "tides: d2 is approved\n"
    daemon.on_json("POST", path, {"name": "tides", "digest": "d2", "before": "d2"})
    assert run("skills", "approve", "tides").stdout == "tides: d2 was approved already\n"
    assert len(json.loads(run("skills", "approve", "tides", "tides", "--json").stdout)) == 2
    assert run("skills", "approve", "--revoke", "tides").stdout == "tides: d2 is not approved any more\n"
    assert run("skills", "approve", "nope").exit_code == 1
    for wrong in (("tides", "echo", "--digest", "d"), ("tides", "--digest", "d", "--revoke"), ()):
        assert run("skills", "approve", *wrong).exit_code == 2


def test_every_command_that_prints_data_offers_json_and_every_help_an_example(run: Run) -> None:
    skills = ("list", "show", "status", "reload", "approve", "push", "remove", "changes")
    groups = {"skills": skills, "config": ("check", "show")}
    commands = ["attach", "cancel", "completion", "doctor", "health", "metrics", "rm", "send", "sessions", "show"]
    paths = [
        *((name,) for name in [*commands, "status", "wait"]),
        *((g, c) for g, names in groups.items() for c in names),
    ]
    for path in paths:
        shown = run(*path, "--help").stdout
        assert "Example" in shown, path
        assert "--json" in shown or path[0] in ("completion", "metrics", "rm"), path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(run: Run, shell: str) -> None:
    shown = run("completion", shell)
    assert shown.exit_code == 0
    assert f"_SKILLCTL_COMPLETE={shell}_complete" in shown.stdout


def test_sessions_complete_by_id(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("GET", "/v1/sessions", {"items": [{"id": SESSION, "title": "logs"}], "next": None})
    env = {
        "SKILLD_SOCKET": str(daemon.path),
        "_SKILLCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "skillctl show ses",
        "COMP_CWORD": "2",
    }
    assert CliRunner().invoke(skillctl, [], env=env, prog_name="skillctl").stdout == f"plain,{SESSION}\n"


@pytest.mark.parametrize("command", ["show", "skills show", "skills reload", "skills remove", "skills approve"])
@pytest.mark.parametrize("name", ["", "..", "a\udcff"])
def test_what_can_be_no_name_is_a_mistake_in_use_with_no_daemon_asked(run: Run, command: str, name: str) -> None:
    code, error = said(run(*command.split(), name))
    assert code == 2
    assert error.startswith(f"skillctl: error: {name!a} cannot be the name of a s")
