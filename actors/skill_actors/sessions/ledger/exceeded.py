"""A cap that something does not fit into, and a cap that is nearly used up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skill_actors.errors import Refused
from skill_actors.sessions.ledger.caps import Cap
from skill_actors.sessions.ledger.limits import Unit, natural, shown

__all__ = ["BudgetExceeded", "CapUse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapUse:
    """A threshold of a cap that was reached. `used`, `limit` in the unit; `share`: the threshold, such as 0.8."""

    cap: str
    unit: Unit
    used: float
    limit: float
    share: float


class BudgetExceeded(Exception):
    """Something was refused, and not done, since it might use more than a cap leaves. Numbers are in the cap's unit.

    Args:
        cap: the cap's name, and `key` the sum it is over.
        used, held: what was used, and what others may still use for which it is set aside.
        wanted: what would be used at worst; None where that is not known, since the model has no price.

    """

    def __init__(
        self, cap: Cap, key: str, unit: Unit, *, used: int, held: int, limit: int, wanted: int | None, model: str = ""
    ) -> None:
        if wanted is None:
            text = (
                f"the model {model} has no price, and the cap {cap.name} bounds money: add the model to the price file "
                f"(model.price_file), choose a model that has a price, or take the cap away"
            )
        else:
            text = (
                f"the cap {cap.name} of {shown(limit, unit)} is reached: {shown(used, unit)} used, "
                f"{shown(held, unit)} reserved, and this may take up to {shown(wanted, unit)}; {_way_out(cap, unit)}"
            )
        super().__init__(text)
        self.cap = cap.name
        self.key = key
        self.source = cap.source
        self.unit = unit
        self.used = natural(used, unit)
        self.held = natural(held, unit)
        self.limit = natural(limit, unit)
        self.wanted = None if wanted is None else natural(wanted, unit)
        self.left = max(limit - used - held, 0)  # in the whole numbers that are added up

    def details(self) -> dict[str, Any]:
        """JSON-ready facts for programs."""
        names = ("cap", "key", "source", "unit", "used", "held", "limit", "wanted")
        return {name: getattr(self, name) for name in names}

    def refused(self) -> Refused:
        """The same as a refusal that reaches a client."""
        return Refused("budget_exceeded", str(self), details=self.details())


def _way_out(cap: Cap, unit: Unit) -> str:
    if cap.source == "session":
        session = cap.name.removeprefix("session/")
        return f'raise it with PATCH /v1/sessions/{session} {{"budget": {{"{unit}": N}}}}'
    if cap.source == "message":
        return f'send the message anew with {{"options": {{"budget": {{"{unit}": N}}}}}}'
    return f"raise it with: skillctl budget set {cap.name} --{unit.replace('_', '-')} N"
