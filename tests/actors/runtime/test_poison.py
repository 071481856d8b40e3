"""Poison: whether what died may be made again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.runtime import Admission, Backoff, Poison

STEADY = Backoff(initial_s=1, factor=2, max_s=5)


def poison(max_deaths: int = 3, period_s: float = 60.0) -> Poison:
    return Poison(max_deaths=max_deaths, period_s=period_s, backoff=STEADY)


def test_what_never_died_starts_at_once_and_is_not_remembered() -> None:
    table = poison()
    assert table.admit("a", 0.0) == Admission()
    table.survived("a")
    assert not table.forget("a")
    assert len(table) == 0


def test_the_wait_grows_with_each_death_in_a_row_and_passes() -> None:
    table = poison(max_deaths=10)
    assert table.died("a", 10.0) == Admission(delay_s=1.0, deaths=1)
    assert table.admit("a", 10.4).delay_s == pytest.approx(0.6)
    assert table.admit("a", 11.0).delay_s == 0
    delays = [table.died("a", 12.0 + number).delay_s for number in range(4)]
    assert delays == [2, 4, 5, 5]


def test_a_success_ends_the_row_but_its_deaths_still_count() -> None:
    table = poison()
    table.died("a", 0.0)
    table.died("a", 1.0)
    table.survived("a")
    assert table.admit("a", 1.0) == Admission(deaths=2)
    assert table.died("a", 2.0).poisoned_until == 62.0


def test_too_many_deaths_within_the_period_are_refused_until_it_is_over() -> None:
    table = poison()
    for now in (0.0, 10.0, 20.0):
        last = table.died("a", now)
    assert last == Admission(poisoned_until=80.0, deaths=3)
    assert table.admit("a", 79.9).poisoned_until == 80.0
    assert table.admit("a", 80.0) == Admission()
    assert len(table) == 0
    assert table.died("a", 80.0).delay_s == 1.0  # forgiven everything


def test_deaths_that_are_far_apart_do_not_poison() -> None:
    table = poison()
    assert all(table.died("a", now).poisoned_until is None for now in (0.0, 30.0, 61.0, 100.0, 140.0))
    assert table.admit("a", 145.0).deaths == 2


def test_ids_know_nothing_of_each_other() -> None:
    table = poison(max_deaths=1)
    assert table.died("a", 0.0).poisoned_until == 60.0
    assert table.admit("b", 0.0) == Admission()
    assert table.forget("a")
    assert table.admit("a", 0.0) == Admission()


@pytest.mark.parametrize(("deaths", "period_s"), [(0, 1.0), (1, 0.0), (1, float("inf")), (1, float("nan"))])
def test_numbers_that_make_no_sense_are_refused(deaths: int, period_s: float) -> None:
    with pytest.raises(ValueError, match="max_deaths"):
        Poison(max_deaths=deaths, period_s=period_s)


def test_ids_are_forgotten_a_period_after_their_last_death() -> None:
    table = poison(period_s=10.0)
    for number in range(10_000):
        table.died(str(number), number / 100)
    assert len(table) <= 1_000
    table.admit("x", 200.0)
    assert len(table) == 0


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from("ab"), st.booleans()), max_size=40))
def test_it_agrees_with_a_list_of_all_deaths(events: list[tuple[float, str, bool]]) -> None:
    """The plain rule, which keeps everything: poisoned by 3 deaths in a period, until the last is a period old."""
    table, now = poison(period_s=30.0), 0.0
    deaths: dict[str, list[float]] = {"a": [], "b": []}
    for delay_s, name, dies in events:
        now += delay_s
        if deaths[name] and now >= deaths[name][-1] + 30.0:
            deaths[name] = []
        if dies:
            deaths[name].append(now)
        found = table.died(name, now) if dies else table.admit(name, now)
        recent = deaths[name][-3:]
        poisoned = len(recent) == 3 and recent[-1] - recent[0] <= 30.0
        assert found.poisoned_until == (recent[-1] + 30.0 if poisoned else None)
        assert found.deaths == sum(time >= now - 30.0 for time in recent)
