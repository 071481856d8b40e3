"""What reported calls of models cost, by the daemon's table of prices. Pure.

A call whose price or use is not known has no cost; never 0 for that, nor what the program says of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from skill_actors.models.base import Usage
from skill_actors.models.prices import PriceTable
from skilld.monitor.batch import Batch, MonitorEvent
from skilld.monitor.usage import CallUse, call_use

__all__ = ["COST", "cost_usd", "priced"]

COST: Final = "skilld.cost_usd"


def priced(batch: Batch, prices: Callable[[], PriceTable]) -> Batch:
    """The batch with what each call of a model cost in its data; the same where there is nothing to say."""
    events = tuple([_priced(event, prices) for event in batch.events])
    if all(event is before for event, before in zip(events, batch.events, strict=True)):
        return batch
    return replace(batch, events=events)


def _priced(event: MonitorEvent, prices: Callable[[], PriceTable]) -> MonitorEvent:
    data = event.data
    if type(data) is not dict:
        return event
    use = call_use(event)
    cost = None if use is None else cost_usd(use, prices())
    if cost is not None:
        return event._replace(data={**data, COST: cost})
    if COST in data:
        return event._replace(data={name: value for name, value in data.items() if name != COST})
    return event


def cost_usd(use: CallUse, prices: PriceTable) -> float | None:
    """US dollars of one call; None where the price, or what it used, is not known."""
    if use.input_tokens is None or use.output_tokens is None:
        return None
    cached = use.cache_read_tokens + use.cache_write_tokens
    usage = Usage(
        input_tokens=max(0, use.input_tokens - cached),
        output_tokens=use.output_tokens,
        cache_read_tokens=use.cache_read_tokens,
        cache_write_5m_tokens=use.cache_write_tokens,
    )
    cost = prices.cost_usd(use.answered, usage)
    return prices.cost_usd(use.model, usage) if cost is None and use.model != use.answered else cost
