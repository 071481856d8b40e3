"""The section [budget]: what is a cap, what is none, and how files add to each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from skill_actors.models.base import Usage
from skill_actors.models.prices import load_prices
from skilld.budget_caps import configured_caps
from skilld.config import ConfigError, config_keys, load_config

ROOT = Path(__file__).parents[2]


def caps(tmp_path: Path, text: str, drop_in: str = "") -> dict[str, dict[str, float]]:
    file = tmp_path / "skilld.toml"
    file.write_text(text)
    if drop_in:
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        (tmp_path / "conf.d/10.toml").write_text(drop_in)
    config = load_config(file, {"XDG_STATE_HOME": str(tmp_path)}, uid=1000)
    return {cap.name: cap.limits.to_json() for cap in configured_caps(config.budget)}


def test_a_cap_is_written_as_a_table_or_on_one_line(tmp_path: Path) -> None:
    assert caps(tmp_path, "[budget]\nday = { usd = 5, tokens = 10 }\n") == {"global/day": {"usd": 5, "tokens": 10}}
    assert caps(tmp_path, "[budget.user_day]\nseconds = 1.5\n") == {"user/day": {"seconds": 1.5}}
    assert caps(tmp_path, "") == {}
    assert caps(tmp_path, "[budget]\ntotal = { usd = 0.0 }\n") == {"global": {"usd": 0.0}}, "0 lets nothing through"


def test_a_later_file_adds_limits_and_replaces_those_of_the_same_name(tmp_path: Path) -> None:
    first, second = "[budget]\nday = { usd = 5.0, tokens = 10 }\n", "[budget.day]\nusd = 7.0\ntool_calls = 3\n"
    assert caps(tmp_path, first, second) == {"global/day": {"usd": 7.0, "tokens": 10, "tool_calls": 3}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("day = { usd = -1 }", "budget.day = {'usd': -1}: budget usd must be a number from 0"),
        ("day = { usd = inf }", "budget usd must be a number"),
        ("day = { usd = nan }", "budget usd must be a number"),
        ("day = { usd = '5' }", "budget usd must be a number"),
        ("day = { usd = true }", "budget usd must be a number"),
        ("day = { tokens = 1.5 }", "budget tokens must be a whole number"),
        ("day = { dollars = 5 }", "'dollars' is no limit of a budget"),
        ("day = 5", "budget.day = 5: "),
        ("daily = { usd = 5 }", "unknown key 'budget.daily'"),
        ("warn_at = [0.8, 0.5]", "must rise"),
        ("warn_at = [0.5, 0.5]", "must rise"),
        ("warn_at = [0.0]", "budget.warn_at.0"),
        ("warn_at = [1.0]", "budget.warn_at.0"),
    ],
)
def test_what_is_no_cap_is_refused_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        caps(tmp_path, f"[budget]\n{text}\n")
    assert said in str(caught.value)
    assert str(tmp_path / "skilld.toml") in str(caught.value)


def test_the_manual_names_every_cap_with_its_key(tmp_path: Path) -> None:
    """Every key makes a cap, and the table has both names."""
    _, _, rest = (ROOT / "docs/budgets.md").read_text().partition("\n## Caps\n")
    table = rest.partition("\n## ")[0]
    for key in (
        key.partition(".")[2] for key in config_keys() if key.startswith("budget.") and key != "budget.warn_at"
    ):
        (name,) = caps(tmp_path, f"[budget]\n{key} = {{ usd = 1.0 }}\n")
        assert f"`{name}`" in table, name
        assert f"`{key}`" in table, key


def test_the_configuration_that_the_manual_shows_is_taken(tmp_path: Path) -> None:
    page = (ROOT / "docs/budgets.md").read_text()
    shown = next(block.partition("```")[0] for block in page.split("```toml\n")[1:] if "[budget]" in block)
    assert caps(tmp_path, shown).keys() == {"turn", "session", "user/day", "global/month"}


def test_the_prices_that_the_manual_shows_are_taken_and_leave_the_others(tmp_path: Path) -> None:
    page = (ROOT / "docs/budgets.md").read_text()
    shown = next(block.partition("```")[0] for block in page.split("```toml\n")[1:] if "[[price]]" in block)
    (tmp_path / "prices.toml").write_text(shown)
    prices = load_prices(tmp_path / "prices.toml")
    assert prices.cost_usd("our-model", Usage(input_tokens=1_000_000)) == 1.5
    assert prices.rates.keys() == {*load_prices().rates, "our-model"}
