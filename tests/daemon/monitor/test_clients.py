"""What programs say of their own monitoring is added up once, whatever is lost, comes twice, late, or begins anew."""

from __future__ import annotations

import time
from typing import Any

import pytest

from monitor_event_kit import batch
from skilld.monitor.clients import CALLS, Runs

NOTHING: dict[str, int] = dict.fromkeys(("dropped", "ever_spooled", *CALLS), 0)


def health(told: dict[str, int] | None = None, spool_bytes: int = 0, **totals: int) -> dict[str, Any]:
    """The event, with these totals, and what was told before it."""
    own = {name: totals.get(name, 0) for name in ("dropped", "ever_spooled")}
    calls = {name: totals.get(name, 0) for name in CALLS}
    data = {**own, "policy": calls, "spool_bytes": spool_bytes, "told": told or {}}
    return {"name": "monitoring_health", "data": data, "time_us": time.time_ns() // 1000}


def heard(runs: Runs, run: int, *events: dict[str, Any]) -> dict[str, int]:
    """By how much what is said there has grown, where it has."""
    made = batch(run, *events)
    return {name: more for name, more in runs.hear(made.run, made.events).items() if more}


def test_each_total_of_each_run_counts_once() -> None:
    runs = Runs()
    assert heard(runs, 1, health(unjudged=5, dropped=2)) == {"unjudged": 5, "dropped": 2}
    assert heard(runs, 2, health(unjudged=1)) == {"unjudged": 1}, "of another process"
    assert heard(runs, 1, health(unjudged=7, dropped=2, ever_spooled=9)) == {"unjudged": 2, "ever_spooled": 9}
    assert heard(runs, 1, health(unjudged=8), health(unjudged=10)) == {"unjudged": 3}
    assert heard(runs, 1, {**health(unjudged=11), "name": "monitoring_disabled"}) == {"unjudged": 1}


def test_what_is_lost_comes_twice_or_late_changes_nothing() -> None:
    runs = Runs()
    heard(runs, 1, health(blocked=1))
    assert heard(runs, 1, health({**NOTHING, "blocked": 5}, blocked=9)) == {"blocked": 8}, "those before were lost"
    assert heard(runs, 1, health({**NOTHING, "blocked": 5}, blocked=9)) == {}
    assert heard(runs, 1, health(blocked=5)) == {}, "it came late"
    assert heard(runs, 1, health(blocked=10)) == {"blocked": 1}


def test_a_run_that_is_not_known_is_counted_on_from_what_it_had_told() -> None:
    assert heard(Runs(), 1, health({**NOTHING, "dropped": 500}, dropped=510)) == {"dropped": 10}
    assert heard(Runs(), 1, health({**NOTHING, "dropped": 500}, dropped=3)) == {}, "no count goes back"


def test_so_many_runs_are_remembered_and_those_that_were_forgotten_are_not_counted_anew() -> None:
    runs = Runs()
    for run in range(300):
        assert heard(runs, run, health(redacted=3, spool_bytes=7)) == {"redacted": 3}
    assert (len(runs._totals), len(runs._spools)) == (64, 64)
    assert heard(runs, 0, health({**NOTHING, "redacted": 3}, redacted=4)) == {"redacted": 1}


def test_bytes_of_spool_files_are_of_now_and_not_of_a_program_that_ended() -> None:
    runs = Runs()
    now_us = time.time_ns() // 1000
    heard(runs, 1, health(spool_bytes=100))
    heard(runs, 2, health(spool_bytes=20))
    assert runs.spool_bytes(now_us) == 120
    heard(runs, 1, health(spool_bytes=0))
    heard(runs, 1, {**health(spool_bytes=100), "time_us": now_us - 60_000_000})
    assert runs.spool_bytes(now_us) == 20, "what came late is not how it is now"
    assert runs.spool_bytes(now_us + 151_000_000) == 0
    heard(runs, 3, {**health(spool_bytes=9), "time_us": now_us + 10**12})
    assert runs.spool_bytes(now_us) == 20, "dated into the future"


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        {},
        {"dropped": 5},  # of a program that tells the same name on its own
        {"dropped": 5, "told": 7},
        {"dropped": -1, "told": {}},
        {"dropped": "5", "policy": [], "told": {}},
        {"dropped": True, "policy": {"blocked": 1 << 53}, "told": {}},
        {"policy": {"made_up": 5}, "made_up": 5, "told": {}},
        {"dropped": 5, "told": {"dropped": 5}},
    ],
)
def test_what_is_said_in_another_way_is_passed_over(data: Any) -> None:
    assert heard(Runs(), 1, {"name": "monitoring_health", "data": data}) == {}


def test_other_events_are_no_health() -> None:
    assert heard(Runs(), 1, {**health(dropped=5), "name": "x"}) == {}
