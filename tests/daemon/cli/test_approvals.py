"""skillctl approvals, approve and deny: which approval is meant, what is said, what is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from approval_fakes import approval
from fake_daemon import Exchange, FakeDaemon, event, fake_daemon
from skilld.cli.app import skillctl

Run = Callable[..., Result]
FIRST, SECOND, OTHER = (f"apr_{'a' * 10}{letter * 16}" for letter in "bcd")
ELSE = f"apr_{'e' * 26}"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        views = {id: approval(id=id) for id in (FIRST, SECOND, ELSE)}
        items = list(views.values())
        daemon.on("GET", "/v1/approvals", lambda exchange: exchange.json(200, _page(items, exchange)))
        for id, view in views.items():
            daemon.on_json("GET", f"/v1/approvals/{id}", view)
            daemon.on("POST", f"/v1/approvals/{id}", partial(_decide, view))
            daemon.on_json("DELETE", f"/v1/approvals/{id}", {**view, "status": "cancelled"})
        yield daemon


def _page(items: list[dict[str, Any]], exchange: Exchange) -> dict[str, Any]:
    """One approval a page."""
    at = int(exchange.query.get("cursor", "0"))
    return {"items": items[at : at + 1], "next": str(at + 1) if at + 1 < len(items) else None}


def _decide(view: dict[str, Any], exchange: Exchange) -> None:
    said = json.loads(exchange.body)
    status = "denied" if said["decision"] == "deny" else "allowed"
    exchange.json(200, {**view, "status": status, "decision": {**said, "by_uid": 7}})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*args: str, input: str | None = None) -> Result:
        env = {"SKILLD_SOCKET": str(tmp_path / "skilld.sock")}
        return CliRunner().invoke(skillctl, list(args), input=input, env=env)

    return call


def bodies(daemon: FakeDaemon, id: str) -> list[dict[str, Any]]:
    return [json.loads(exchange.body) for exchange in daemon.requests("POST", f"/v1/approvals/{id}")]


@pytest.mark.parametrize("given", [ELSE, "apr_eeee", "eeee", "e" * 25])
def test_an_id_or_its_beginning_is_enough(daemon: FakeDaemon, run: Run, given: str) -> None:
    result = run("approve", given)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{ELSE} allowed by uid 7: bash_tool: rm -rf build\n"
    assert bodies(daemon, ELSE) == [{"decision": "allow", "scope": "once"}]


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        ("apr_aaaa", 2, f"could be any of {FIRST}, {SECOND}"),
        ("zzzz", 1, "no pending approval has an id that begins with zzzz"),
        ("apr_e", 2, "nor 4 or more characters of one"),
        ("../../x", 2, "is no approval's id"),
        ("", 2, "is no approval's id"),
        ("e\x1b[2J", 2, "'e\\x1b[2J' is no approval's id"),
    ],
)
def test_what_names_none_or_several_decides_nothing(
    daemon: FakeDaemon, run: Run, given: str, code: int, told: str
) -> None:
    for command in (["approve", given], ["deny", given]):
        result = run(*command)
        assert result.exit_code == code
        assert told in result.stderr
        assert "\x1b" not in result.stderr
    assert not any(exchange.method == "POST" for exchange in daemon.seen)


def test_scope_edit_and_reason_are_what_the_daemon_is_told(daemon: FakeDaemon, run: Run) -> None:
    assert run("approve", FIRST, "--session-scope").stdout.startswith(f"{FIRST} allowed for the session by uid 7")
    assert run("approve", FIRST, "--edit", '{"command": "ls"}').exit_code == 0
    assert run("approve", FIRST, "--edit", "-", input='{"command": "pwd"}').exit_code == 0
    denied = run("deny", FIRST, "--reason", "no\x1b[2J", "--json")
    assert json.loads(denied.stdout)["status"] == "denied"
    assert bodies(daemon, FIRST) == [
        {"decision": "allow", "scope": "session"},
        {"decision": "edit", "scope": "once", "input": {"command": "ls"}},
        {"decision": "edit", "scope": "once", "input": {"command": "pwd"}},
        {"decision": "deny", "scope": "once", "reason": "no\x1b[2J"},
    ]
    assert run("approve", "--revoke", "eeee").exit_code == 0
    assert daemon.requests("GET", "/v1/approvals")[-1].query["status"] == "allowed"
    assert len(daemon.requests("DELETE", f"/v1/approvals/{ELSE}")) == 1


@pytest.mark.parametrize(
    "args",
    [
        ("approve", FIRST, "--edit", "ls"),
        ("approve", FIRST, "--edit", "[1]"),
        ("approve", FIRST, "--edit", "[" * 100_000),
        ("approve", FIRST, "--edit", "{}", "--session-scope"),
        ("approve", FIRST, "--revoke", "--session-scope"),
        ("approve",),
        ("deny", FIRST, "--edit", "{}"),
        ("approvals", FIRST, "--watch"),
        ("approvals", "--watch", "--status", "all"),
        ("approvals", "--status", "open"),
    ],
)
def test_wrong_use_decides_nothing(daemon: FakeDaemon, run: Run, args: tuple[str, ...]) -> None:
    assert run(*args).exit_code == 2
    assert daemon.seen == []


def test_the_list_has_all_pages_the_newest_last(daemon: FakeDaemon, run: Run) -> None:
    shown = run("approvals").stdout
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("apr_")] == [ELSE, SECOND, FIRST]
    assert [view["id"] for view in json.loads(run("approvals", "--json").stdout)["items"]] == [FIRST, SECOND, ELSE]
    assert len(json.loads(run("approvals", "-n", "2", "--json").stdout)["items"]) == 2
    assert json.loads(run("approvals", "eeee", "--json").stdout)["id"] == ELSE
    daemon.on_json("GET", "/v1/approvals", {"items": [], "next": None})
    empty = run("approvals")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "none\n")


def test_watch_tells_each_once_though_the_connection_is_lost(daemon: FakeDaemon, run: Run) -> None:
    asked = [event(1, "approval.requested", approval(id=FIRST)), event(2, "approval.requested", approval(id=SECOND))]
    decided = {"decision": "allow", "by_uid": 7}
    resolved = event(3, "approval.resolved", approval(id=FIRST, status="allowed", decision=decided))
    daemon.on(
        *("GET", "/v1/approvals/events"),
        lambda exchange: exchange.stream(asked, end="cut"),
        lambda exchange: exchange.stream([asked[1], resolved], end="cut"),
        lambda exchange: exchange.json(403, {"error": {"code": "forbidden", "message": "no more", "details": {}}}),
    )
    result = run("approvals", "--watch", "--json")
    told = [(line["type"], line["data"]["id"]) for line in map(json.loads, result.stdout.splitlines())]
    assert told == [
        ("approval.requested", FIRST),
        ("approval.requested", SECOND),
        ("approval.resolved", FIRST),
    ]
    assert (result.exit_code, "no more" in result.stderr) == (1, True)


def test_ids_complete_with_what_would_run_and_nothing_steers_the_shell(daemon: FakeDaemon, tmp_path: Path) -> None:
    views = [
        approval(id=FIRST, shown="bash_tool: ls\x1b[2J\nplain\n;rm"),
        approval(id="apr_x;rm -rf ~"),
        approval(id=OTHER),
    ]
    daemon.on_json("GET", "/v1/approvals", {"items": views, "next": None})
    env = {"SKILLD_SOCKET": str(tmp_path / "skilld.sock"), "_SKILLCTL_COMPLETE": "zsh_complete"}
    for command in ("approve", "deny", "approvals"):
        asked = {**env, "COMP_WORDS": f"skillctl {command} apr_", "COMP_CWORD": "2"}
        lines = CliRunner().invoke(skillctl, [], env=asked, prog_name="skillctl").stdout.splitlines()
        assert lines[1::3] == [FIRST, OTHER]
        assert lines[2] == "bash_tool: ls\\x1b[2J\\x0aplain\\x0a;rm"
