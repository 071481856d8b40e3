"""What calls cost, and what they may cost at worst, in the amounts of the ledger. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from skill_actors.models.base import FAST, US, Usage
from skill_actors.models.prices import PriceTable
from skill_actors.sessions.ledger.agents import AgentTerms, worst_answer
from skill_actors.sessions.ledger.bound import CallBound
from skill_actors.sessions.ledger.exceeded import BudgetExceeded
from skill_actors.sessions.ledger.hold import Hold
from skill_actors.sessions.ledger.limits import amount_of
from skill_actors.store.ledger.base import Amounts

__all__ = ["CallCosts", "within_reason"]

# A call that claims more is a mistake, and sums of millions of such still fit what is stored: 64 bits.
_LARGEST_NANOUSD: Final = 10**15
_LARGEST_TOKENS: Final = 10**12


def within_reason(amounts: Amounts) -> Amounts:
    """The same, or the most that one call may add to a sum."""
    nanousd, tokens = min(amounts.nanousd, _LARGEST_NANOUSD), min(amounts.tokens, _LARGEST_TOKENS)
    return replace(amounts, nanousd=nanousd, tokens=tokens)


class CallCosts:
    """By a table of prices."""

    def __init__(self, prices: PriceTable) -> None:
        self._prices = prices

    def worst(self, model: str, bound: CallBound) -> Amounts:
        """The most that a call with this bound can use."""
        input_tokens, output_tokens = bound.input_tokens, bound.output_tokens
        nanousd = self._prices.worst_nanousd(
            model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            searches=bound.work.searches,
            container_s=bound.work.container_s,
            long_cache=bound.long_cache,
            geo=bound.geo,
            fast=bound.speed == FAST,
        )
        return Amounts(nanousd=nanousd or 0, tokens=input_tokens + output_tokens, priced=nanousd is not None)

    def answer(self, terms: AgentTerms) -> Amounts:
        """The most that one answer of an agent's model can use."""
        return worst_answer(self._prices, terms)

    def used(self, hold: Hold, model: str, usage: Usage, seconds: float) -> Amounts:
        """What a call used that came to its end; a model that answered and has no price has that of the one asked."""
        work, usage = hold.bound.work, _as_asked(hold, usage)
        in_container = work.preloaded or usage.code_execution_requests > 0
        container_s = max(seconds, 0.001) if in_container else 0.0
        nanousd = self._prices.cost_nanousd(model, usage, container_s=container_s)
        if nanousd is None:
            nanousd = self._prices.cost_nanousd(hold.model, usage, container_s=container_s)
        return Amounts(nanousd=nanousd or 0, tokens=usage.total_tokens, priced=nanousd is not None)

    def cut(self, hold: Hold, usage: Usage) -> Amounts:
        """What a call may have used that was cut: the reported input and all of the answer, or all that was reserved.

        All of it where nothing was reported yet, and where the API may have gone on by itself.
        """
        bound = hold.bound
        if bound.work.rounds > 1 or not usage.prompt_tokens:
            return hold.amounts
        whole = replace(_as_asked(hold, usage), output_tokens=max(usage.output_tokens, bound.output_tokens))
        nanousd = self._prices.cost_nanousd(hold.model, whole)
        if nanousd is None:
            return replace(hold.amounts, tokens=min(whole.total_tokens, hold.amounts.tokens))
        return Amounts(nanousd=min(nanousd, hold.amounts.nanousd), tokens=min(whole.total_tokens, hold.amounts.tokens))

    def might_fit(self, hold: Hold, error: BudgetExceeded) -> bool:
        """Whether what a cap leaves would do for a prompt that is next to nothing."""
        if error.wanted is None or error.unit not in ("usd", "tokens"):
            return False
        return amount_of(self.worst(hold.model, hold.bound.counted(0)), error.unit) <= error.left


def _as_asked(hold: Hold, usage: Usage) -> Usage:
    """What the request asked for and is dearer has its price also where the answer does not mention it."""
    geo = US if hold.bound.geo == US else usage.inference_geo
    return replace(usage, inference_geo=geo, speed=FAST if hold.bound.speed == FAST else usage.speed)
