"""A reservation of a model call: what it may use at worst, until it is settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from skill_actors.sessions.ledger.account import Account
from skill_actors.sessions.ledger.bound import CallBound
from skill_actors.sessions.ledger.caps import Cap
from skill_actors.store.ledger.base import Amounts

__all__ = ["Hold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What `Ledger.reserve_call` gives.

    Args:
        id: of the entry; None where nothing is recorded, since the call costs nothing.
        day: the UTC day that it counts for, also if it is settled on another.
        amounts: what is reserved.
        bound: how that was found.
        caps: that were in force.

    """

    id: int | None
    account: Account
    day: str
    model: str
    amounts: Amounts = field(default_factory=Amounts)
    bound: CallBound = field(default_factory=CallBound)
    caps: Sequence[Cap] = ()
