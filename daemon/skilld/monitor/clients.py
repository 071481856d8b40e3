"""What programs say of their own monitoring now and then: totals of a run, of which each is counted once. No I/O.

An event says what the run's totals are, and what it had told before. A run that is known is counted on from what was
heard of it last, so that an event that was lost, came twice or came late changes nothing. One that is not known, since
the daemon or the source was made anew, is counted on from what it had told.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from skilld.monitor.batch import MonitorEvent

__all__ = ["CALLS", "Runs"]

CALLS: Final = ("blocked", "redacted", "would_block", "would_redact", "unjudged")
"""What became of calls that a policy was asked about."""

_NAMES: Final = frozenset({"monitoring_health", "monitoring_disabled"})
_OWN: Final = ("dropped", "ever_spooled")
_MOST_RUNS: Final = 64  # of one source; the one that was silent for longest is forgotten
_LARGEST: Final = 1 << 53
_FRESH_US: Final = 150_000_000  # a program tells each minute, while it reports at all


class Runs:
    """The runs of one source, as they were heard of last."""

    def __init__(self) -> None:
        self._totals: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._spools: dict[str, tuple[int, int]] = {}  # when it was so, by the program's clock, and bytes

    def hear(self, run: str, events: Iterable[MonitorEvent]) -> Counter[str]:
        """By how much each total grew; empty where nothing of the kind was told."""
        grown: Counter[str] = Counter()
        for event in events:
            if event.name in _NAMES and type(event.data) is dict and type(event.data.get("told")) is dict:
                grown += self._grown(run, event.data)
                self._hear_spool(run, event)
        return grown

    def _grown(self, run: str, data: Mapping[str, Any]) -> Counter[str]:
        totals = _counts(data, _OWN) | _counts(data.get("policy"), CALLS)
        known = self._totals.pop(run, None)
        if known is None:
            known = _counts(data["told"], (*_OWN, *CALLS))
        grown = Counter({name: max(0, total - known.get(name, 0)) for name, total in totals.items()})
        self._totals[run] = {**known, **{name: known.get(name, 0) + more for name, more in grown.items()}}
        if len(self._totals) > _MOST_RUNS:
            forgotten, _ = self._totals.popitem(last=False)
            self._spools.pop(forgotten, None)
        return grown

    def _hear_spool(self, run: str, event: MonitorEvent) -> None:
        size = _counts(event.data, ("spool_bytes",)).get("spool_bytes", 0)
        if event.time_us >= self._spools.get(run, (0, 0))[0]:
            self._spools[run] = event.time_us, size

    def spool_bytes(self, now_us: int) -> int:
        """How much waits in files of programs, as far as they said so in the last minutes."""
        return sum(size for time_us, size in self._spools.values() if abs(now_us - time_us) < _FRESH_US)


def _counts(value: Any, names: Iterable[str]) -> dict[str, int]:
    """Those of the names under which there is a whole number."""
    if type(value) is not dict:
        return {}
    return {name: count for name in names if type(count := value.get(name)) is int and 0 <= count < _LARGEST}
