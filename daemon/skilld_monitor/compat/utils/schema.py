"""Generation B's `utils.schema`: whether a dictionary is an event in its envelope. Its version is 1.0."""

from __future__ import annotations

from skilld_monitor.compat.utils.event_utils import format_timestamp
from skilld_monitor.envelope import SCHEMA_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "CURRENT_SCHEMA_VERSION",
    "SCHEMA_EVOLUTION",
    "get_current_schema_version",
    "get_schema_evolution_history",
    "migrate_event_to_current_version",
    "validate_event_schema",
    "validate_schema_version",
]

CURRENT_SCHEMA_VERSION = SCHEMA_VERSION
SCHEMA_EVOLUTION = {CURRENT_SCHEMA_VERSION: "the first, and the only one"}
_REQUIRED = ("schema_version", "timestamp", "name", "level")


def get_current_schema_version() -> str:
    """The version that is written."""
    return CURRENT_SCHEMA_VERSION


def get_schema_evolution_history() -> dict[str, str]:
    """By version, what is new in it."""
    return SCHEMA_EVOLUTION


def validate_schema_version(version: object) -> bool:
    """Whether there is such a version."""
    return isinstance(version, str) and version in SCHEMA_EVOLUTION


def validate_event_schema(event: object) -> bool:
    """Whether it has all that an event needs, and is of a version that there is."""
    if not isinstance(event, dict) or not all(key in event for key in _REQUIRED):
        return False
    return validate_schema_version(event["schema_version"])


def migrate_event_to_current_version(event: dict[str, Any]) -> dict[str, Any]:
    """The same event, changed: with all that version 1.0 asks for. What one of generation A has is taken over."""
    if event.get("schema_version") == CURRENT_SCHEMA_VERSION:
        return event
    old = dict(event)
    event.clear()
    event.update(
        {
            "timestamp": format_timestamp(None),
            "level": "INFO",
            "agent_id": "unknown",
            "name": old.get("event_type") or old.get("event") or "unknown",
            "attributes": old.get("data") if isinstance(old.get("data"), dict) else {},
            **{key: value for key, value in old.items() if key not in ("data", "event", "event_type")},
            "schema_version": CURRENT_SCHEMA_VERSION,
        }
    )
    event["level"] = str(event["level"]).upper()
    return event
