"""When schedules are due: intervals, cron expressions, changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.workshop.schedules.rule import MAX_EVERY_S, Rule, RuleFault, offset_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_an_interval_counts_from_when_the_schedule_was_made() -> None:
    rule = Rule(every_s=90)
    assert rule.after(NOON, anchor=NOON) == NOON + timedelta(seconds=90)
    assert rule.after(NOON + timedelta(seconds=90), anchor=NOON) == NOON + timedelta(seconds=180)
    assert rule.after(NOON + timedelta(seconds=100), anchor=NOON) == NOON + timedelta(seconds=180)
    before = NOON - timedelta(days=1)
    assert rule.after(before, anchor=NOON) == before + timedelta(seconds=90), "the clock went back, and it goes on"


@given(
    every_s=st.floats(1, 100_000),
    passed_s=st.floats(0, 10**8),
    anchor=st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1)),
)
def test_the_next_time_is_the_first_that_lies_ahead(every_s: float, passed_s: float, anchor: datetime) -> None:
    anchor = anchor.replace(tzinfo=UTC)
    moment = anchor + timedelta(seconds=passed_s)
    following = Rule(every_s=every_s).after(moment, anchor=anchor)
    assert following is not None
    assert moment < following <= moment + timedelta(seconds=every_s)


def test_cron_is_read_in_its_time_zone() -> None:
    rule = Rule(cron="30 7 * * 1-5", timezone="Europe/Berlin")
    friday = datetime(2026, 7, 3, 12, tzinfo=UTC)
    assert rule.after(friday, anchor=friday) == datetime(2026, 7, 6, 5, 30, tzinfo=UTC), "Monday, in summer"
    assert Rule(cron="0 0 29 2 *").after(NOON, anchor=NOON) == datetime(2028, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "before", "expected"),
    [
        # On 29 March 2026 it is never half past two in Berlin, and on 25 October it is so twice.
        ("30 2 * * *", datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        ("30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("30 2 * * *", datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)),
    ],
)
def test_a_change_of_the_clock_neither_loses_nor_doubles_a_time(
    cron: str, before: datetime, expected: datetime
) -> None:
    assert Rule(cron=cron, timezone="Europe/Berlin").after(before, anchor=before) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, "one of every_s and cron"),
        ({"every_s": 5, "cron": "* * * * *"}, "one of every_s and cron"),
        ({"every_s": 0}, "every_s is 0"),
        ({"every_s": float("nan")}, "every_s is nan"),
        ({"every_s": MAX_EVERY_S * 2}, "every_s is"),
        ({"every_s": 5, "jitter_s": -1}, "jitter_s is -1"),
        ({"every_s": 5, "jitter_s": float("inf")}, "jitter_s is inf"),
        ({"every_s": 5, "timezone": "Europe/Berlin"}, "timezone is for cron"),
        ({"cron": "* * * *"}, "5 fields"),
        ({"cron": "@daily"}, "5 fields"),
        ({"cron": "* * * * * *"}, "5 fields"),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "0 0 31 2 *"}, "Bad day-of-month"),
        ({"cron": "0 " * 4 + "x" * 5000}, "5 fields"),
        ({"cron": "0 0 * * *", "timezone": "Nowhere/At_All"}, "timezone 'Nowhere/At_All'"),
        ({"cron": "0 0 * * *", "timezone": "../../etc/passwd"}, "timezone"),
        ({"cron": "0 0 * * *", "timezone": "\0"}, "timezone"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_value(words: dict[str, object], expected: str) -> None:
    with pytest.raises(RuleFault, match=expected.replace("*", r"\*")):
        Rule(**words)  # type: ignore[arg-type]


def test_jitter_is_the_same_for_one_time_and_spread_over_many() -> None:
    offsets = [offset_of(f"1000/agent-{n}", NOON, 60) for n in range(200)]
    assert offsets == [offset_of(f"1000/agent-{n}", NOON, 60) for n in range(200)]
    assert all(timedelta() <= offset < timedelta(seconds=60) for offset in offsets)
    assert min(offsets) < timedelta(seconds=10)
    assert max(offsets) > timedelta(seconds=50)
    assert offset_of("1000/agent", NOON, 0) == timedelta()
