"""What happens in the workshop, as metrics: each kind of event, and how long agents took to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from skill_actors.telemetry import Measurements, Metadata
from skill_actors.workshop.event_names import CUSTOM, EVENT_NAMES

__all__ = ["WorkshopMetrics"]

_ANSWERS: Final[Mapping[str, str]] = {"ask_complete": "ask", "cast_complete": "cast"}
_BUCKETS: Final = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)


class WorkshopMetrics:
    """Counters by topic and name of the list of events; what users publish counts as `custom`, whatever its names.

    `handlers` has who is told of which event of the bus.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "skilld_workshop_events", "Events of the workshop.", ["topic", "name"], registry=registry
        )
        self._answers = Histogram(
            "skilld_workshop_answer_seconds",
            "From the message to an agent to its answer.",
            ["kind"],
            buckets=_BUCKETS,
            registry=registry,
        )
        kinds = [(topic, name) for topic, names in EVENT_NAMES.items() for name in names]
        for topic, name in (*kinds, (CUSTOM, CUSTOM)):
            self._events.labels(topic, name)  # what did not happen yet is 0 and not absent
        self.handlers: Final[Mapping[str, Callable[[Measurements, Metadata], None]]] = {
            f"workshop.{CUSTOM}": partial(self._happened, CUSTOM, CUSTOM),
            **{f"workshop.{topic}.{name}": partial(self._happened, topic, name) for topic, name in kinds},
        }

    def _happened(self, topic: str, name: str, facts: Measurements, _meta: Metadata) -> None:
        self._events.labels(topic, name).inc()
        kind = _ANSWERS.get(name) if topic == "agent" else None
        if kind is not None and "duration" in facts:
            self._answers.labels(kind).observe(facts["duration"])
