"""What other programs report, as metrics: how many events came to which end, and why connections were dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from skill_actors.telemetry import Measurements, Metadata
from skilld.monitor.drops import DROPS

__all__ = ["MonitorMetrics"]

_OUTCOMES: Final = ("stored", "duplicate", "refused")


class MonitorMetrics:
    """Counters without a label that a program could fill: neither its agent nor its events are named.

    `handlers` has who is told of which event of the bus.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "skilld_monitor_events", "Events that programs reported.", ["outcome"], registry=registry
        )
        self._batches = Counter("skilld_monitor_batches", "Batches that were acknowledged.", registry=registry)
        self._drops = Counter(
            "skilld_monitor_drops", "Connections of programs that were closed on them.", ["reason"], registry=registry
        )
        for outcome in _OUTCOMES:
            self._events.labels(outcome)
        for reason in DROPS:
            self._drops.labels(reason)
        self.handlers: Final[Mapping[str, Callable[[Measurements, Metadata], None]]] = {
            "monitor.batch": self._on_batch,
            "monitor.dropped": self._on_dropped,
        }

    def _on_batch(self, facts: Measurements, _meta: Metadata) -> None:
        self._batches.inc()
        for outcome in _OUTCOMES:
            self._events.labels(outcome).inc(facts.get(outcome, 0))

    def _on_dropped(self, _facts: Measurements, meta: Metadata) -> None:
        self._drops.labels(str(meta["reason"])).inc()
