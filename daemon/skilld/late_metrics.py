"""Metrics of what not every daemon does: on the page once there is something to tell, with all that they count at 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from skill_actors.telemetry import Measurements, Metadata

__all__ = ["LateMetrics"]

Handler = Callable[[Measurements, Metadata], None]


class LateMetrics(Collector):
    """Part of a page that is empty until one of its handlers was told of something.

    Args:
        registry: of the page; metrics of this part are made in `registry` of this object.

    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry: Final = CollectorRegistry()
        self._shown = False
        registry.register(self)

    def shows(self) -> None:
        """From now on it is on the page."""
        self._shown = True

    def of(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The handlers, as such that bring this part onto the page."""
        return {name: self._showing(handler) for name, handler in handlers.items()}

    def collect(self) -> Iterable[Metric]:
        return self.registry.collect() if self._shown else ()

    def _showing(self, handler: Handler) -> Handler:
        def handle(facts: Measurements, meta: Metadata) -> None:
            self._shown = True
            handler(facts, meta)

        return handle
