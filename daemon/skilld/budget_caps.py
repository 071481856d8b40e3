"""The caps that the configuration names, as the ledger has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from skill_actors.sessions.ledger import Cap, Limits
from skilld.config import BudgetConfig

__all__ = ["configured_caps", "current_caps"]

_NAMES: Final[Mapping[str, str]] = {
    "turn": "turn",
    "session": "session",
    "agent": "agent",
    "user": "user",
    "user_day": "user/day",
    "user_month": "user/month",
    "day": "global/day",
    "month": "global/month",
    "total": "global",
}
"""Keys of [budget], and the names of caps."""


def configured_caps(config: BudgetConfig) -> Sequence[Cap]:
    """Those with a limit, in the order of the section."""
    limits = {name: Limits.from_json(getattr(config, key)) for key, name in _NAMES.items()}
    return tuple(Cap(name=name, limits=found, source="config") for name, found in limits.items() if found != Limits())


def current_caps(config: Callable[[], BudgetConfig]) -> Callable[[], Sequence[Cap]]:
    """The caps of the configuration in force, which a reload may replace; they are read again only then."""
    known: tuple[BudgetConfig, Sequence[Cap]] | None = None

    def caps() -> Sequence[Cap]:
        nonlocal known
        now = config()
        if known is None or known[0] is not now:
            known = now, configured_caps(now)
        return known[1]

    return caps
