"""Which times of a schedule are run, and which are left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from skill_actors.workshop.schedules.due import begin_at, dues, first_due, gone_on, set_back
from skill_actors.workshop.schedules.rule import Rule, RuleFault
from skill_actors.workshop.schedules.schedule import CatchUp, Progress, Schedule, ScheduleSettings

MADE = datetime(2026, 3, 1, 12, tzinfo=UTC)


def minutes(number: float) -> datetime:
    return MADE + timedelta(minutes=number)


def schedule(
    *, catch_up: CatchUp = "skip", max_runs: int | None = None, until: datetime | None = None, jitter_s: float = 0.0
) -> Schedule:
    """One of every ten minutes, made at MADE."""
    rule = Rule(every_s=600, jitter_s=jitter_s)
    settings = ScheduleSettings(agent="a", prompt="look", rule=rule, catch_up=catch_up, max_runs=max_runs, until=until)
    made = Schedule(owner_uid=1, name="s", made=MADE, settings=settings, progress=Progress(next_due=None))
    return replace(made, progress=first_due(made, MADE))


def test_the_first_run_comes_after_one_interval() -> None:
    assert begin_at(schedule()) == minutes(10)
    assert dues(schedule(), minutes(9.99)).run == []
    found = dues(schedule(), minutes(10))
    assert (found.run, found.late, found.following) == ([minutes(10)], 0, minutes(20))


@pytest.mark.parametrize(
    ("catch_up", "run", "late"),
    [("skip", [], 3), ("once", [30], 2), ("all", [10, 20, 30], 0)],
)
def test_times_that_passed_while_nobody_looked(catch_up: CatchUp, run: list[float], late: int) -> None:
    found = dues(schedule(catch_up=catch_up), minutes(38))
    assert (found.run, found.late, found.following) == ([minutes(n) for n in run], late, minutes(40))


def test_who_comes_a_moment_late_still_comes_in_time() -> None:
    assert dues(schedule(), minutes(10.9)).run == [minutes(10)]
    assert dues(schedule(), minutes(11.1)).run == []
    assert dues(schedule(), minutes(20.5)).run == [minutes(20)]
    assert dues(schedule(), minutes(20.5)).late == 1


def test_of_a_week_of_every_ten_minutes_a_hundred_are_caught_up() -> None:
    found = dues(schedule(catch_up="all"), MADE + timedelta(days=7))
    assert len(found.run) == 100
    assert found.following is not None
    assert found.following > MADE + timedelta(days=7)


def test_a_century_of_times_takes_no_time_to_leave_out() -> None:
    found = dues(schedule(), MADE + timedelta(days=36_500))
    assert found.following is not None
    assert found.following > MADE + timedelta(days=36_500)
    assert len(found.run) <= 1


def test_it_ends_after_its_runs() -> None:
    twice = schedule(catch_up="all", max_runs=2)
    found = dues(twice, minutes(45))
    assert found.run == [minutes(10), minutes(20)]
    assert gone_on(twice, replace(twice.progress, runs=1), found.following).next_due == found.following
    ended = replace(twice, progress=gone_on(twice, replace(twice.progress, runs=2), found.following))
    assert begin_at(ended) is None
    assert first_due(ended, minutes(50)).next_due is None


def test_it_ends_at_its_time() -> None:
    short = schedule(until=minutes(25))
    later = replace(short, progress=replace(short.progress, next_due=minutes(20)))
    assert dues(later, minutes(20)).following is None
    assert dues(later, minutes(20)).run == [minutes(20)]


def test_one_that_is_switched_off_is_never_due() -> None:
    off = schedule()
    assert begin_at(replace(off, settings=replace(off.settings, enabled=False))) is None


def test_jitter_only_makes_it_later_and_never_skips() -> None:
    spread = schedule(jitter_s=120)
    begins = begin_at(spread)
    assert begins is not None
    assert minutes(10) <= begins < minutes(12)
    assert dues(spread, begins - timedelta(seconds=0.01)).run == []
    assert dues(spread, begins).run == [minutes(10)]


def test_what_is_stored_is_read_back() -> None:
    one = schedule(catch_up="once", max_runs=5, until=minutes(500), jitter_s=3)
    progress = replace(
        one.progress.miss("busy").miss("late", 4).miss("busy"), runs=2, last_run=minutes(20), last_turn="t"
    )
    stored = replace(one, progress=progress, version=7)
    assert Schedule.from_json(stored.to_json(), owner_uid=1, version=7) == stored
    assert progress.missed == {"busy": 2, "late": 4}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"prompt": " "}, "prompt"),
        ({"catch_up": "perhaps"}, "catch_up is 'perhaps'"),
        ({"when_busy": ""}, "when_busy"),
        ({"max_runs": 0}, "max_runs is 0"),
        ({"until": "tomorrow"}, "is no time"),
        ({"until": "2026-01-01T00:00:00"}, "no time zone"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, object], expected: str) -> None:
    words = {"agent": "a", "prompt": "look", "every_s": 60, **change}
    with pytest.raises(RuleFault, match=expected):
        ScheduleSettings.from_json(words)


def test_a_next_time_that_a_wrong_clock_has_left_is_not_waited_for() -> None:
    often = schedule()
    years_ahead = replace(often, progress=replace(often.progress, next_due=minutes(10) + timedelta(days=2_000)))
    nearer = set_back(years_ahead, minutes(5))
    assert nearer is not None
    assert nearer.next_due == minutes(10)
    put_right = replace(often, progress=replace(often.progress, next_due=minutes(40)))
    assert set_back(put_right, minutes(5)) is None, "times that have run are not run again"
    off = replace(years_ahead, settings=replace(often.settings, enabled=False))
    assert set_back(off, minutes(5)) is None
