"""A histogram of what was measured elsewhere, and comes as counts by bucket."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

__all__ = ["CountedHistogram"]


class CountedHistogram(Collector):
    """As Prometheus' own, which takes values one by one: a stream of a model has thousands.

    Args:
        bounds: of its buckets, rising; what is above the last is counted too.

    """

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._bounds = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._lock = threading.Lock()
        self._known: dict[tuple[str, ...], tuple[list[int], float]] = {}
        registry.register(self)

    def add(self, labels: tuple[str, ...], counts: Sequence[int], total: float) -> None:
        """Add what was counted.

        Args:
            counts: how many were in each bucket, and in none below it; those that are missing at the end are 0.
            total: of all values.

        """
        with self._lock:
            known, sum_so_far = self._known.get(labels, ([0] * len(self._bounds), 0.0))
            for place, count in enumerate(counts):
                known[place] += count
            self._known[labels] = (known, sum_so_far + total)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        with self._lock:
            for labels, (counts, total) in self._known.items():
                family.add_metric(labels, list(zip(self._bounds, accumulate(counts), strict=True)), total)
        yield family
