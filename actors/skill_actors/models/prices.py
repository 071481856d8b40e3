"""What a model call costs. Rates live in a dated data file, since they change without the program changing."""

from __future__ import annotations

import functools
import importlib.resources
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from skill_actors.models.base import Usage

__all__ = ["PriceError", "PriceTable", "Rates", "cost_usd", "load_prices"]

_DATED_ID: Final = re.compile(r"(.+)-20\d{6}")
_MILLION: Final = Decimal(1_000_000)


class PriceError(ValueError):
    """A price file cannot be used. The message names the file, the entry and what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars per million tokens.

    Args:
        max_prompt_tokens: the rates hold for calls with at most this much input in all; None for no limit.

    """

    input: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    output: Decimal
    max_prompt_tokens: int | None = None

    def cost_usd(self, usage: Usage) -> Decimal:
        """Cost of the tokens of one call, in US dollars."""
        return (
            self.input * usage.input_tokens
            + self.cache_write_5m * usage.cache_write_5m_tokens
            + self.cache_write_1h * usage.cache_write_1h_tokens
            + self.cache_read * usage.cache_read_tokens
            + self.output * usage.output_tokens
        ) / _MILLION

    def to_dict(self) -> dict[str, float | int | None]:
        values = {name: float(getattr(self, name)) for name in _RATE_NAMES}
        return {**values, "max_prompt_tokens": self.max_prompt_tokens}


_RATE_NAMES: Final = tuple(field.name for field in fields(Rates) if field.name != "max_prompt_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """All known prices. Per model the tiers are sorted by prompt limit, an unlimited one last.

    `free_containers`: hours of containers, which the API does not tell, are taken to cost nothing. Else what a call
    cost that had code executed is not known.
    """

    dated: date
    web_search_per_1000: Decimal
    rates: Mapping[str, Sequence[Rates]]
    free_containers: bool = False

    def find(self, model: str, prompt_tokens: int) -> Rates | None:
        """The rates of a call with that much input; None where no price is known."""
        tiers = self.rates.get(model)
        if tiers is None and (undated := _DATED_ID.fullmatch(model)):
            tiers = self.rates.get(undated[1])
        fitting = (t for t in tiers or () if t.max_prompt_tokens is None or prompt_tokens <= t.max_prompt_tokens)
        return next(fitting, None)

    def cost_usd(self, model: str, usage: Usage) -> float | None:
        """Cost of ONE call in US dollars; None where no price is known, never 0 for that.

        Add up the costs of calls, not their usage: some models cost more per token in a long prompt.
        """
        rates = self.find(model, _prompt_tokens(usage))
        if rates is None or (usage.code_execution_requests and not self.free_containers):
            return None
        return float(rates.cost_usd(usage) + self.web_search_per_1000 * usage.web_search_requests / 1000)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the date, the price of web search, and the tiers of each model."""
        return {
            "dated": self.dated.isoformat(),
            "web_search_per_1000": float(self.web_search_per_1000),
            "models": {model: [tier.to_dict() for tier in tiers] for model, tiers in self.rates.items()},
        }


def _prompt_tokens(usage: Usage) -> int:
    cached = usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return usage.input_tokens + cached


def load_prices(override: Path | None = None) -> PriceTable:
    """The built-in table; with `override`, that file's models added to it or put in place of the built-in ones.

    Reads a small file: call it at start, not while others wait.

    Raises:
        PriceError: if the file cannot be read or holds anything that is not understood.

    """
    table = _built_in()
    if override is None:
        return table
    try:
        text = override.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PriceError(f"price file {override} cannot be read: {error}") from error
    own = parse_prices(text, str(override))
    merged = dict(sorted({**table.rates, **own.rates}.items()))
    return PriceTable(dated=own.dated, web_search_per_1000=own.web_search_per_1000, rates=merged)


def cost_usd(model: str, usage: Usage) -> float | None:
    """Cost of one call by the built-in table, in US dollars; None where no price is known."""
    return _built_in().cost_usd(model, usage)


@functools.cache
def _built_in() -> PriceTable:
    resource = importlib.resources.files("skill_actors.models").joinpath("prices.toml")
    return parse_prices(resource.read_text(encoding="utf-8"), "prices.toml")


def parse_prices(text: str, name: str) -> PriceTable:
    """Read a price file's text; `name` is for messages.

    Raises:
        PriceError: on TOML that does not parse, an unknown or missing key, or a rate that is not a number >= 0.

    """
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise PriceError(f"price file {name}: {error}") from error
    _refuse_unknown(data, {"dated", "web_search_per_1000", "price"}, name)
    dated = data.get("dated")
    if type(dated) is not date:
        raise PriceError(f"price file {name}: dated must be a date such as 2026-11-09, not {dated!r}")
    tiers: dict[str, list[Rates]] = {}
    for number, entry in enumerate(_tables(data.get("price", []), name), start=1):
        where = f"{name}, price {number}"
        rates = _rates(entry, where)
        for model in _models(entry, where):
            tiers.setdefault(model, []).append(rates)
    return PriceTable(
        dated=dated,
        web_search_per_1000=_rate(data, "web_search_per_1000", name),
        rates={model: _sorted_tiers(model, found, name) for model, found in sorted(tiers.items())},
    )


def _tables(value: object, name: str) -> list[dict[str, Any]]:
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        return value
    raise PriceError(f"price file {name}: price must be written as [[price]] tables")


def _rates(entry: Mapping[str, Any], where: str) -> Rates:
    _refuse_unknown(entry, {"models", "max_prompt_tokens", *_RATE_NAMES}, where)
    limit = entry.get("max_prompt_tokens")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise PriceError(f"price file {where}: max_prompt_tokens must be a whole number of at least 1, not {limit!r}")
    return Rates(max_prompt_tokens=limit, **{key: _rate(entry, key, where) for key in _RATE_NAMES})


def _models(entry: Mapping[str, Any], where: str) -> list[str]:
    models = entry.get("models")
    if isinstance(models, list) and models and all(isinstance(model, str) and model for model in models):
        return models
    raise PriceError(f"price file {where}: models must be a list of model names, not {models!r}")


def _rate(table: Mapping[str, Any], key: str, where: str) -> Decimal:
    value = table.get(key)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        rate = Decimal(value)
        if rate.is_finite() and rate >= 0:
            return rate
    raise PriceError(f"price file {where}: {key} must be a number of US dollars >= 0, not {value!r}")


def _sorted_tiers(model: str, tiers: Sequence[Rates], name: str) -> tuple[Rates, ...]:
    limits = [tier.max_prompt_tokens for tier in tiers]
    if len(set(limits)) != len(limits):
        raise PriceError(f"price file {name}: {model} is priced twice for the same prompt size")
    return tuple(sorted(tiers, key=lambda t: (t.max_prompt_tokens is None, t.max_prompt_tokens or 0)))


def _refuse_unknown(table: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(table.keys() - known):
        raise PriceError(f"price file {where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
