"""How monitoring itself is: what it costs the calls that it watches, and what it lost. Told now and then, on META."""

from __future__ import annotations

__all__ = ["EVERY_US", "Costs", "Told", "health_of", "totals_of"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.losses import Losses
    from skilld_monitor.monitoring import Report
    from skilld_monitor.policy.holder import Holder
    from skilld_monitor.sender import Sender

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


class Told:
    """How far a run has told what the daemon adds up over all programs.

    What is told are totals, so that an event that is lost loses nothing. Each says too what was told before it: from
    there a daemon goes on that does not know the run, as it was begun anew meanwhile. That is what surely arrived, or
    waits in the spool file.
    """

    def __init__(self) -> None:
        self._sure: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._seq = 0
        self._lost = 0

    def before(self, sender: Sender) -> dict[str, int]:
        """What the daemon has, or will have."""
        if self._seq and sender.handled >= self._seq and sender.lost == self._lost:
            self._sure = self._last
        return self._sure

    def tell(self, seq: int, totals: dict[str, int], lost: int) -> None:
        """They are told by the event with this number; 0 for one that is not sent.

        Args:
            lost: records of this run that were lost by then.

        """
        if seq:
            self._seq, self._last, self._lost = seq, totals, lost

    def lacks(self, totals: dict[str, int]) -> bool:
        """Whether one of them was told otherwise."""
        return any(self._last.get(name, 0) != total for name, total in totals.items())


def totals_of(report: Report, sender: Sender, policy: Holder) -> dict[str, int]:
    """What the daemon adds up over all programs."""
    return {"dropped": report.dropped, "ever_spooled": sender.counts["ever_spooled"], **policy.counts}


def health_of(
    report: Report, totals: dict[str, int], queued: int, costs: Costs, losses: Losses, policy: Holder
) -> dict[str, object]:
    """The data of the event, but for the spool file's size and what was told before it."""
    found: dict[str, object] = {
        name: getattr(report, name)
        for name in ("accepted", "delivered", "spooled", "refused", "dropped", "sampled_out")
    }
    found.update(queued=queued, ever_spooled=totals["ever_spooled"])
    calls: dict[str, object] = {name: totals[name] for name in policy.counts}
    found["policy"] = {**calls, "problem": policy.problem} if policy.problem else calls
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
