"""What other programs report, as metrics: how many events came to which end, what was found in them, what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from skill_actors.telemetry import Measurements, Metadata
from skilld.gen_ai_metrics import GenAiMetrics
from skilld.monitor.alerts.alert import CATEGORIES, SEVERITIES
from skilld.monitor.batch import MonitorEvent
from skilld.monitor.clients import CALLS
from skilld.monitor.drops import DROPS
from skilld.monitor.inspected import Found
from skilld.monitor.prices import COST
from skilld.monitor.usage import call_use

__all__ = ["MonitorMetrics"]

_OUTCOMES: Final = ("stored", "duplicate", "refused", "quarantined")
_BLOCKED: Final = "BlockedError"
_LAG_BUCKETS: Final = (0.1, 1.0, 10.0, 100.0)


class MonitorMetrics:
    """Counters without a label that a program could fill: neither its agent nor its events are named.

    `handlers` has who is told of which event of the bus.
    """

    def __init__(self, registry: CollectorRegistry, gen_ai: GenAiMetrics) -> None:
        self._gen_ai = gen_ai
        self._events = Counter(
            "skilld_monitor_events", "Events that programs reported.", ["outcome"], registry=registry
        )
        self._batches = Counter("skilld_monitor_batches", "Batches that were acknowledged.", registry=registry)
        self._drops = Counter(
            "skilld_monitor_drops", "Connections of programs that were closed on them.", ["reason"], registry=registry
        )
        self._findings = Counter(
            "skilld_monitor_findings", "What was found in events.", ["category", "severity"], registry=registry
        )
        self._blocks = Counter("skilld_monitor_blocks", "Calls that programs were kept from.", registry=registry)
        self._cost = Counter(
            "skilld_monitor_cost_usd", "Cost of reported calls with a known price, US dollars.", registry=registry
        )
        self._unpriced = Counter(
            "skilld_monitor_calls_unpriced", "Reported calls whose cost is unknown.", registry=registry
        )
        self._waiting = Gauge("skilld_monitor_waiting_batches", "Batches that wait for the file.", registry=registry)
        self._calls = Counter(
            "skilld_monitor_policy_calls",
            "Calls of programs that their policy was asked about, by what became of them, where it was something.",
            ["outcome"],
            registry=registry,
        )
        self._dropped = Counter(
            "skilld_monitor_client_dropped", "Events that programs lost before they were sent.", registry=registry
        )
        self._spooled = Counter(
            "skilld_monitor_client_spooled", "Events that programs kept in a file for a time.", registry=registry
        )
        self._spool_bytes = Gauge(
            "skilld_monitor_client_spool_bytes",
            "Bytes of files in which events of programs wait, as they said last.",
            registry=registry,
        )
        self._lag = Histogram(
            "skilld_monitor_lag_seconds",
            "From the end of a batch's last event to its acknowledgement, by both clocks.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        for outcome in _OUTCOMES:
            self._events.labels(outcome)
        for reason in DROPS:
            self._drops.labels(reason)
        for outcome in CALLS:
            self._calls.labels(outcome)
        self.handlers: Final[Mapping[str, Callable[[Measurements, Metadata], None]]] = {
            "monitor.batch": self._on_batch,
            "monitor.dropped": self._on_dropped,
            "monitor.health": self._on_health,
            "monitor.spans": self._on_spans,
            "monitor.stored": self._on_stored,
        }

    def look(self, gauges: Mapping[str, float]) -> None:
        """What is looked up rather than counted, when the page is made: it ends without an event that says so."""
        self._waiting.set(gauges.get("waiting_batches", 0))
        self._spool_bytes.set(gauges.get("client_spool_bytes", 0))

    def _on_batch(self, facts: Measurements, _meta: Metadata) -> None:
        self._batches.inc()
        for outcome in _OUTCOMES:
            self._events.labels(outcome).inc(facts.get(outcome, 0))

    def _on_dropped(self, _facts: Measurements, meta: Metadata) -> None:
        self._drops.labels(str(meta["reason"])).inc()

    def _on_health(self, facts: Measurements, _meta: Metadata) -> None:
        for outcome in CALLS:
            self._calls.labels(outcome).inc(facts.get(outcome, 0))
        self._dropped.inc(facts.get("dropped", 0))
        self._spooled.inc(facts.get("ever_spooled", 0))

    def _on_stored(self, facts: Measurements, meta: Metadata) -> None:
        """Of what came twice only the first counts."""
        if "lag" in facts:
            self._lag.observe(facts["lag"])
        for found in cast("Sequence[Found]", meta["findings"]):
            category, severity = found.finding.category, found.finding.severity
            if category in CATEGORIES and severity in SEVERITIES:
                self._findings.labels(category, severity).inc()

    def _on_spans(self, _facts: Measurements, meta: Metadata) -> None:
        for span in cast("Sequence[MonitorEvent]", meta["spans"]):
            self._gen_ai.reported(span)
            if type(span.data) is not dict:
                continue
            if span.status == "error" and span.data.get("error.type") == _BLOCKED:
                self._blocks.inc()
            if call_use(span) is None:
                continue
            cost = span.data.get(COST)
            if cost is None:
                self._unpriced.inc()
            else:
                self._cost.inc(cost)
