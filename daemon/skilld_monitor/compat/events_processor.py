"""Generation A's `events_processor`: events of one's own, and what its word lists did, by the rules of the scanner."""

from __future__ import annotations

from skilld_monitor.compat.security_detection.scanner import alert_of
from skilld_monitor.queries import get_events_by_type, get_recent_events
from skilld_monitor.talking import log_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "contains_dangerous",
    "contains_suspicious",
    "get_event_history",
    "log_event",
    "log_to_file_and_db",
    "normalize_text",
]


def log_to_file_and_db(event_type: str, data: dict[str, Any], channel: str = "SYSTEM", level: str = "info") -> None:
    """Report an event, as `log_event`; it goes to the log file and the daemon in any case."""
    log_event(event_type, data, channel, level)


def normalize_text(text: object) -> str:
    """Text in capitals with single spaces; "" for none."""
    return "" if text is None else " ".join(str(text).upper().split())


def contains_suspicious(text: object) -> bool:
    """Whether the built-in rules find something suspicious or worse."""
    return text is not None and alert_of(str(text)) != "none"


def contains_dangerous(text: object) -> bool:
    """Whether the built-in rules find something dangerous."""
    return text is not None and alert_of(str(text)) == "dangerous"


def get_event_history(
    agent_id: str | None = None, event_type: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """What was reported, the newest first. Raises QueryError."""
    if event_type is None:
        return get_recent_events(agent_id, limit)
    return get_events_by_type(event_type, agent_id, limit)
