"""skillctl workshop's file, budget and status: what is sent, printed and asked, and how it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from e2e.harness import program
from fake_daemon import FakeDaemon, fake_daemon
from skilld.cli.app import skillctl
from terminal_kit import at_terminal

W = "/v1/workshop"
CREATE: dict[str, Any] = {
    "do": "create", "kind": "agent", "name": "a", "fields": {"role": {"after": "r\x1b[31m"}}, "anew": False,
    "held": False,
}  # fmt: skip
HELD = {**CREATE, "do": "change", "fields": {"role": {"before": "r"}}, "anew": True, "held": True}
NOTHING: dict[str, Any] = {"name": "shop", "plan": "0" * 64, "applied": True, "steps": [], "held": 0}
LINE = {"limit_usd": None, "known_usd": 0.5, "cost_usd": None, "held_usd": 0.0, "left_usd": None, "since_usd": 0.25}
BUDGET = {"since": None, "total": {**LINE, "limit_usd": 2.0, "left_usd": 1.5}, "agents": [{"name": "a", **LINE}]}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "workshop.toml"
    path.write_text('[agents.a]\nrole = "r"\n')
    return str(path)


def call(daemon: FakeDaemon, *args: str, input: str | None = None) -> Result:
    return CliRunner().invoke(skillctl, [f"--socket={daemon.path}", "workshop", *args], input=input)


def body(daemon: FakeDaemon, number: int = -1) -> Any:
    return json.loads(daemon.seen[number].body)


def test_apply_sends_the_file_with_what_was_asked_for(daemon: FakeDaemon, file: str) -> None:
    daemon.on_json("POST", f"{W}/setup", {**NOTHING, "steps": [CREATE]})
    done = call(daemon, "apply", file, "--prune", "--reset")
    assert (done.exit_code, done.stdout) == (0, '+ agent a\n    role = "r\\u001b[31m"\n')
    assert body(daemon) == {"file": {"agents": {"a": {"role": "r"}}}, "dry_run": False, "prune": True, "reset": True}


def test_diff_ends_with_one_where_there_is_something_to_do(daemon: FakeDaemon, file: str) -> None:
    daemon.on_json("POST", f"{W}/setup", {**NOTHING, "steps": [HELD], "held": 1})
    done = call(daemon, "diff", file)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "~ agent a: left as it is; it would begin a conversation anew: say --reset for that",
        '    role: "r" -> nothing',
    ]
    assert body(daemon)["dry_run"] is True
    assert call(daemon, "apply", file).exit_code == 1
    daemon.on_json("POST", f"{W}/setup", NOTHING)
    assert (call(daemon, "diff", file).exit_code, call(daemon, "apply", file).exit_code) == (0, 0)


@pytest.mark.parametrize(("answer", "sent", "exit_code"), [("y\n", [True, False], 0), ("n\n", [True], 1)])
def test_on_a_terminal_it_shows_and_asks_and_does_just_that(
    daemon: FakeDaemon, file: str, answer: str, sent: list[bool], exit_code: int
) -> None:
    daemon.on_json("POST", f"{W}/setup", {**NOTHING, "steps": [CREATE]})
    command = [*program("skillctl"), f"--socket={daemon.path}", "workshop", "apply", file]
    with at_terminal(command, {**os.environ, "TERM": "dumb"}) as terminal:
        assert "+ agent a" in terminal.until(r"Do it\? \[y/N\]: ")
        terminal.type(answer)
        assert terminal.end() == exit_code
    assert [json.loads(request.body)["dry_run"] for request in daemon.seen] == sent
    if exit_code == 0:
        assert body(daemon)["plan"] == "0" * 64


def test_a_file_that_cannot_be_read_is_a_mistake_of_use(daemon: FakeDaemon, tmp_path: Path) -> None:
    for command in ("validate", "diff", "apply"):
        done = call(daemon, command, str(tmp_path / "none.toml"))
        assert (done.exit_code, "No such file" in done.stderr) == (2, True)
    assert daemon.seen == []


def test_export_prints_toml_and_tells_what_is_not_in_it(daemon: FakeDaemon) -> None:
    found = {"file": {"agents": {"a b": {"role": "x\ny"}}}, "left_out": ["workflows.w: gone\n[agents.evil]"]}
    daemon.on_json("GET", f"{W}/setup", found)
    done = call(daemon, "export", "--name", "x", "--board", "--store", "n", "--store", "m")
    assert done.exit_code == 0
    assert done.stdout == '# left out: workflows.w: gone [agents.evil]\n\n[agents."a b"]\nrole = """\nx\ny"""\n'
    assert "left out: workflows.w" in done.stderr
    assert daemon.seen[-1].query == {"name": "x", "board": "true", "store": "n,m"}


def test_the_budget_is_shown_and_set(daemon: FakeDaemon) -> None:
    for method, path in (("GET", "budget"), ("PATCH", "budget"), ("POST", "budget/reset")):
        daemon.on_json(method, f"{W}/{path}", BUDGET)
    shown = call(daemon, "budget", "show", "--user", "1001").stdout.splitlines()
    assert daemon.seen[-1].query == {"owner": "1001"}
    assert shown[1].split() == ["a", "-", "$0.50", "and", "more", "$0.00", "-", "$0.25"]
    assert shown[2].split() == ["all", "$2.00", "$0.50", "and", "more", "$0.00", "$1.50", "$0.25"]
    assert call(daemon, "budget", "set", "2.5", "--agent", "a").exit_code == 0
    assert body(daemon) == {"usd": 2.5, "agent": "a"}
    assert call(daemon, "budget", "set", "none").exit_code == 0
    assert body(daemon) == {"usd": None}
    assert call(daemon, "budget", "reset").exit_code == 0
    assert call(daemon, "budget", "set", "lots").exit_code == 2


def test_whose_things_are_shown_can_be_said(daemon: FakeDaemon) -> None:
    agent = {
        "name": "a", "owner_uid": 1001, "status": "idle", "role": "", "backend": None, "backends": ["local"],
        "model": None, "queue_depth": 0, "turns": 0, "cost_usd": 0.0, "known_usd": 0.0,
    }  # fmt: skip
    daemon.on_json("GET", f"{W}/agents", {"items": [agent], "next": None})
    done = call(daemon, "agent", "list", "--user", "all", "--all")
    assert daemon.seen[-1].query == {"dismissed": "true", "owner": "all"}
    assert done.stdout.splitlines()[1].split()[:2] == ["1001", "a"]
    daemon.on_json("GET", f"{W}/runs", {"items": [], "next": None})
    call(daemon, "workflow", "status", "--user", "all")
    assert daemon.seen[-1].query == {"limit": "100", "owner": "all"}
    daemon.on_json("GET", f"{W}/schedules", {"items": [], "next": None})
    call(daemon, "schedule", "list", "--user", "5")
    assert daemon.seen[-1].query == {"owner": "5"}
    assert call(daemon, "agent", "status", "--user", "all").exit_code == 2
    assert call(daemon, "schedule", "list", "--user", "me").exit_code == 2


def test_the_screen_is_shown_again_until_somebody_leaves(daemon: FakeDaemon) -> None:
    nothing: dict[str, Any] = {name: [] for name in ("agents", "workers", "schedules", "runs")}
    whole = {**nothing, "board": {"by_status": {"ready": 0}}, "budget": {"since": None, "total": BUDGET["total"]}}
    daemon.on_json("GET", f"{W}/status", whole)
    lines = call(daemon, "status").stdout.splitlines()
    assert lines == [
        "agents: none", "board: nothing", "workers: none", "schedules: none", "runs: none",
        "spent: $0.50 and more; cap $2.00, left $1.50",
    ]  # fmt: skip
    command = [*program("skillctl"), f"--socket={daemon.path}", "workshop", "status", "--watch", "--every", "0.5"]
    with at_terminal(command, {**os.environ, "TERM": "dumb"}) as terminal:
        for _ in range(2):
            terminal.until("spent: ")
        terminal.interrupt()
        assert terminal.end() == 130
