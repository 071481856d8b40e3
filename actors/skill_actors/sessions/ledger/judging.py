"""Whether something fits into the caps, and which thresholds it reaches. Pure: asked on the store's writer thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skill_actors.sessions.ledger.caps import Binding
from skill_actors.sessions.ledger.exceeded import BudgetExceeded, CapUse
from skill_actors.sessions.ledger.limits import amount_of, natural
from skill_actors.store.ledger.base import Amounts, Sums

__all__ = ["over", "reached"]

_NONE = Sums()


def over(
    bound: Sequence[Binding], sums: Mapping[str, Sums], wanted: Amounts, *, model: str = ""
) -> BudgetExceeded | None:
    """The first cap that what is wanted does not fit into, beside what is used and held; None if it fits into all."""
    for binding in bound:
        sum_ = sums.get(binding.key, _NONE)
        for unit, limit in binding.limits():
            used, held, more = amount_of(sum_.used, unit), amount_of(sum_.held, unit), amount_of(wanted, unit)
            if unit == "usd" and not wanted.priced:
                return BudgetExceeded(
                    binding.cap, binding.key, unit, used=used, held=held, limit=limit, wanted=None, model=model
                )
            if more > 0 and used + held + more > limit:
                return BudgetExceeded(binding.cap, binding.key, unit, used=used, held=held, limit=limit, wanted=more)
    return None


def reached(
    bound: Sequence[Binding], before: Mapping[str, Sums], used: Amounts, warn_at: Sequence[float]
) -> Sequence[CapUse]:
    """Thresholds that the sums pass by this usage: of each limit the highest, and each only when it is passed."""
    found = []
    for binding in bound:
        for unit, limit in binding.limits():
            was = amount_of(before.get(binding.key, _NONE).used, unit)
            now = was + amount_of(used, unit)
            passed = [share for share in warn_at if was < share * limit <= now]
            if passed:
                shares = (natural(now, unit), natural(limit, unit), max(passed))
                found.append(CapUse(cap=binding.cap.name, unit=unit, used=shares[0], limit=shares[1], share=shares[2]))
    return tuple(found)
