"""skillctl workshop's agents: what the commands send, print and end with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fake_daemon import SESSION, TURN, FakeDaemon, fake_daemon
from skilld.cli.app import skillctl

W = "/v1/workshop"
AGENT: dict[str, Any] = {
    "name": "a", "status": "working", "role": "r\x1b[31m", "backend": None, "backends": ["local"], "model": None,
    "profile": None, "session": SESSION, "before": [], "queue_depth": 2, "queue": 5, "turns": 3, "last_turn": None,
    "cost_usd": 0.5, "known_usd": 0.5, "tokens": 7, "seconds": 1.0, "tool_calls": 0, "max_cost_usd": None,
    "timeout_s": None, "crashes": {"recent": 0, "in_a_row": 0, "last": None, "why": ""}, "created": "", "updated": "",
}  # fmt: skip


def turn(status: str = "finished", text: str = "the answer", code: str | None = None, **more: Any) -> dict[str, Any]:
    error = {} if code is None else {"error": {"code": code, "message": "it was so"}}
    result = {"text": text, "cost_usd": 0.1, **error}
    return {"agent": "a", "turn": TURN, "session": SESSION, "status": status, "result": result, **more}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        yield daemon


def call(daemon: FakeDaemon, *args: str, input: str | None = None) -> Result:
    return CliRunner().invoke(skillctl, [f"--socket={daemon.path}", *args], input=input)


def body(daemon: FakeDaemon, number: int = -1) -> Any:
    return json.loads(daemon.seen[number].body)


def test_define_sends_the_settings_that_were_named_and_prints_the_session(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.on_json("PUT", f"{W}/agents/a", AGENT)
    assert call(daemon, "workshop", "agent", "define", "a").stdout == f"{SESSION}\n"
    assert body(daemon) == {}
    file = tmp_path / "s.json"
    file.write_text('{"system": "replace", "role": "below"}')
    options = (
        *("--role", "r", "--backend", "claude_cli:permission_mode=plan", "--model", "m", "--effort", "low"),
        *("--max-turns", "3", "--policy", "guarded", "--max-cost", "2", "--timeout", "60", "--queue", "0"),
        *("--git-context", "--no-worktree", "--skill", "x", "--skill", "y", "--guide", "g", "--context", ""),
        *("--settings", str(file), "--keep", "--profile", "p"),
    )
    done = call(daemon, "workshop", "agent", "define", "a", *options)
    assert done.exit_code == 0, done.stderr
    assert body(daemon) == {
        "role": "r", "backend": "claude_cli", "options": {"permission_mode": "plan"}, "model": "m", "effort": "low",
        "max_turns": 3, "policy": "guarded", "max_cost_usd": 2.0, "timeout_s": 60.0, "queue": 0, "git_context": True,
        "worktree": False, "skills": ["x", "y"], "skill": "g", "context": "", "system": "replace", "profile": "p",
    }  # fmt: skip
    assert daemon.seen[-1].headers["if-none-match"] == "*"


@pytest.mark.parametrize(
    "args",
    [
        ("--backend", "x=local"), ("--settings", "/nonexistent"), ("--policy", "none"), ("--queue", "-1"),
        ("--timeout", "0"), ("--max-cost", "-1"),
    ],
)  # fmt: skip
def test_settings_that_can_be_none_are_a_usage_error_and_nothing_is_sent(
    daemon: FakeDaemon, args: tuple[str, ...]
) -> None:
    done = call(daemon, "workshop", "agent", "define", "a", *args)
    assert done.exit_code == 2, done.output
    assert daemon.seen == []


def test_agents_are_listed_with_what_waits_and_what_they_cost(daemon: FakeDaemon) -> None:
    daemon.on_json("GET", f"{W}/agents", {"items": [AGENT, {**AGENT, "name": "b", "cost_usd": None}], "next": None})
    shown = call(daemon, "workshop", "agent", "list").stdout
    assert "a      working +2  3      $0.50" in shown
    assert "$0.50 and more" in shown
    assert "\x1b" not in shown
    assert len(json.loads(call(daemon, "workshop", "agent", "list", "--json").stdout)["items"]) == 2
    assert "working +2" in call(daemon, "workshop", "agent", "status").stdout


def test_a_result_is_printed_and_a_failure_ends_with_one(daemon: FakeDaemon) -> None:
    history = f"{W}/agents/a/history"
    daemon.on_json("GET", history, {"items": [turn()], "next": None})
    assert call(daemon, "workshop", "agent", "result", "a").stdout == "the answer\n"
    assert json.loads(call(daemon, "workshop", "agent", "result", "a", "--full").stdout) == turn()
    daemon.on_json("GET", history, {"items": [turn("failed", "half", "agent_io")], "next": None})
    failed = call(daemon, "workshop", "agent", "result", "a")
    assert (failed.exit_code, failed.stdout) == (1, "half\n")
    assert "it was so" in failed.stderr
    daemon.on_json("GET", history, {"items": [], "next": None})
    assert "has answered nothing yet" in call(daemon, "workshop", "agent", "result", "a").stderr


def test_cast_prints_the_turn_and_passes_on_key_and_time(daemon: FakeDaemon) -> None:
    accepted = {"agent": "a", "turn": TURN, "session": SESSION, "seq": 3, "status": "queued", "duplicate": False}
    daemon.on_json("POST", f"{W}/cast", accepted, 202)
    told = call(daemon, "cast", "--key", "k", "--timeout", "5", "--force", "a", "-", input="from stdin")
    assert (told.exit_code, told.stdout) == (0, f"{TURN}\n"), told.stderr
    assert body(daemon) == {"agent": "a", "text": "from stdin", "timeout_s": 5.0, "force": True}
    assert daemon.seen[-1].headers["idempotency-key"] == "k"
    assert json.loads(call(daemon, "workshop", "cast", "a", "x", "--json").stdout) == accepted
    assert call(daemon, "cast", "a", "").exit_code == 2
    assert call(daemon, "cast", "--key", "two words", "a", "x").exit_code == 2


@pytest.mark.parametrize(
    ("code", "status", "reason", "exit_code", "said"),
    [
        ("overloaded", 429, "queue_full", 1, "too many"),
        ("conflict", 409, "poison", 1, "too many with --force"),
        ("budget_exceeded", 402, "", 5, "too many"),
    ],
)
def test_what_is_refused_ends_with_its_code(
    daemon: FakeDaemon, code: str, status: int, reason: str, exit_code: int, said: str
) -> None:
    error = {"code": code, "message": "too many", "retryable": False, "details": {"reason": reason}}
    daemon.on_json("POST", f"{W}/cast", {"error": error}, status)
    done = call(daemon, "cast", "a", "x")
    assert (done.exit_code, done.stderr) == (exit_code, f"skillctl: error: {said}\n")


@pytest.mark.parametrize(
    ("found", "exit_code", "out"),
    [
        (turn(), 0, "the answer\n"),
        (turn("failed", "half", "turn_timeout"), 124, "half\n"),
        (turn("failed", "", "budget_exceeded"), 5, ""),
        (turn("cancelled", "", "cancelled"), 130, ""),
        (turn("failed", "", "agent_io"), 1, ""),
    ],
)
def test_a_pipe_ends_as_its_turn_did(daemon: FakeDaemon, found: dict[str, Any], exit_code: int, out: str) -> None:
    daemon.on_json("POST", f"{W}/pipe", found)
    done = call(daemon, "workshop", "pipe", "a", "b", "look:", "--template", "{result}", "--timeout", "9")
    assert (done.exit_code, done.stdout) == (exit_code, out)
    assert body(daemon) == {"from": "a", "to": "b", "message": "look:", "template": "{result}", "timeout_s": 9.0}


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        ((), {"gather": "all"}),
        (("--quorum", "2"), {"gather": "quorum", "quorum": 2}),
        (("--judge", "j", "--criterion", "c"), {"gather": "best", "judge": "j", "criterion": "c"}),
        (("--gather", "first"), {"gather": "first"}),
    ],
)
def test_a_fan_says_what_it_gathers(daemon: FakeDaemon, args: tuple[str, ...], asked: dict[str, Any]) -> None:
    results = [turn(), {"agent": "b", "status": "refused", "error": {"code": "overloaded", "message": "full"}}]
    best = {"agent": "a", "number": 1, "turn": TURN} if "judge" in asked else None
    daemon.on_json("POST", f"{W}/fan", {"gather": asked["gather"], "reached": True, "results": results, "best": best})
    done = call(daemon, "workshop", "fan", "hello", "a", "b", *args)
    assert done.exit_code == 0, done.stderr
    assert body(daemon) == {"agents": ["a", "b"], "text": "hello", **asked}
    if asked["gather"] in ("best", "first"):
        assert done.stdout == "the answer\n"
    else:
        assert done.stdout == "== a\nthe answer\n== b\n"
        assert "b: refused: full" in done.stderr


def test_a_fan_that_is_not_reached_ends_with_one(daemon: FakeDaemon) -> None:
    daemon.on_json("POST", f"{W}/fan", {"gather": "all", "reached": False, "results": [turn()], "best": None})
    assert call(daemon, "workshop", "fan", "hello", "a", "b").exit_code == 1


def test_await_says_who_is_still_busy_when_the_time_is_over(daemon: FakeDaemon) -> None:
    idle = {"agent": "a", "idle": True, "open": 0, "turn": turn()}
    daemon.on_json("POST", f"{W}/await", {"items": [idle], "idle": True})
    assert call(daemon, "workshop", "await", "a").stdout == "the answer\n"
    busy = {"agent": "b", "idle": False, "open": 2, "turn": None}
    daemon.on_json("POST", f"{W}/await", {"items": [idle, busy], "idle": False})
    late = call(daemon, "workshop", "await", "--timeout", "0")
    assert (late.exit_code, late.stdout) == (124, "")
    assert "still busy after 0 s: b" in late.stderr


def test_configure_changes_what_is_named_and_shows_it_otherwise(daemon: FakeDaemon) -> None:
    now = {"context": "c", "defaults": {"model": "m", "queue": 2}, "max_cost_usd": None}
    daemon.on_json("GET", f"{W}/config", now)
    daemon.on_json("PATCH", f"{W}/config", now)
    assert "defaults.model: m" in call(daemon, "workshop", "configure").stdout
    call(daemon, "workshop", "configure", "--common", "", "--total-cost", "none", "--effort", "low")
    assert body(daemon) == {
        "context": None,
        "max_cost_usd": None,
        "defaults": {"model": "m", "queue": 2, "effort": "low"},
    }
    call(daemon, "workshop", "configure", "--clear", "--total-cost", "2.5")
    assert body(daemon) == {"max_cost_usd": 2.5, "defaults": None}
    assert call(daemon, "workshop", "configure", "--total-cost", "much").exit_code == 2
