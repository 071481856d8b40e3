"""Limits are whole or refused; numbers are shown as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.sessions.ledger import Limits
from skill_actors.sessions.ledger.limits import nanousd_of, shown


def test_limits_come_back_as_they_went() -> None:
    limits = Limits(usd=2.5, tokens=10, seconds=0, tool_calls=3)
    assert Limits.from_json(limits.to_json()) == limits
    assert Limits.from_json({"usd": None}) == Limits()
    assert Limits().to_json() == {}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (None, "must be an object"),
        ([], "must be an object"),
        ({"dollars": 1}, "'dollars'"),
        ({"usd": -1}, "usd"),
        ({"usd": True}, "usd"),
        ({"usd": "1"}, "usd"),
        ({"usd": math.nan}, "usd"),
        ({"usd": math.inf}, "usd"),
        ({"usd": 1e10}, "usd"),
        ({"tokens": 1.5}, "tokens"),
        ({"tokens": 10**18}, "tokens"),
        ({"tokens": 10**5000}, "tokens"),
        ({"usd": 10**400}, "usd"),
        ({"seconds": -0.1}, "seconds"),
        ({"tool_calls": 1.0}, "tool_calls"),
    ],
)
def test_what_is_no_limit_is_refused_by_field_and_value(value: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Limits.from_json(value)


@given(st.floats(min_value=0, max_value=10**9, allow_nan=False))
def test_a_limit_is_rounded_down_and_a_cost_up(usd: float) -> None:
    limit, cost = Limits(usd=usd).whole("usd"), nanousd_of(usd)
    assert limit is not None
    assert limit <= cost <= limit + 1
    assert limit / 1e9 <= usd * (1 + 1e-12)


@pytest.mark.parametrize(
    ("whole", "unit", "text"),
    [
        (20_000_000_000, "usd", "20.00 USD"),
        (1_234_567, "usd", "0.001235 USD"),
        (0, "usd", "0.00 USD"),
        (90_500, "seconds", "90.5 seconds"),
        (7, "tool_calls", "7 tool calls"),
        (12_000_000, "tokens", "12000000 tokens"),
    ],
)
def test_amounts_are_shown_in_the_unit_that_people_write(whole: int, unit: str, text: str) -> None:
    assert shown(whole, unit) == text  # type: ignore[arg-type]
