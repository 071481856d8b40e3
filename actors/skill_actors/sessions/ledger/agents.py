"""What a turn of a whole agent may use, and has used. Pure; docs/design/agents.md has the reasons.

An agent calls its model as often as it likes, so no bound of a turn follows from its message. What is set aside for one
is what all caps leave, or the most that the operator gives a turn, if that is less. Of that the agent is told less: it
stops when an answer has brought it past its bound, so there has to be room for one more answer, and for two where
somebody else has to stop it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from skill_actors.models.base import Usage
from skill_actors.models.facts import facts_of
from skill_actors.models.prices import PriceTable
from skill_actors.sessions.ledger.caps import Binding
from skill_actors.sessions.ledger.exceeded import BudgetExceeded
from skill_actors.sessions.ledger.hold import Hold
from skill_actors.sessions.ledger.limits import Unit, amount_of, nanousd_of, shown
from skill_actors.store.ledger.base import Amounts

__all__ = ["DEFAULT_TURN_TOKENS", "DEFAULT_TURN_USD", "AgentHold", "AgentTerms"]

DEFAULT_TURN_USD: Final = 10.0
DEFAULT_TURN_TOKENS: Final = 4_000_000

_KEYS: Final[Mapping[Unit, str]] = {"usd": "turn_budget_usd", "tokens": "turn_budget_tokens"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTerms:
    """Under what terms an agent works.

    Args:
        backend: by name.
        budget: how it keeps to a bound: see `AgentCapabilities.budget`.
        model: by name; "" where the agent chooses one.
        turn_usd, turn_tokens: at most so much is set aside for a turn.
        answer_usd: the most that one answer of its model may cost, if the operator says so; None: by the prices.

    """

    backend: str
    budget: Literal["money", "tokens", "none"]
    model: str = ""
    turn_usd: float = DEFAULT_TURN_USD
    turn_tokens: int = DEFAULT_TURN_TOKENS
    answer_usd: float | None = None

    @property
    def shown(self) -> str:
        """The model, for a sentence that says that it has no price."""
        return self.model or f"that {self.backend} chooses"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHold:
    """What `Ledger.reserve_agent` gives.

    Args:
        hold: what is set aside; without an id where no cap bounds money or tokens.
        usd: what the agent may be told to spend; None where no cap bounds money.
        tokens: likewise.
        answer: what one answer takes at worst.

    """

    hold: Hold
    usd: float | None = None
    tokens: int | None = None
    answer: Amounts = field(default_factory=Amounts)

    def is_passed(self, usage: Usage, cost_usd: float | None) -> Unit | None:
        """Of what the turn has taken more than the agent may."""
        if self.usd is not None and cost_usd is not None and cost_usd > self.usd:
            return "usd"
        return "tokens" if self.tokens is not None and usage.total_tokens > self.tokens else None


def bounded_units(bound: Iterable[Binding]) -> frozenset[Unit]:
    """Which of money and tokens some cap bounds."""
    return frozenset(unit for binding in bound for unit, _ in binding.limits() if unit in _KEYS)


def worst_answer(prices: PriceTable, terms: AgentTerms) -> Amounts:
    """The most that one answer of the agent's model takes: its whole window read, and the longest answer written."""
    facts = facts_of(terms.model)
    nanousd = None
    if terms.answer_usd is not None:
        nanousd = nanousd_of(terms.answer_usd)
    elif facts.known:
        nanousd = prices.worst_nanousd(
            terms.model, input_tokens=facts.context_tokens, output_tokens=facts.max_output_tokens, long_cache=True
        )
    tokens = facts.context_tokens + facts.max_output_tokens
    return Amounts(nanousd=nanousd or 0, tokens=tokens, priced=nanousd is not None)


def least_of(answer: Amounts, terms: AgentTerms, units: frozenset[Unit]) -> Amounts:
    """What has to be set aside for a turn at least, so that there is something to spend."""
    answers = 1 if terms.budget == "money" else 2
    usd = answer.nanousd * answers + 1 if "usd" in units else 0
    return Amounts(nanousd=usd, tokens=answer.tokens * 2 + 1 if "tokens" in units else 0, priced=answer.priced)


def most_of(least: Amounts, terms: AgentTerms, units: frozenset[Unit]) -> Amounts:
    """What is set aside for a turn where all caps leave as much."""
    usd = nanousd_of(terms.turn_usd) if "usd" in units else 0
    return replace(least, nanousd=usd, tokens=terms.turn_tokens if "tokens" in units else 0)


def refusal_of(least: Amounts, most: Amounts, terms: AgentTerms, units: frozenset[Unit]) -> str | None:
    """Why no such turn can be had under a cap, whatever it leaves; None if one can."""
    if terms.budget == "none":
        return (
            f"the agent backend {terms.backend} cannot tell what a turn takes before it is over, and a cap bounds "
            f"{' and '.join(sorted(units))}: take the cap away, or use another backend"
        )
    for unit, key in _KEYS.items():
        if unit in units and least.priced and amount_of(most, unit) < amount_of(least, unit):
            return (
                f"a turn of {terms.backend} is given at most {shown(amount_of(most, unit), unit)} where a cap bounds "
                f"them, and answers of the model {terms.shown} alone may take {shown(amount_of(least, unit), unit)}: "
                f"raise {key} of the backend, or choose another model"
            )
    return None


def shrunk(wanted: Amounts, least: Amounts, error: BudgetExceeded) -> Amounts | None:
    """What to try next, where a cap leaves less than was wanted; None if it does not leave the least."""
    if error.wanted is None or error.unit not in _KEYS:
        return None
    if amount_of(wanted, error.unit) <= amount_of(least, error.unit):
        return None
    left = max(error.left, amount_of(least, error.unit))
    return replace(wanted, nanousd=left) if error.unit == "usd" else replace(wanted, tokens=left)


def held_for(hold: Hold, least: Amounts, answer: Amounts, units: frozenset[Unit]) -> AgentHold:
    """What the agent may be told, of what is set aside."""
    usd = (hold.amounts.nanousd - least.nanousd + 1) / 10**9 if "usd" in units else None
    tokens = hold.amounts.tokens - least.tokens + 1 if "tokens" in units else None
    return AgentHold(hold=hold, usd=usd, tokens=tokens, answer=answer)


def used_of(held: AgentHold, usage: Usage, cost_usd: float | None, *, cut: bool) -> Amounts:
    """What a turn used.

    Where nobody knows what it cost, all that was set aside counts. One that was cut may have begun one more answer than
    it has told of.
    """
    amounts = held.hold.amounts
    nanousd = None if cost_usd is None else nanousd_of(cost_usd)
    if held.hold.id is None:
        return Amounts(nanousd=nanousd or 0, tokens=usage.total_tokens, priced=nanousd is not None)
    tokens = usage.total_tokens
    if nanousd is None:
        nanousd = amounts.nanousd
    elif cut:
        nanousd = max(nanousd, min(nanousd + held.answer.nanousd, amounts.nanousd))
    if cut:
        tokens = max(tokens, min(tokens + held.answer.tokens, amounts.tokens))
    return Amounts(nanousd=nanousd, tokens=tokens, priced=held.usd is not None or cost_usd is not None)
