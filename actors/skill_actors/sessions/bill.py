"""What one turn has used and cost, call by call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from skill_actors.models.base import Usage
from skill_actors.sessions.events import Event

__all__ = ["Bill", "stored_bill"]


class PriceUsd(Protocol):
    """What usage of a model costs, in US dollars; None where that is unknown."""

    def __call__(self, model: str, usage: Usage, /, *, container_s: float | None = None) -> float | None:
        """`container_s`: for how long the call had a container at the API; None if that is not known."""


# A turn whose last event is one of these was not waiting for the model.
_NO_CALL_UNDER_WAY = frozenset(
    {"turn.queued", "model.message", "tool.started", "tool.output", "approval.requested", "approval.resolved"}
)


class Bill:
    """Sums usage, and prices each call by itself: rates may depend on the size of the prompt.

    Args:
        price_usd: what usage of a model costs; None where that is unknown.

    """

    def __init__(self, price_usd: PriceUsd) -> None:
        self._price_usd = price_usd
        self._sum_usd = 0.0
        self._priced = True
        self._whole = True
        self.usage = Usage()

    def charge(self, model: str, usage: Usage, seconds: float | None = None) -> None:
        """Count a call that came to its end, after so many seconds."""
        if usage == Usage():
            return
        self.usage += usage
        price = self._price_usd(model, usage, container_s=seconds if usage.code_execution_requests else 0.0)
        if price is None:
            self._priced = False
        else:
            self._sum_usd += price

    def spend(self, cost_usd: float | None) -> None:
        """Count what a call of a tool cost, where its backend says so."""
        self._sum_usd += cost_usd or 0.0

    def add(self, usage: Usage, cost_usd: float | None, *, whole: bool) -> None:
        """Count what an agent says it has taken; not the whole of it where it was cut."""
        self.usage += usage
        self._sum_usd += cost_usd or 0.0
        self._priced = self._priced and cost_usd is not None
        self._whole = self._whole and whole

    def lose(self, model: str, usage: Usage, *, cut: bool) -> None:
        """Count what is known of calls that failed, or of one that was cut and may cost more than was told."""
        self.charge(model, usage)
        self._whole = self._whole and not cut and usage == Usage()

    @property
    def cost_usd(self) -> float | None:
        """What the turn cost; None where a price is unknown or a call did not come to its end."""
        return self._sum_usd if self._priced and self._whole else None

    @property
    def known_usd(self) -> float | None:
        """What is known of it, for a sum over turns; None where a price is unknown."""
        return self._sum_usd if self._priced else None

    def recount(self, events: Sequence[Event], turn: str) -> None:
        """Count what was stored of the turn before the daemon died."""
        last = ""
        for event in events:
            if event.turn != turn:
                continue
            paused = event.type == "model.message" and event.data.get("stop_reason") == "pause_turn"
            last = "paused" if paused else event.type
            if event.type == "tool.finished":
                self.spend(event.data.get("cost_usd"))
            if event.type in ("model.message", "session.compacted") and event.data.get("usage"):
                self.charge(str(event.data["model"]), Usage.from_dict(event.data["usage"]))
        self.lose("", Usage(), cut=last not in _NO_CALL_UNDER_WAY)


def stored_bill(events: Sequence[Event], turn: str, price_usd: PriceUsd) -> Bill:
    """The bill of a turn from what was stored of it before the daemon died."""
    bill = Bill(price_usd)
    bill.recount(events, turn)
    return bill
