"""What the ledger tells, as metrics: what was spent on which model, which kinds of caps refused or warned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from skill_actors.telemetry import Measurements, Metadata

__all__ = ["CAP_KINDS", "LedgerMetrics", "cap_kind"]

CAP_KINDS: Final = frozenset(
    {"agent", "global", "global/day", "global/month", "session", "turn", "user", "user/day", "user/month"}
)
"""What a cap can be of; the label of a metric, which must not grow with sessions and users."""

_OTHER: Final = "other"
_WINDOWS: Final = frozenset({"day", "month"})


def cap_kind(name: str) -> str:
    """The kind of a cap by its name: `user/1000/month` is one of `user/month`, `day` is `global/day`."""
    first, *rest = name.split("/")
    if first in _WINDOWS and not rest:
        first, rest = "global", [first]
    of_window = f"{first}/{rest[-1]}" if rest and rest[-1] in _WINDOWS else first
    return next((kind for kind in (of_window, first) if kind in CAP_KINDS), _OTHER)


class LedgerMetrics:
    """Counters of money. `handlers` has who is told of which event of the bus.

    Args:
        models: names that may be a label.

    """

    def __init__(self, registry: CollectorRegistry, models: frozenset[str]) -> None:
        self._models = models
        self._spent = Counter("skilld_spend_usd", "Spent, as the ledger has it.", ["model"], registry=registry)
        self._refused = Counter("skilld_budget_refusals", "Calls that a cap refused.", ["cap"], registry=registry)
        self._warned = Counter(
            "skilld_budget_warnings", "Thresholds of caps that were reached.", ["cap"], registry=registry
        )
        self._wrong = Counter(
            "skilld_ledger_bound_wrong", "Calls that cost more than was set aside for them.", registry=registry
        )
        self._spent.labels(_OTHER)
        for kind in CAP_KINDS:  # what did not happen yet is 0 and not absent
            self._refused.labels(kind)
            self._warned.labels(kind)
        self.handlers: Final[Mapping[str, Callable[[Measurements, Metadata], None]]] = {
            "budget.exceeded": lambda _facts, meta: self._refused.labels(_cap_of(meta)).inc(),
            "budget.warning": lambda _facts, meta: self._warned.labels(_cap_of(meta)).inc(),
            "ledger.bound_wrong": lambda _facts, _meta: self._wrong.inc(),
            "ledger.settled": self._settled,
        }

    def _settled(self, facts: Measurements, meta: Metadata) -> None:
        model = meta.get("model")
        known = model if isinstance(model, str) and model in self._models else _OTHER
        self._spent.labels(known).inc(facts.get("cost_usd", 0.0))


def _cap_of(meta: Metadata) -> str:
    return cap_kind(str(meta.get("cap", "")))
