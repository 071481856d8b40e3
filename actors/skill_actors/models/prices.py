"""What a model call costs. Rates live in a dated data file, since they change without the program changing.

Sums are kept in billionths of a dollar (`nanousd`), whole and rounded up for each call, so that they never are less
than the bill.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any, Final

from skill_actors.models.base import BATCH, FAST, US, Usage

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
        fast_input, fast_output: rates of the fast mode, where there is one; the cache's rates change as that of input.

    """

    input: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    output: Decimal
    max_prompt_tokens: int | None = None
    fast_input: Decimal | None = None
    fast_output: Decimal | None = None

    def cost_usd(self, usage: Usage) -> Decimal | None:
        """Cost of the tokens of one call, in US dollars; None in a fast mode whose rates are not known."""
        rates = self if usage.speed != FAST else self._fast()
        if rates is None:
            return None
        return (
            rates.input * usage.input_tokens
            + rates.cache_write_5m * usage.cache_write_5m_tokens
            + rates.cache_write_1h * usage.cache_write_1h_tokens
            + rates.cache_read * usage.cache_read_tokens
            + rates.output * usage.output_tokens
        ) / _MILLION

    def dearest_usd(self, input_tokens: int, output_tokens: int, *, long_cache: bool, fast: bool) -> Decimal | None:
        """The most that so many tokens can cost, whether the input is cached, written to the cache or neither."""
        rates = self if not fast else self._fast()
        if rates is None:
            return None
        dearest = max(rates.input, rates.cache_write_5m, rates.cache_read)
        if long_cache:
            dearest = max(dearest, rates.cache_write_1h)
        return (dearest * input_tokens + rates.output * output_tokens) / _MILLION

    def _fast(self) -> Rates | None:
        if self.fast_input is None or self.fast_output is None:
            return None
        factor = self.fast_input / self.input if self.input else Decimal(1)
        return replace(
            self,
            input=self.fast_input,
            cache_write_5m=self.cache_write_5m * factor,
            cache_write_1h=self.cache_write_1h * factor,
            cache_read=self.cache_read * factor,
            output=self.fast_output,
        )

    def to_dict(self) -> dict[str, float | int | None]:
        values = {name: float(getattr(self, name)) for name in _RATE_NAMES}
        fast = {name: float(rate) for name in _FAST_NAMES if (rate := getattr(self, name)) is not None}
        return {**values, **fast, "max_prompt_tokens": self.max_prompt_tokens}


