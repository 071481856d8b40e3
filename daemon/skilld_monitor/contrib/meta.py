"""Monitoring that is itself monitored: how long it took to begin, whether it delivers, what it lost."""

from __future__ import annotations

import time

from skilld_monitor.monitoring import Monitoring, active, enable_monitoring
from skilld_monitor.talking import log_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["enable_timed", "health", "report_health"]


def enable_timed(agent_id: str | None = None, llm_client: object = None, **settings: Any) -> Monitoring:
    """As `enable_monitoring`, and `monitoring_initialized` on the channel META with the milliseconds that it took."""
    began_ns = time.perf_counter_ns()
    made = enable_monitoring(agent_id, llm_client, **settings)
    took_ms = (time.perf_counter_ns() - began_ns) / 1_000_000
    log_event("monitoring_initialized", {"duration_ms": round(took_ms, 3)}, "META", "info")
    return made


def health() -> dict[str, object]:
    """How monitoring is, for a page of the program's own: what became of its events, and what is in the way.

    `is_on` is false while it is off, with nothing else beside it. `is_well` is false while something was lost, was
    refused or waits for the daemon, or a setting could not be used.
    """
    on = active()
    if on is None:
        return {"is_on": False}
    counts = on.stats()
    found: dict[str, object] = {
        name: getattr(counts, name) for name in ("accepted", "delivered", "spooled", "refused", "dropped")
    }
    problems = [problem for problem in (on.problem, on.delivery_problem()) if problem]
    is_well = not problems and not counts.dropped and not counts.refused
    return {"is_on": True, "is_well": is_well, "agent": on.settings.agent_id, **found, "problems": problems}


def report_health() -> dict[str, object]:
    """`health`, reported as `monitoring_health` on the channel META too; a warning if it is not well."""
    found = health()
    if found["is_on"]:
        log_event("monitoring_health", found, "META", "info" if found["is_well"] else "warning")
    return found
