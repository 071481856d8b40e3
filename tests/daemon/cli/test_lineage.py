"""skillctl rename, fork, reset, export, import, and what sessions can be chosen by."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_daemon import SESSION, TURN, FakeDaemon, event, fake_daemon
from skilld.cli.app import skillctl

OTHER = "ses_" + "c" * 26
LINES = b'{"kind":"session"}\n{"kind":"end"}\n'

Run = Callable[..., Result]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*args: str, input: bytes | None = None) -> Result:
        return CliRunner().invoke(
            skillctl, list(args), input=input, env={"SKILLD_SOCKET": str(tmp_path / "skilld.sock")}
        )

    return call


def test_a_title_is_given_and_taken_away(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("PATCH", f"/v1/sessions/{SESSION}", {"id": SESSION, "title": "logs"})
    assert (run("rename", SESSION, "logs").exit_code, run("rename", SESSION, "").exit_code) == (0, 0)
    assert [json.loads(exchange.body) for exchange in daemon.seen] == [{"title": "logs"}, {"title": None}]
    assert json.loads(run("rename", "--json", SESSION, "logs").stdout)["title"] == "logs"


def test_a_fork_prints_the_new_id_for_scripts(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/fork", {"id": OTHER}, 201)
    assert run("fork", SESSION).stdout == f"{OTHER}\n"
    assert run("fork", "--at", "27", "--title", "x", "--key", "k", SESSION).exit_code == 0
    assert json.loads(run("fork", "--json", SESSION).stdout) == {"id": OTHER}
    first, second, _ = daemon.seen
    assert json.loads(first.body) == {}
    assert json.loads(second.body) == {"after": 27, "title": "x"}
    assert second.headers["idempotency-key"] == "k"
    assert run("fork", "--at", "-1", SESSION).exit_code == 2
    for at, stderr in (("27", ""), ("3", "no turn had ended by event 3: the new conversation is empty\n"), ("0", "")):
        kept = {"id": OTHER, "forked_from": {"session": SESSION, "seq": 0 if int(at) < 19 else 19}}
        daemon.on_json("POST", f"/v1/sessions/{SESSION}/fork", kept, 201)
        assert run("fork", "--at", at, SESSION).stderr == stderr
    assert run("fork", "--key", "a b", SESSION).exit_code == 2


def test_a_reset_says_whether_the_files_go(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/reset", {"id": SESSION})
    assert run("reset", SESSION).stdout == ""
    assert json.loads(run("reset", "--workspace", "--json", SESSION).stdout) == {"id": SESSION}
    assert [json.loads(exchange.body)["workspace"] for exchange in daemon.seen] == [False, True]


def test_an_export_goes_to_stdout_or_whole_into_a_private_file(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    daemon.on(
        "GET", f"/v1/sessions/{SESSION}/export", lambda exchange: exchange.answer(200, LINES, "application/x-ndjson")
    )
    assert run("export", SESSION).stdout_bytes == LINES
    file = tmp_path / "talk.jsonl"
    file.write_text("old")
    assert run("export", "-o", str(file), SESSION).exit_code == 0
    assert file.read_bytes() == LINES
    assert file.stat().st_mode & 0o777 == 0o600
    missing = run("export", "-o", str(tmp_path / "none" / "x"), SESSION)
    assert (missing.exit_code, missing.stdout) == (1, "")
    daemon.on_error("GET", f"/v1/sessions/{SESSION}/export", 404, "not_found", "there is no session")
    assert run("export", "-o", str(file), SESSION).exit_code == 1
    assert file.read_bytes() == LINES
    assert sorted(each.name for each in tmp_path.iterdir()) == ["skilld.sock", "talk.jsonl"]


def test_an_import_reads_a_file_or_stdin(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    daemon.on_json("POST", "/v1/sessions/import", {"id": OTHER}, 201)
    (tmp_path / "talk.jsonl").write_bytes(LINES)
    assert run("import", str(tmp_path / "talk.jsonl")).stdout == f"{OTHER}\n"
    assert run("import", "-", input=LINES).stdout == f"{OTHER}\n"
    assert [exchange.body for exchange in daemon.seen] == [LINES, LINES]
    assert run("import", str(tmp_path / "none")).exit_code == 1
    daemon.on_error("POST", "/v1/sessions/import", 400, "bad_request", "line 3: not JSON")
    refused = run("import", str(tmp_path / "talk.jsonl"))
    assert (refused.exit_code, refused.stderr) == (1, "skillctl: error: line 3: not JSON\n")


def test_sessions_are_chosen_by_what_the_flags_say(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("GET", "/v1/sessions", {"items": [], "next": None})
    since = "2026-01-15T03:29:51Z"
    run("sessions", "--status", "idle", "--label", "a=b", "--title", "T", "--search", "x", "--since", since)
    wanted = {"limit": "50", "status": "idle", "label": "a=b", "title": "T", "q": "x", "since": since}
    assert daemon.seen[-1].query == wanted
    run("sessions", "--since", "2h")
    assert daemon.seen[-1].query["since"].endswith("Z")
    run("sessions")
    assert daemon.seen[-1].query == {"limit": "50"}
    assert run("sessions", "--status", "asleep").exit_code == 2


def test_show_names_the_calls_that_may_have_taken_effect(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"id": SESSION, "status": "idle", "turns": 1, "updated": "2026"})
    daemon.on_json("GET", f"/v1/sessions/{SESSION}/files", {"items": [], "used_bytes": 0, "quota_bytes": 1 << 30})
    ending = {"text": "", "stop_reason": "interrupted", "ambiguous": ["t1"], "error": {"code": "x", "message": "cut"}}
    events = [
        event(1, "turn.queued", {"text": "go"}),
        event(2, "turn.started"),
        event(3, "tool.started", {"id": "t1", "name": "bash_tool", "input": {"description": "pay"}}),
        event(4, "session.restarted", turn=None),
        event(5, "turn.interrupted", ending, turn=TURN),
        event(6, "session.reset", {"workspace": False}, turn=None),
        event(7, "session.forked", {"session": OTHER, "seq": 4}, turn=None),
    ]
    daemon.on_events("GET", f"/v1/sessions/{SESSION}/events", (events, "clean"))
    shown = run("show", SESSION).output
    assert "[bash_tool] was interrupted; it may have taken effect, and was not run again" in shown
    assert "[begun anew: the model sees nothing of what is above]" in shown
    assert f"[forked from {OTHER} at 4]" in shown


@pytest.mark.parametrize("name", ["rename", "fork", "reset", "export", "import"])
def test_help_teaches_by_example(run: Run, name: str) -> None:
    shown = run(name, "--help").stdout
    assert f"skillctl {name}" in shown.partition("Example")[2]
    assert "--json" in shown or name == "export"
