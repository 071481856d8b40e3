"""What the socket offers, by noun."""

from __future__ import annotations

from typing import Final

from skilld.http.route import Route
from skilld.http.routes import (
    approvals,
    backup,
    budgets,
    compact,
    events,
    files,
    hand_over,
    health,
    lineage,
    mcp,
    messages,
    monitor,
    sessions,
    skills,
    status,
    steering,
    usage,
    workshop,
)

__all__ = ["ALL_ROUTES"]

ALL_ROUTES: Final[tuple[Route, ...]] = (
    *approvals.ROUTES,
    *backup.ROUTES,
    *budgets.ROUTES,
    *compact.ROUTES,
    *events.ROUTES,
    *files.ROUTES,
    *hand_over.ROUTES,
    *health.ROUTES,
    *lineage.ROUTES,
    *mcp.ROUTES,
    *messages.ROUTES,
    *monitor.ROUTES,
    *sessions.ROUTES,
    *skills.ROUTES,
    *status.ROUTES,
    *steering.ROUTES,
    *usage.ROUTES,
    *workshop.ROUTES,
)
