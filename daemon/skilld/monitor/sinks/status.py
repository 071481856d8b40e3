"""How each place that events go to is doing, for metrics and for who asks. Kept by its follower alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["SinkState", "SinkStatus"]

SinkState = Literal["starting", "following", "waiting"]


@dataclass(slots=True, kw_only=True)
class SinkStatus:
    """One of them. It outlives its follower, which may be made again.

    Args:
        target: where it goes, without what is secret in an address.
        state: `waiting`: it could not deliver, and tries again.
        cursor: up to which event it is through.
        sent: events, since the daemon's start; so are the next two.
        failed: those that the receiver will never take.
        lost: those that the store had to remove before they could be delivered.
        retries: how often it could not deliver.
        problem: why it could not, the last time; "" while it can.

    """

    name: str
    target: str
    state: SinkState = "starting"
    cursor: int = 0
    sent: int = 0
    failed: int = 0
    lost: int = 0
    retries: int = 0
    problem: str = ""

    def as_json(self, newest: int) -> dict[str, Any]:
        """What the interface says of it; `lag` is how many events it is behind."""
        return {
            "name": self.name,
            "target": self.target,
            "state": self.state,
            "cursor": self.cursor,
            "lag": max(0, newest - self.cursor),
            "sent": self.sent,
            "failed": self.failed,
            "lost": self.lost,
            "retries": self.retries,
            "problem": self.problem,
        }