_RATE_NAMES: Final = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
_FAST_NAMES: Final = ("fast_input", "fast_output")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """All known prices. Per model the tiers are sorted by prompt limit, an unlimited one last.

    Args:
        container_per_hour: US dollars; each call that uses a container pays for `container_min_minutes` at least.
        batch_factor, us_factor: what a batch, and inference in the United States only, costs beside the plain rates.
        free_containers: hours of containers are taken to cost nothing.

    """

    dated: date
    web_search_per_1000: Decimal
    rates: Mapping[str, Sequence[Rates]]
    container_per_hour: Decimal = Decimal(0)
    container_min_minutes: Decimal = Decimal(0)
    batch_factor: Decimal = Decimal(1)
    us_factor: Decimal = Decimal(1)
    free_containers: bool = False

    def find(self, model: str, prompt_tokens: int) -> Rates | None:
        """The rates of a call with that much input; None where no price is known."""
        fitting = (t for t in self._tiers(model) if t.max_prompt_tokens is None or prompt_tokens <= t.max_prompt_tokens)
        return next(fitting, None)

    def has(self, model: str) -> bool:
        """Whether calls of the model have a price."""
        return bool(self._tiers(model))

    def cost_usd(self, model: str, usage: Usage, *, container_s: float | None = None) -> float | None:
        """Cost of ONE call in US dollars; None where no price is known, never 0 for that.

        Add up the costs of calls, not their usage: some models cost more per token in a long prompt.

        Args:
            container_s: for how long the call had a container; None: not known, and then neither is what it cost, if it
                had code executed.

        """
        cost = self._cost(model, usage, container_s)
        return None if cost is None else float(cost)

    def cost_nanousd(self, model: str, usage: Usage, *, container_s: float | None = None) -> int | None:
        """As `cost_usd`, in whole billionths of a dollar, rounded up."""
        cost = self._cost(model, usage, container_s)
        return None if cost is None else _nanousd(cost)

    def worst_nanousd(
        self,
        model: str,
        *,
        input_tokens: int,
        output_tokens: int,
        searches: int = 0,
        container_s: float = 0.0,
        long_cache: bool = False,
        geo: str = "",
        fast: bool = False,
    ) -> int | None:
        """The most that a call with at most so much can cost, in billionths of a dollar; None where no price is known.

        Args:
            geo: where the request lets inference happen; the price of the United States unless it says `global`, since
                the workspace's own choice is not known.

        """
        reachable = self._reachable(model, input_tokens)
        costs = [tier.dearest_usd(input_tokens, output_tokens, long_cache=long_cache, fast=fast) for tier in reachable]
        known = [cost for cost in costs if cost is not None]
        if not known or len(known) < len(costs):
            return None
        tokens = max(known) * (Decimal(1) if geo == "global" else max(self.us_factor, Decimal(1)))
        return _nanousd(tokens + self._searches_usd(searches) + self._container_usd(container_s))

    def _cost(self, model: str, usage: Usage, container_s: float | None) -> Decimal | None:
        rates = self.find(model, usage.prompt_tokens)
        tokens = None if rates is None else rates.cost_usd(usage)
        if tokens is None or (usage.code_execution_requests and container_s is None and not self.free_containers):
            return None
        if usage.service_tier == BATCH:
            tokens *= self.batch_factor
        if usage.inference_geo == US:
            tokens *= self.us_factor
        return tokens + self._searches_usd(usage.web_search_requests) + self._container_usd(container_s or 0.0)

    def _searches_usd(self, searches: int) -> Decimal:
        return self.web_search_per_1000 * searches / 1000

    def _container_usd(self, container_s: float) -> Decimal:
        if container_s <= 0 or self.free_containers:
            return Decimal(0)
        minutes = max(Decimal(str(container_s)) / 60, self.container_min_minutes)
        return self.container_per_hour * minutes / 60

    def _tiers(self, model: str) -> Sequence[Rates]:
        tiers = self.rates.get(model)
        if tiers is None and (undated := _DATED_ID.fullmatch(model)):
            tiers = self.rates.get(undated[1])
        return tiers or ()

    def _reachable(self, model: str, prompt_tokens: int) -> Sequence[Rates]:
        """The tiers that a prompt of at most so many tokens may fall into."""
        tiers = self._tiers(model)
        if tiers and tiers[-1].max_prompt_tokens is not None and prompt_tokens > tiers[-1].max_prompt_tokens:
            return ()
        floors = (0, *(tier.max_prompt_tokens or 0 for tier in tiers))
        return [tier for tier, floor in zip(tiers, floors, strict=False) if floor == 0 or prompt_tokens > floor]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the date, the price of web search, and the tiers of each model."""
        return {
            "dated": self.dated.isoformat(),
            **{name: float(getattr(self, name)) for name in ("web_search_per_1000", *_OTHER_NAMES)},
            "models": {model: [tier.to_dict() for tier in tiers] for model, tiers in self.rates.items()},
        }


_OTHER_NAMES: Final = ("container_per_hour", "container_min_minutes", "batch_factor", "us_factor")


def _nanousd(usd: Decimal) -> int:
    return int((usd * 10**9).to_integral_value(ROUND_CEILING))


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
    own = parse_prices(text, str(override), table)
    return replace(own, rates=dict(sorted({**table.rates, **own.rates}.items())))


def cost_usd(model: str, usage: Usage, *, container_s: float | None = None) -> float | None:
    """Cost of one call by the built-in table, in US dollars; None where no price is known."""
    return _built_in().cost_usd(model, usage, container_s=container_s)


@functools.cache
def _built_in() -> PriceTable:
    resource = importlib.resources.files("skill_actors.models").joinpath("prices.toml")
    return parse_prices(resource.read_text(encoding="utf-8"), "prices.toml")


def parse_prices(text: str, name: str, base: PriceTable | None = None) -> PriceTable:
    """Read a price file's text; `name` is for messages, `base` has what it need not say again (but for the models).

    Raises:
        PriceError: on TOML that does not parse, an unknown or missing key, or a rate that is not a number >= 0.

    """
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise PriceError(f"price file {name}: {error}") from error
    _refuse_unknown(data, {"dated", "web_search_per_1000", "price", *_OTHER_NAMES}, name)
    dated = data.get("dated")
    if type(dated) is not date:
        raise PriceError(f"price file {name}: dated must be a date such as 2026-11-09, not {dated!r}")
    tiers: dict[str, list[Rates]] = {}
    for number, entry in enumerate(_tables(data.get("price", []), name), start=1):
        where = f"{name}, price {number}"
        rates = _rates(entry, where)
        for model in _models(entry, where):
            tiers.setdefault(model, []).append(rates)
    other = {key: getattr(base, key) if base and key not in data else _rate(data, key, name) for key in _OTHER_NAMES}
    return PriceTable(
        dated=dated,
        web_search_per_1000=_rate(data, "web_search_per_1000", name),
        rates={model: _sorted_tiers(model, found, name) for model, found in sorted(tiers.items())},
        container_per_hour=other["container_per_hour"],
        container_min_minutes=other["container_min_minutes"],
        batch_factor=other["batch_factor"],
        us_factor=other["us_factor"],
    )


def _tables(value: object, name: str) -> list[dict[str, Any]]:
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        return value
    raise PriceError(f"price file {name}: price must be written as [[price]] tables")


def _rates(entry: Mapping[str, Any], where: str) -> Rates:
    _refuse_unknown(entry, {"models", "max_prompt_tokens", *_RATE_NAMES, *_FAST_NAMES}, where)
    limit = entry.get("max_prompt_tokens")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise PriceError(f"price file {where}: max_prompt_tokens must be a whole number of at least 1, not {limit!r}")
    names = (*_RATE_NAMES, *(name for name in _FAST_NAMES if name in entry))
    return Rates(max_prompt_tokens=limit, **{key: _rate(entry, key, where) for key in names})


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
