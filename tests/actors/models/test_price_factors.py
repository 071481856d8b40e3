"""What is dearer or cheaper than the plain rates: batches, inference in one country, the fast mode, containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from skill_actors.models.assembly import count_usage
from skill_actors.models.base import Usage
from skill_actors.models.prices import PriceError, load_prices

MILLION = 1_000_000
OPUS, SONNET = "claude-opus-5", "claude-sonnet-5-5"

OWN = """
dated = 2026-12-01
web_search_per_1000 = 5
us_factor = 2

[[price]]
models = ["own-model"]
input = 1
cache_write_5m = 1
cache_write_1h = 1
cache_read = 1
output = 1
fast_input = 3
fast_output = 4
"""


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        (SONNET, Usage(input_tokens=MILLION, service_tier="batch"), 1),
        (SONNET, Usage(input_tokens=MILLION, inference_geo="us"), 2.2),
        (OPUS, Usage(input_tokens=MILLION, output_tokens=MILLION, speed="fast"), 60),
        (OPUS, Usage(cache_read_tokens=MILLION, speed="fast"), 1),
        (OPUS, Usage(cache_write_5m_tokens=MILLION, speed="fast", inference_geo="us"), 13.75),
    ],
)
def test_what_usage_says_of_its_price_is_applied(model: str, usage: Usage, usd: float) -> None:
    assert load_prices().cost_usd(model, usage) == pytest.approx(usd)


def test_a_fast_mode_without_a_price_is_not_known_rather_than_cheap() -> None:
    assert load_prices().cost_usd(SONNET, Usage(input_tokens=1, speed="fast")) is None
    assert load_prices().worst_nanousd(SONNET, input_tokens=1, output_tokens=1, fast=True) is None


@pytest.mark.parametrize(("container_s", "usd"), [(1, 0.05 / 12), (300, 0.05 / 12), (7200, 0.1)])
def test_a_container_is_priced_by_the_time_that_is_known(container_s: float, usd: float) -> None:
    prices = load_prices()
    assert prices.cost_usd(SONNET, Usage(code_execution_requests=1), container_s=container_s) == pytest.approx(usd)


def test_billionths_are_rounded_up() -> None:
    prices = load_prices()
    assert prices.cost_nanousd("claude-haiku-5-5", Usage(cache_read_tokens=1)) == 10
    assert prices.cost_nanousd("claude-haiku-5-5", Usage(cache_read_tokens=1, service_tier="batch")) == 5
    assert prices.cost_nanousd("claude-haiku-5-5", Usage(cache_write_5m_tokens=1, service_tier="batch")) == 63


def test_a_file_of_ones_own_inherits_what_it_does_not_say(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(OWN)
    prices = load_prices(file)
    assert prices.cost_usd("own-model", Usage(output_tokens=MILLION, inference_geo="us")) == pytest.approx(2)
    assert prices.cost_usd("own-model", Usage(output_tokens=MILLION, speed="fast")) == pytest.approx(4)
    assert prices.cost_usd("own-model", Usage(output_tokens=MILLION, service_tier="batch")) == pytest.approx(0.5)
    assert prices.cost_usd(SONNET, Usage(code_execution_requests=1), container_s=3600) == pytest.approx(0.05)
    file.write_text(OWN.replace("us_factor = 2", "us_factor = -1"))
    with pytest.raises(PriceError, match="us_factor"):
        load_prices(file)


def test_the_words_of_usage_are_kept_only_where_they_change_the_price() -> None:
    reported = {"input_tokens": 1, "service_tier": "standard", "inference_geo": "global", "speed": "standard"}
    assert count_usage(reported, Usage()) == Usage(input_tokens=1)
    dear = count_usage({"service_tier": "batch", "inference_geo": "us", "speed": "fast"}, Usage())
    assert (dear.service_tier, dear.inference_geo, dear.speed) == ("batch", "us", "fast")
    assert Usage.from_dict(dear.to_dict()) == dear
    assert "speed" not in Usage(input_tokens=1).to_dict()
    assert (Usage() + dear).speed == "fast"


def test_a_model_has_a_price_also_by_its_dated_id() -> None:
    prices = load_prices()
    assert prices.has("claude-haiku-4-5-20251001")
    assert not prices.has("claude-mythos-5-2")
