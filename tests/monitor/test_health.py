"""Monitoring tells of itself: what it costs, what it lost, and what would be better done otherwise."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from monitor_kit import Collector, collecting, policy_file, run_program
from skilld_monitor import Monitoring, Span, enable_monitoring, log_event, monitor_call
from skilld_monitor.context import session
from skilld_monitor.diagnostics import advice_on
from skilld_monitor.health import EVERY_US, Costs
from skilld_monitor.policy.guard import before_tool


def test_costs_are_told_by_powers_of_two() -> None:
    costs = Costs()
    assert (len(costs), costs.at_most_us(0.5), costs.as_dict()) == (0, 0, {})
    for spent_us in [3] * 98 + [70, 10**9]:
        costs.add(spent_us * 1000)
    assert len(costs) == 100
    assert (costs.at_most_us(0.5), costs.at_most_us(0.99), costs.at_most_us(1)) == (4, 128, 1 << 19)
    assert costs.as_dict() == {"4us": 98, "128us": 1, f"{1 << 19}us": 1}


def test_each_watched_call_is_measured_and_the_end_tells_of_it(collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    for _ in range(10):
        monitor_call(len)([])
    made.disable()
    (ended,) = collector.wait(1, name="monitoring_disabled")
    assert ended["data"]["overhead"]["calls"] == 10
    assert 0 < ended["data"]["overhead"]["p50_us"] <= ended["data"]["overhead"]["p99_us"]
    assert (ended["data"]["accepted"], ended["data"]["dropped"]) == (11, 0)


def test_its_health_is_an_event_of_its_own_now_and_then(collector: Collector) -> None:
    assert EVERY_US == 60 * 1_000_000, "once a minute, as the manual says"
    made = enable_monitoring("shop-test")
    log_event("one")
    made._health_due_us -= EVERY_US + 1_000_000
    with session("s-1"), Span("request"):
        log_event("two")
    log_event("three")
    log_event("of the future", timestamp="2999-01-01T00:00:00Z")
    assert made.flush()
    (health,) = collector.events(name="monitoring_health")
    assert (health["channel"], health["level"], health["data"]["accepted"]) == ("META", "INFO", 3)
    assert (health["session"], health["trace"]) == (None, None), "it is nobody's"


def next_health(made: Monitoring, collector: Collector) -> dict[str, Any]:
    """Of now, as it is told each minute."""
    known = len(collector.events(name="monitoring_health"))
    made._health_due_us = 0
    log_event("any")
    return collector.wait(known + 1, name="monitoring_health")[-1]


def test_calls_that_slip_past_the_policy_are_in_the_health_and_a_warning_when_there_are_more(
    collector: Collector, tmp_path: Path
) -> None:
    made = enable_monitoring("shop-test", policy_file=policy_file(tmp_path, "redact"))
    before_tool(made, "read", {"text": "the secret"})
    counts = {"blocked": 0, "redacted": 1, "would_block": 0, "would_redact": 0, "unjudged": 0}
    health = next_health(made, collector)
    assert (health["level"], health["data"]["policy"]) == ("INFO", counts)
    before_tool(made, "read", {"text": iter("secret")})
    health = next_health(made, collector)
    assert health["level"] == "WARNING"
    problem = health["data"]["policy"]["problem"]
    assert "a call was not judged" in problem
    assert health["data"]["policy"] == {**counts, "unjudged": 1, "problem": problem}
    assert next_health(made, collector)["level"] == "INFO", "none since"
    assert made.policy.counts == {**counts, "unjudged": 1}


def test_a_policy_that_cannot_be_used_is_a_warning_each_time(collector: Collector, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    made = enable_monitoring("shop-test", policy_file=str(tmp_path / "absent.json"))
    for _ in range(2):
        health = next_health(made, collector)
        assert (health["level"], "absent.json" in health["data"]["policy"]["problem"]) == ("WARNING", True)
    assert "absent.json" in made.problem


def test_a_policy_that_the_daemon_said_and_cannot_be_kept_comes_into_the_programs_problem(
    collector: Collector, tmp_path: Path
) -> None:
    made = enable_monitoring("shop-test")
    assert made.flush()
    made.policy._path = str(tmp_path / "absent" / ("x" * 300))
    made.policy.heard({"version": "v1", "mode": "block", "fail": "closed", "rules": []})
    assert next_health(made, collector)["level"] == "WARNING"
    assert "the policy cannot be kept" in made.problem


def test_what_became_of_calls_is_told_at_the_end_of_a_program_that_switches_nothing_off(tmp_path: Path) -> None:
    path = policy_file(tmp_path, "redact")
    text = (
        "import skilld_monitor\n"
        f"skilld_monitor.enable_monitoring('shop-test', policy_file={path!r})\n"
        "@skilld_monitor.tool\n"
        "def read(lines): return list(lines)\n"
        "for n in range(3): read(iter(['secret']))\n"
    )
    with collecting(tmp_path) as collector:
        done = run_program(text, tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        (health,) = collector.wait(1, name="monitoring_health")
    assert (health["level"], health["data"]["policy"]["unjudged"]) == ("WARNING", 3)


def test_each_health_says_what_was_told_before_as_far_as_it_surely_arrived(collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    first = next_health(made, collector)["data"]
    assert first["told"] == {}
    assert made.flush()
    made.policy.counts["redacted"] += 5
    made._outbox.dropped += 3
    second = next_health(made, collector)["data"]
    zeros = dict.fromkeys(first["policy"], 0)
    assert second["told"] == {"dropped": 0, "ever_spooled": 0, **zeros}
    assert made.flush()
    made._sender.counts["spool_full"] += 1
    third = next_health(made, collector)["data"]
    assert third["told"] == second["told"], "it may be the second that was lost"
    assert (third["dropped"], third["policy"]["redacted"]) == (4, 5)


def test_a_health_that_nobody_wants_is_not_taken_for_told(collector: Collector) -> None:
    made = enable_monitoring("shop-test", channels={"META": {"level": "ERROR"}})
    made.policy.counts["redacted"] += 5
    made._health_due_us = 0
    log_event("any")
    assert made.flush()
    made.disable()
    (ended,) = collector.wait(1, name="monitoring_disabled")
    assert (ended["data"]["told"], ended["data"]["policy"]["redacted"]) == ({}, 5)


def test_what_waits_in_the_spool_is_in_the_health_in_bytes_and_what_ever_did_in_events(tmp_path: Path) -> None:
    made = enable_monitoring("shop-test")  # nobody is there
    log_event("one")
    assert made.flush(10)
    (spool,) = (tmp_path / "spool").glob("*.jsonl")
    size, kept = spool.stat().st_size, made.stats().spooled
    made._health_due_us = 0
    log_event("two")
    made._sender._retry_at = 0.0
    with collecting(tmp_path / "m") as collector:
        (health,) = collector.wait(1, name="monitoring_health")
        assert (health["data"]["spool_bytes"], health["data"]["ever_spooled"]) == (size, kept)
        assert made.flush()
        empty(made)
        assert next_health(made, collector)["data"]["spool_bytes"] == 0
        last = next_health(made, collector)["data"]
        assert last["ever_spooled"] >= kept, "which are all sent by now"
        assert last["spooled"] == 0
        made.disable()


def empty(made: Monitoring) -> None:
    """Until its spool file is gone: what is kept there counts as handled, and is sent whenever a daemon is there."""
    deadline_s = time.monotonic() + 30
    while made._sender.spool_bytes:
        assert time.monotonic() < deadline_s, made.stats()
        time.sleep(0.01)


def test_a_forked_child_counts_its_own_calls_and_none_of_its_parents(tmp_path: Path) -> None:
    path = policy_file(tmp_path, "redact")
    text = (
        "import os, skilld_monitor\n"
        f"made = skilld_monitor.enable_monitoring('shop-test', policy_file={path!r})\n"
        "@skilld_monitor.tool\n"
        "def read(text): return text\n"
        "for n in range(3): read('secret')\n"
        "child = os.fork()\n"
        "if not child: read('secret')\n"
        "else: os.waitpid(child, 0)\n"
        "made.disable(20)\n"
        "if not child: os._exit(0)\n"
    )
    with collecting(tmp_path) as collector:
        done = run_program(text, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        ended = collector.wait(2, name="monitoring_disabled")
    assert sorted(one["data"]["policy"]["redacted"] for one in ended) == [1, 3]
    assert len({one["run"] for one in ended}) == 2


def test_a_program_that_lost_events_says_so_when_it_ends(tmp_path: Path) -> None:
    text = (
        "import skilld_monitor\n"
        "made = skilld_monitor.enable_monitoring('shop-test', max_queued=200)\n"
        "for n in range(5000): skilld_monitor.log_event('burst', {'n': n})\n"
        "made.flush(20)\n"
    )
    with collecting(tmp_path) as collector:
        done = run_program(text, tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        (health,) = collector.wait(1, name="monitoring_health")
        kept = collector.count() - 2  # beside its start and this
    assert health["level"] == "WARNING"
    assert health["data"]["dropped"] + kept == 5000 > kept


@pytest.mark.parametrize("agent_id", ["agent1", "agent", "my-agent", "my_agent", "Test-2", "app", "unnamed", "bot 7"])
def test_an_id_that_says_nothing_is_told(agent_id: str) -> None:
    assert repr(agent_id) in advice_on(agent_id)


@pytest.mark.parametrize("agent_id", ["shop", "order-processing-service-production", "web-app-agent", "billing2"])
def test_an_id_that_says_something_is_not(agent_id: str) -> None:
    assert advice_on(agent_id) == ""


def test_the_advice_arrives_and_stops_nothing(collector: Collector) -> None:
    made = enable_monitoring("agent1")
    assert "agent_id 'agent1'" in made.advice
    assert made.problem == ""
    (enabled,) = collector.wait(1, name="monitoring_enabled")
    assert enabled["data"]["advice"] == made.advice


def test_diagnostics_go_to_a_private_file_where_they_are_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep" / "debug.log"
    made = enable_monitoring("agent1", diagnostics=str(path), diagnostics_level="DEBUG", log_file="events")
    made.problem = "something\nelse"
    made.disable()
    lines = path.read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["INFO", "DEBUG", "WARNING", "WARNING", "INFO"]
    assert "monitoring is on for 'agent1'" in lines[0]
    assert "something else" in lines[3]
    assert "accepted=2" in lines[4]
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert capfd.readouterr() == ("", "")


def test_diagnostics_go_to_logging_where_they_are_asked_for_and_print_nothing_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, "skilld_monitor"):
        enable_monitoring("shop-test", diagnostics="logging").disable()
    assert [record.name for record in caplog.records] == ["skilld_monitor"] * 2
    text = "import skilld_monitor\nskilld_monitor.enable_monitoring('agent1', diagnostics='logging', log_file=7)\n"
    done = run_program(text, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_diagnostics_that_cannot_be_written_cost_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = enable_monitoring("shop-test", diagnostics=str(tmp_path / "file" / "debug.log"))
    assert (made.problem, made.disable().dropped) == ("", 0)


def test_without_being_asked_nothing_is_said(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    before = set(os.listdir(tmp_path))
    with caplog.at_level(logging.DEBUG):
        made: Any = enable_monitoring("agent1")
        made.problem = "x"
        made.disable()
    assert not caplog.records
    assert set(os.listdir(tmp_path)) - before <= {"spool"}
    assert json.dumps(made.problem) == '"x"'
