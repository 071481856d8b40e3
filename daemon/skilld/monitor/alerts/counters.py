"""Alerts as metrics: how many came, of which severity, what became of findings, and who was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from skill_actors.telemetry import Measurements, Metadata
from skilld.monitor.alerts.alert import SEVERITIES
from skilld.monitor.alerts.sinks import SINKS

__all__ = ["AlertMetrics"]

_BECAME: Final = ("new", "folded", "suppressed", "ignored")
_OUTCOMES: Final = ("ok", "failed", "given_up")


class AlertMetrics:
    """Counters without a label that a program could fill.

    `handlers` has who is told of which event of the bus.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._alerts = Counter("skilld_monitor_alerts", "Alerts that came.", ["severity"], registry=registry)
        self._findings = Counter(
            "skilld_monitor_alert_findings",
            "Findings, by what became of them: a new alert, one more of an alert, too many, below min_severity.",
            ["became"],
            registry=registry,
        )
        self._told = Counter(
            "skilld_monitor_alerts_told", "Attempts to tell sinks of alerts.", ["sink", "outcome"], registry=registry
        )
        self._stopped = Counter(
            "skilld_monitor_session_stops",
            "Messages and calls of tools of conversations that the policy blocked or redacted, or would have.",
            ["action", "dry_run"],
            registry=registry,
        )
        for severity in SEVERITIES:
            self._alerts.labels(severity)
        for became in _BECAME:
            self._findings.labels(became)
        self.handlers: Final[Mapping[str, Callable[[Measurements, Metadata], None]]] = {
            "monitor.alert": self._on_alert,
            "monitor.alert.told": self._on_told,
            "monitor.findings": self._on_findings,
            "monitor.stopped": self._on_stopped,
        }

    def _on_alert(self, _facts: Measurements, meta: Metadata) -> None:
        self._alerts.labels(str(meta["severity"])).inc()

    def _on_findings(self, facts: Measurements, _meta: Metadata) -> None:
        for became in _BECAME:
            self._findings.labels(became).inc(facts.get(became, 0))

    def _on_told(self, facts: Measurements, meta: Metadata) -> None:
        sink, outcome = str(meta["sink"]), str(meta["outcome"])
        if sink in SINKS and outcome in _OUTCOMES:
            self._told.labels(sink, outcome).inc(facts.get("count", 1))

    def _on_stopped(self, _facts: Measurements, meta: Metadata) -> None:
        self._stopped.labels(str(meta["action"]), "true" if meta["dry_run"] else "false").inc()
