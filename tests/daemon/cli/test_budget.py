"""skillctl usage and budget: what they ask for, what they draw, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fake_daemon import SESSION, FakeDaemon, event, fake_daemon
from skilld.cli.app import skillctl

Run = Callable[..., Result]

NOTHING = {"usd": None, "tokens": None, "seconds": None, "tool_calls": None}
DAY = {
    "name": "global/day",
    "source": "set",
    "by_uid": 0,
    "limits": {**NOTHING, "usd": 20.0, "tool_calls": 100},
    "used": {"usd": 1.25, "tokens": 10, "seconds": 3.5, "tool_calls": 7},
    "held": {"usd": 0.5, "tokens": 0, "seconds": 0.0, "tool_calls": 0},
    "left": {**NOTHING, "usd": 18.25, "tool_calls": 93},
}
EACH = {
    "name": "turn",
    "source": "config",
    "by_uid": None,
    "limits": {**NOTHING, "seconds": 60.0},
    "used": None,
    "held": None,
    "left": None,
}


def spent(key: str, cost: float | None, known: float, tokens: int = 5) -> dict[str, Any]:
    return {
        "key": key,
        "cost_usd": cost,
        "known_usd": known,
        "held_usd": 0.0,
        "tokens": tokens,
        "seconds": 1.25,
        "tool_calls": 2,
    }


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*args: str) -> Result:
        return CliRunner().invoke(skillctl, list(args), env={"SKILLD_SOCKET": str(tmp_path / "skilld.sock")})

    return call


def test_usage_is_a_table_with_a_total_and_says_where_a_price_is_missing(daemon: FakeDaemon, run: Run) -> None:
    items = [spent("claude-a", 1.25, 1.25), spent("claude-b", None, 0.5), spent("claude-c", None, 0.0)]
    total = {**spent("", None, 1.75, 15), "seconds": 3.75, "tool_calls": 6}
    total.pop("key")
    daemon.on_json("GET", "/v1/usage", {"by": "model", "since": None, "until": None, "items": items, "total": total})
    lines = run("usage", "--by", "model", "--since", "2026-01-15").stdout.splitlines()
    assert daemon.seen[-1].query == {"by": "model", "since": "2026-01-15"}
    assert [line.split("  ")[0] for line in lines] == ["MODEL", "claude-a", "claude-b", "claude-c", "total"]
    assert "$1.25" in lines[1]
    assert "$0.50 or more" in lines[2]
    assert "price unknown" in lines[3]
    assert lines[4].split()[-4:] == ["more", "15", "3.8", "6"]
    assert json.loads(run("usage", "--json").stdout)["items"] == items
    assert daemon.seen[-1].query == {"by": "day"}
    assert run("usage", "--by", "colour").exit_code == 2


def test_days_of_usage_are_checked_here_and_may_be_so_long_ago(daemon: FakeDaemon, run: Run) -> None:
    item = spent("x", 0.0, 0.0)
    daemon.on_json("GET", "/v1/usage", {"by": "day", "since": None, "until": None, "items": [], "total": item})
    before = datetime.now(UTC).date()
    assert run("usage", "--since", "7d", "--until", "0d").exit_code == 0
    asked = {name: date.fromisoformat(daemon.seen[-1].query[name]) for name in ("since", "until")}
    assert asked["until"] - asked["since"] == timedelta(days=7)
    assert before <= asked["until"] <= datetime.now(UTC).date()
    for wrong in ("yesterday", "2026-13-01", "99999d999", "-1d", "", "3h"):
        refused = run("usage", f"--since={wrong}")
        assert (refused.exit_code, "expected a day such as 2026-01-15, or 7d" in refused.stderr) == (2, True), wrong
    assert len(daemon.seen) == 1


def test_a_single_row_has_no_total_below_it(daemon: FakeDaemon, run: Run) -> None:
    item = spent("2026-01-15", 0.0, 0.0)
    daemon.on_json("GET", "/v1/usage", {"by": "day", "since": None, "until": None, "items": [item], "total": item})
    assert "total" not in run("usage").stdout


def test_show_draws_a_row_for_each_limit(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("GET", "/v1/budgets", {"items": [DAY, EACH], "next": None})
    lines = [line.split() for line in run("budget", "show").stdout.splitlines()]
    assert lines == [
        ["CAP", "OF", "LIMIT", "USED", "HELD", "LEFT", "SOURCE"],
        ["global/day", "usd", "$20.00", "$1.25", "$0.50", "$18.25", "set"],
        ["global/day", "tool_calls", "100", "7", "0", "93", "set"],
        ["turn", "seconds", "60.0", "-", "-", "-", "config"],
    ]
    assert json.loads(run("budget", "show", "--json").stdout) == {"items": [DAY, EACH]}
    run("budget", "show", "user/1000/month")
    assert daemon.seen[-1].query == {"name": "user/1000/month"}


def test_set_sends_what_was_named_and_none_takes_a_limit_away(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("POST", "/v1/budgets", DAY)
    assert run("budget", "set", "day", "--usd", "20", "--tool-calls", "100").exit_code == 0
    assert json.loads(daemon.seen[-1].body) == {"name": "day", "usd": 20.0, "tool_calls": 100}
    assert json.loads(run("budget", "set", "day", "--usd", "none", "--tokens", "0", "--json").stdout) == DAY
    assert json.loads(daemon.seen[-1].body) == {"name": "day", "usd": None, "tokens": 0}


@pytest.mark.parametrize(
    "given", [[], ["--usd", "-1"], ["--usd", "inf"], ["--usd", "nan"], ["--tokens", "1.5"], ["--seconds", "1e999"]]
)
def test_what_is_no_limit_is_not_sent(daemon: FakeDaemon, run: Run, given: list[str]) -> None:
    assert run("budget", "set", "day", *given).exit_code == 2
    assert daemon.seen == []


def test_unset_names_the_cap_in_the_path(daemon: FakeDaemon, run: Run) -> None:
    daemon.on("DELETE", "/v1/budgets/user/1000/day", lambda exchange: exchange.answer(204, b"", "text/plain"))
    daemon.on_json("GET", "/v1/budgets", {"items": [], "next": None})
    done = run("budget", "unset", "user/1000/day")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "no cap 'user/1000/day' is left\n")
    assert run("budget", "unset", "../status").exit_code == 2
    assert [exchange.method for exchange in daemon.seen] == ["DELETE", "GET"]


def test_unset_shows_the_cap_of_the_configuration_that_holds_again(daemon: FakeDaemon, run: Run) -> None:
    daemon.on("DELETE", "/v1/budgets/turn", lambda exchange: exchange.answer(204, b"", "text/plain"))
    daemon.on_json("GET", "/v1/budgets", {"items": [EACH], "next": None})
    assert run("budget", "unset", "turn").stdout.splitlines()[1].split()[:3] == ["turn", "seconds", "60.0"]
    assert daemon.seen[-1].query == {"name": "turn"}
    assert json.loads(run("budget", "unset", "turn", "--json").stdout) == {"items": [EACH]}


def test_a_cap_without_limits_is_seen(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("POST", "/v1/budgets", {**DAY, "limits": NOTHING})
    lines = run("budget", "set", "day", "--usd", "none").stdout.splitlines()
    assert lines[1].split() == ["global/day", "-", "no", "limit", "-", "-", "-", "set"]


@pytest.mark.parametrize(("given", "said"), [("5,00", "expected a number of at least 0"), ("-1", "of at least 0")])
def test_what_is_no_number_is_said_in_words(run: Run, given: str, said: str) -> None:
    refused = run("budget", "set", "day", "--usd", given)
    assert refused.exit_code == 2
    assert said in refused.stderr


def test_a_turn_that_a_budget_refuses_ends_with_5_and_the_way_out(daemon: FakeDaemon, run: Run) -> None:
    message = "the cap 'day' allows 1.00 USD: raise it with skillctl budget set day --usd N"
    failed = {"text": "", "stop_reason": "error", "error": {"code": "budget_exceeded", "message": message}}
    events = [event(1, "turn.queued", {"text": "hello"}), event(2, "turn.started"), event(3, "turn.failed", failed)]
    daemon.on_json("POST", "/v1/sessions", {"id": SESSION}, 201)
    daemon.on_events("POST", f"/v1/sessions/{SESSION}/messages", (events, "clean"))
    done = run("send", "hello")
    assert done.exit_code == 5
    assert "skillctl budget set day --usd N" in done.stderr


def test_a_message_that_is_refused_for_its_budget_ends_with_5(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_json("POST", "/v1/sessions", {"id": SESSION}, 201)
    daemon.on_error("POST", f"/v1/sessions/{SESSION}/messages", 402, "budget_exceeded", "nothing is left of 'day'")
    done = run("send", "hello")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (5, "skillctl: error: nothing is left of 'day'")


@pytest.mark.parametrize("name", ["usage", "budget show", "budget set", "budget unset"])
def test_help_teaches_by_example(run: Run, name: str) -> None:
    shown = run(*name.split(), "--help").stdout
    assert f"skillctl {name}" in shown.partition("Example")[2]
    assert "--json" in shown or name == "budget unset"
