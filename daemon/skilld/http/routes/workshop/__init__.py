"""What the socket offers of the workshop, a module for each noun."""

from __future__ import annotations

from typing import Final

from skilld.http.route import Route
from skilld.http.routes.workshop import (
    agents,
    asking,
    board,
    budget,
    claims,
    events,
    schedules,
    setup,
    store,
    workers,
    workflows,
)

__all__ = ["ROUTES"]

ROUTES: Final[tuple[Route, ...]] = (
    *agents.ROUTES,
    *asking.ROUTES,
    *board.ROUTES,
    *budget.ROUTES,
    *claims.ROUTES,
    *events.ROUTES,
    *schedules.ROUTES,
    *setup.ROUTES,
    *store.ROUTES,
    *workers.ROUTES,
    *workflows.ROUTES,
)
