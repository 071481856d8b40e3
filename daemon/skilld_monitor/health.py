"""How monitoring itself is: what it costs the calls that it watches, and what it lost. Told now and then, on META."""

from __future__ import annotations

__all__ = ["EVERY_US", "Costs", "health_of"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.losses import Losses
    from skilld_monitor.monitoring import Report

EVERY_US = 60_000_000
_BUCKETS = 20  # the last begins at half a second


class Costs:
    """How much time watching took of each call, in microseconds by powers of two. Threads may add at once: a count that
    two of them make one of is no harm, and a lock for each would be."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS

    def add(self, spent_ns: int) -> None:
        self._counts[min((spent_ns // 1000).bit_length(), _BUCKETS - 1)] += 1

    def __len__(self) -> int:
        """Calls that were measured."""
        return sum(self._counts)

    def at_most_us(self, share: float) -> int:
        """What so large a share of the calls took at most, rounded up to a power of two; 0 without calls."""
        left = share * len(self)
        for index, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                return 1 << index
        return 0

    def as_dict(self) -> dict[str, int]:
        """Calls by the time that they took less than, such as `"64us"`; only times that there were."""
        return {f"{1 << index}us": count for index, count in enumerate(self._counts) if count}


def health_of(report: Report, queued: int, costs: Costs, losses: Losses) -> dict[str, object]:
    """The data of the event."""
    found: dict[str, object] = {
        name: getattr(report, name)
        for name in ("accepted", "delivered", "spooled", "refused", "dropped", "sampled_out")
    }
    found["queued"] = queued
    if named := losses.named():
        found.update(others_refused=losses.refused, others_unreadable=losses.unreadable, others=named)
    if len(costs):
        found["overhead"] = {
            "calls": len(costs),
            "p50_us": costs.at_most_us(0.5),
            "p99_us": costs.at_most_us(0.99),
            "less_than": costs.as_dict(),
        }
    return found
