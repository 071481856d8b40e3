"""Where reported events go and come from besides the ingest socket, as metrics. No label grows with use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from skill_actors.telemetry import Measurements, Metadata
from skilld.monitor.otlp.outcomes import OUTCOMES

__all__ = ["MonitorSinkMetrics"]

_OUTCOMES: Final = ("sent", "failed", "lost")


class MonitorSinkMetrics:
    """Sinks have their labels from the moment that their followers run; requests of OTLP from the first.

    `handlers` has who is told of which event of the bus.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "skilld_monitor_sink_events", "Events for other places.", ["sink", "outcome"], registry=registry
        )
        self._retries = Counter(
            "skilld_monitor_sink_retries", "Times that a place could not take them.", ["sink"], registry=registry
        )
        self._lag = Gauge("skilld_monitor_sink_lag", "Events that wait for a place.", ["sink"], registry=registry)
        self._requests = Counter(
            "skilld_monitor_otlp_requests", "Requests of OTLP that were answered.", ["outcome"], registry=registry
        )
        self.handlers: Final[Mapping[str, Callable[[Measurements, Metadata], None]]] = {
            "monitor.otlp": self._on_request,
            "monitor.sink": self._on_sink,
        }

    def _on_sink(self, facts: Measurements, meta: Metadata) -> None:
        sink = str(meta["sink"])
        for outcome in _OUTCOMES:
            self._events.labels(sink, outcome).inc(facts.get(outcome, 0))
        self._retries.labels(sink).inc(facts.get("retries", 0))
        if "lag" in facts:
            self._lag.labels(sink).set(facts["lag"])

    def _on_request(self, _facts: Measurements, meta: Metadata) -> None:
        outcome = str(meta["outcome"])
        self._requests.labels(outcome if outcome in OUTCOMES else "bad").inc()
