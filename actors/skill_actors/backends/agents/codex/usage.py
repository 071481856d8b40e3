"""From the program's running totals of a thread to what one turn took and cost. Pure.

The program counts tokens per thread, over all its processes: what it tells are sums since the thread began, and what a
turn took is the difference to what was told before. It tells no price; there is one where our table has the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skill_actors.models.base import Usage
from skill_actors.models.prices import PriceTable

__all__ = ["Meter", "Totals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Tokens of a thread since it began. All input is in `input`, whether cached, written to a cache or neither."""

    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Totals:
        """From either of the program's spellings, or ours; what is missing or no count is 0."""

        def count(*names: str) -> int:
            values = (data.get(name) for name in names)
            return max((value for value in values if type(value) is int), default=0)

        return cls(
            input=max(count("input", "input_tokens", "inputTokens"), 0),
            cached=max(count("cached", "cached_input_tokens", "cachedInputTokens"), 0),
            written=max(count("written", "cache_write_input_tokens", "cacheWriteInputTokens"), 0),
            output=max(count("output", "output_tokens", "outputTokens"), 0),
        )

    def to_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}

    def since(self, before: Totals) -> Usage:
        """What came since. Where a count went down the thread was counted anew, and all of it came since."""
        if any(getattr(self, name) < getattr(before, name) for name in self.__slots__):
            before = Totals()
        cached, written = self.cached - before.cached, self.written - before.written
        return Usage(
            input_tokens=max(self.input - before.input - cached - written, 0),
            cache_read_tokens=cached,
            cache_write_5m_tokens=written,
            output_tokens=self.output - before.output,
        )


class Meter:
    """What one turn took so far. Fed with each total that the program tells.

    Args:
        before: of the thread when the turn began; None where nobody remembers: then the first total begins the count,
            less what the program says came last.
        prices: for what it cost.

    """

    def __init__(self, before: Totals | None, prices: PriceTable) -> None:
        self.model: str | None = None
        self.usage = Usage()
        self.answers = 0
        self._totals = before
        self._prices = prices
        self._cost_usd: float | None = 0.0

    @property
    def totals(self) -> Totals | None:
        """As they were told last."""
        return self._totals

    @property
    def cost_usd(self) -> float | None:
        """Of the turn so far; None where a model without a price took tokens."""
        return self._cost_usd

    @property
    def by_model(self) -> Mapping[str, Usage]:
        return {self.model: self.usage} if self.model and self.answers else {}

    def begin(self, totals: Totals) -> None:
        """What the thread had before the turn, as the program tells it; no news where it was remembered."""
        if self._totals is None:
            self._totals = totals

    def anew(self) -> None:
        """The turn is of another thread after all, which had nothing before it."""
        self._totals = Totals()

    def tell(self, totals: Totals, last: Totals | None = None) -> bool:
        """Take a new total; False if nothing came since. `last`: of the newest answer alone, where that is told."""
        if self._totals is None:
            self._totals = _less(totals, last) if last is not None else Totals()
        came = totals.since(self._totals)
        self._totals = totals
        if not came.total_tokens:
            return False
        self.answers += 1
        self.usage += came
        cost = self._prices.cost_usd(self.model, came) if self.model else None
        self._cost_usd = None if cost is None or self._cost_usd is None else self._cost_usd + cost
        return True


def _less(totals: Totals, last: Totals) -> Totals:
    return Totals(**{name: max(count - getattr(last, name), 0) for name, count in totals.to_dict().items()})
