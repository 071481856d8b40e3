"""What supervisors report and what their trees hold, as metrics and as events on the bus.

Counters are fed by the reports themselves. Figures of living actors are a snapshot that is taken at the scrape, on the
trio thread and in slices, and turned into text in a worker thread. Labels are classes, templates and paths of spec ids:
none grows with use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from skill_actors.runtime import Report, ReportEvent
from skill_actors.runtime.census import ClassCensus
from skill_actors.runtime.tally import Tallied
from skill_actors.telemetry import Bus

__all__ = ["ActorCollector", "ActorSnapshot", "SupervisionCounters", "report_to_bus"]

_UNKNOWN: Final = "unknown"
_ENDED: Final = frozenset({ReportEvent.EXITED, ReportEvent.START_FAILED})
_TALLIES: Final[Mapping[Tallied, tuple[str, str]]] = {
    "mailbox_rejected": ("skilld_mailbox_rejected", "Messages that a full mailbox refused."),
    "mailbox_dropped": ("skilld_mailbox_dropped", "Messages that a full mailbox let go."),
    "ask_timeouts": ("skilld_ask_timeouts", "Asks without an answer in time."),
    "ask_abandoned": ("skilld_ask_abandoned", "Asks whose asker left before the answer."),
    "threads_leaked": ("skilld_actor_threads_leaked", "Threads that outlived their actor."),
}


def report_to_bus(bus: Bus) -> Callable[[Report], None]:
    """A subscriber that tells every report to the bus, as `supervision.` and the report's event."""

    def tell(report: Report) -> None:
        metadata: dict[str, object] = {
            "supervisor": report.supervisor,
            "child": report.child,
            "class": report.actor_class,
            "kind": None if report.kind is None else report.kind.value,
            "message": report.message,
        }
        bus.emit(f"supervision.{report.event.value}", {"system_time": report.time}, metadata)

    return tell


class SupervisionCounters:
    """Counts every report; a restart by the exit that it answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reports = Counter(
            "skilld_supervision", "Supervision reports.", ["supervisor", "event"], registry=registry
        )
        self._restarts = Counter(
            "skilld_restarts", "Restarted children.", ["supervisor", "child", "reason"], registry=registry
        )
        self._exits = Counter("skilld_actor_exits", "Actors that ended.", ["class", "kind"], registry=registry)
        self._last: dict[tuple[str, str], str] = {}  # kind of the last end; as many as there are specs

    def on_report(self, report: Report) -> None:
        """Count one; subscribe this to the runtime's reports."""
        self._reports.labels(report.supervisor, report.event.value).inc()
        place = (report.supervisor, report.child)
        if report.event in _ENDED and report.kind is not None:
            self._last[place] = report.kind.value
            if report.actor_class:
                self._exits.labels(report.actor_class, report.kind.value).inc()
        elif report.event is ReportEvent.RESTARTED:
            self._restarts.labels(*place, self._last.get(place, _UNKNOWN)).inc()


@dataclass(frozen=True, slots=True)
class ActorSnapshot:
    """The living actors and the tally of one moment; empty while nothing runs."""

    classes: Mapping[str, ClassCensus] = field(default_factory=dict)
    tally: Mapping[Tallied, Mapping[str, int]] = field(default_factory=dict)


class ActorCollector(Collector):
    """Gives `snapshot` to Prometheus. Whoever renders puts a fresh one there first."""

    def __init__(self) -> None:
        self.snapshot = ActorSnapshot()

    def collect(self) -> Iterable[Metric]:
        """The metrics, by class of actor."""
        now = self.snapshot
        alive = GaugeMetricFamily("skilld_actors_alive", "Living actors.", labels=["class"])
        depth = GaugeMetricFamily("skilld_mailbox_depth", "Messages that wait, in all mailboxes.", labels=["class"])
        fullest = GaugeMetricFamily("skilld_mailbox_depth_max", "Messages in the fullest mailbox.", labels=["class"])
        oldest = GaugeMetricFamily(
            "skilld_oldest_message_seconds", "Age of the oldest message that waits or is handled.", labels=["class"]
        )
        for name, found in now.classes.items():
            for family, value in (
                (alive, found.alive),
                (depth, found.depth),
                (fullest, found.depth_max),
                (oldest, found.oldest_message_s),
            ):
                family.add_metric([name], value)
        yield from (alive, depth, fullest, oldest)
        for what, (name, text) in _TALLIES.items():
            counted = CounterMetricFamily(name, text, labels=["class"])
            for of_class, count in now.tally.get(what, {}).items():
                counted.add_metric([of_class], count)
            yield counted
