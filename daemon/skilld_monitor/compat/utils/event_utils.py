"""Generation B's `utils.event_utils`: times as it wrote them, and its envelope as a dictionary."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from skilld_monitor.context import current_who
from skilld_monitor.monitoring import active

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["create_event_dict", "format_timestamp", "get_utc_timestamp", "parse_timestamp", "validate_iso8601"]

_ISO_8601 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?", re.ASCII)


def get_utc_timestamp() -> datetime:
    """Now, in UTC."""
    return datetime.now(timezone.utc)


def format_timestamp(dt: datetime | str | None = None) -> str:
    """As ISO 8601 in UTC, with microseconds and Z; now where none is given. One without a zone is in UTC. Raises
    ValueError."""
    if dt is None:
        dt = get_utc_timestamp()
    elif isinstance(dt, str):
        dt = parse_timestamp(dt)
    elif dt.tzinfo is None:
        dt = dt.replace(tzinfo=timezone.utc)
    return dt.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_timestamp(timestamp_str: str) -> datetime:
    """The time, in UTC. Raises ValueError if it is none."""
    found = datetime.fromisoformat(timestamp_str.replace("Z", "+00:00"))
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)


def validate_iso8601(timestamp_str: object) -> bool:
    """Whether it is a date and a time to the second, in ISO 8601's long form."""
    text = str(timestamp_str)
    try:
        datetime.fromisoformat(text[:19])  # is there such a day, such an hour
    except ValueError:
        return False
    return _ISO_8601.fullmatch(text) is not None


def create_event_dict(
    name: str,
    attributes: dict[str, Any] | None = None,
    level: str = "INFO",
    agent_id: str | None = None,
    timestamp: datetime | str | None = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    parent_span_id: str | None = None,
) -> dict[str, Any]:
    """An event in generation B's envelope; ids only where they are given. It is not reported."""
    on = active()
    agent = agent_id or current_who().agent or (None if on is None else on.settings.agent_id)
    found: dict[str, Any] = {
        "schema_version": "1.0",
        "name": name,
        "timestamp": format_timestamp(timestamp),
        "level": level.upper(),
        "agent_id": agent or "unknown",
        "attributes": attributes or {},
    }
    ids = {"trace_id": trace_id, "span_id": span_id, "parent_span_id": parent_span_id}
    return {**found, **{key: value for key, value in ids.items() if value}}
