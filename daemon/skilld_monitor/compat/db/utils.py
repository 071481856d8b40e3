"""Generation A's `db.utils`. All of them raise `QueryError` when the daemon does not answer."""

from __future__ import annotations

from skilld_monitor.context import agent
from skilld_monitor.queries import (
    cleanup_old_events,
    get_agent_stats,
    get_channel_distribution,
    get_event_type_distribution,
    get_events_by_channel,
    get_events_by_level,
    get_events_by_timeframe,
    get_events_by_type,
    get_events_last_days,
    get_events_last_hours,
    get_level_distribution,
    get_recent_events,
    optimize_database,
    search_events,
)
from skilld_monitor.queries import get_database_path as get_db_path
from skilld_monitor.talking import log_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

__all__ = [
    "cleanup_old_events",
    "get_agent_stats",
    "get_channel_distribution",
    "get_db_path",
    "get_event_type_distribution",
    "get_events_by_channel",
    "get_events_by_level",
    "get_events_by_timeframe",
    "get_events_by_type",
    "get_events_last_days",
    "get_events_last_hours",
    "get_level_distribution",
    "get_recent_events",
    "log_to_db",
    "optimize_database",
    "search_events",
]


def log_to_db(
    agent_id: str,
    event_type: str,
    data: dict[str, Any],
    channel: str = "SYSTEM",
    level: str = "info",
    timestamp: datetime | None = None,
) -> None:
    """Report an event of this agent, that happened then. The daemon gives it a number when it arrives."""
    with agent(agent_id):
        log_event(event_type, data, channel, level, timestamp=timestamp)
