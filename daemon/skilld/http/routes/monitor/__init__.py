"""What the socket offers of monitoring, a module for each noun."""

from __future__ import annotations

from typing import Final

from skilld.http.route import Route
from skilld.http.routes.monitor import alerts, events, sinks, sources, stats, store, traces

__all__ = ["ROUTES"]

ROUTES: Final[tuple[Route, ...]] = (
    *alerts.ROUTES,
    *events.ROUTES,
    *sinks.ROUTES,
    *sources.ROUTES,
    *stats.ROUTES,
    *store.ROUTES,
    *traces.ROUTES,
)
