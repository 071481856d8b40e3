"""What reported calls cost is the daemon's word, not the program's; and what is not known has no cost."""

from __future__ import annotations

from typing import Any

import pytest

from monitor_event_kit import batch, chat, span
from skill_actors.models.prices import load_prices
from skilld.monitor.prices import COST, priced
from skilld.monitor.usage import call_use

PRICES = load_prices()


def cost(**event: Any) -> Any:
    (made,) = priced(batch(1, event), lambda: PRICES).events
    return made.data.get(COST)


def data(**values: Any) -> dict[str, Any]:
    return {"gen_ai.request.model": "claude-sonnet-5-5", **{f"gen_ai.usage.{name}": n for name, n in values.items()}}


def test_a_call_costs_what_the_table_says() -> None:
    assert cost(**chat("cd")) == pytest.approx(1000 * 2e-6 + 500 * 10e-6)
    assert cost(**chat("cd", (0, 0))) == 0


@pytest.mark.parametrize("name", ["cache_write.input_tokens", "cache_creation.input_tokens"])
def test_cached_input_is_part_of_all_input_and_has_its_own_price(name: str) -> None:
    used = {"input_tokens": 1000, "output_tokens": 0, "cache_read.input_tokens": 600, name: 300}
    assert cost(**span("cd", data=data(**used))) == pytest.approx((100 * 2 + 600 * 0.10 + 300 * 2.50) * 1e-6)


def test_the_model_that_answered_counts_and_else_the_one_that_was_asked() -> None:
    used = data(input_tokens=1_000_000, output_tokens=0)
    assert cost(**span("cd", data={**used, "gen_ai.response.model": "claude-fable-5"})) == 10
    assert cost(**span("cd", data={**used, "gen_ai.response.model": "some-alias"})) == 2
    del used["gen_ai.request.model"]
    assert cost(**span("cd", data={**used, "gen_ai.response.model": "claude-fable-5"})) == 10


@pytest.mark.parametrize(
    "event",
    [
        chat("cd", model="nobody-knows"),
        chat("cd", None),
        span("cd", data=data(input_tokens=5)),
        span("cd", data=data(input_tokens=-5, output_tokens=5)),
        span("cd", data=data(input_tokens=True, output_tokens=5)),
        span("cd", data=data(input_tokens=1 << 60, output_tokens=5)),
        {"data": data(input_tokens=5, output_tokens=5)},
        span("cd", data={**data(input_tokens=5, output_tokens=5), "gen_ai.operation.name": "invoke_agent"}),
        span("cd", data={**data(input_tokens=5, output_tokens=5), "gen_ai.operation.name": "execute_tool"}),
        span("cd", data={"gen_ai.request.model": 7}),
        span("cd", data={**data(input_tokens=5), "gen_ai.operation.name": ["chat"]}),
    ],
    ids=range(11),
)
def test_what_is_not_known_or_no_call_has_no_cost_whatever_the_program_says(event: dict[str, Any]) -> None:
    assert cost(**event) is None
    claimed = {**event, "data": {**event["data"], COST: 99.0}}
    assert cost(**claimed) is None


def test_a_program_cannot_say_what_a_call_costs() -> None:
    call = chat("cd")
    call["data"][COST] = -1.0
    assert cost(**call) == pytest.approx(0.007)


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, [{"gen_ai.request.model": "m"}]])
def test_data_of_any_shape_is_passed_on(value: Any) -> None:
    made = batch(1, span("cd", data=value))
    assert priced(made, lambda: PRICES) is made
    assert call_use(made.events[0]) is None
