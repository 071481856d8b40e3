"""Generation B's `utils.schema`: whether a dictionary is an event in its envelope. Its version is 1.0."""

from __future__ import annotations

from skilld_monitor.compat.utils.event_utils import format_timestamp, validate_iso8601
from skilld_monitor.envelope import SCHEMA_VERSION
from skilld_monitor.records import LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CURRENT_SCHEMA_VERSION", "get_schema_version", "migrate_event_to_current_version", "validate_event_schema"]

CURRENT_SCHEMA_VERSION = SCHEMA_VERSION
_TEXTS = ("name", "agent_id", "timestamp", "level")


def get_schema_version() -> str:
    """The version that is written."""
    return CURRENT_SCHEMA_VERSION


def validate_event_schema(event: dict[str, Any]) -> tuple[bool, list[str]]:
    """Whether it is one; and what is wrong with it."""
    wrong = [f"{key}: expected text" for key in _TEXTS if not isinstance(event.get(key), str) or not event[key]]
    if not isinstance(event.get("attributes"), dict):
        wrong.append("attributes: expected an object")
    if isinstance(event.get("timestamp"), str) and not validate_iso8601(event["timestamp"]):
        wrong.append("timestamp: expected ISO 8601")
    if isinstance(event.get("level"), str) and event["level"].upper() not in (*LEVELS, "SECURITY_ALERT"):
        wrong.append(f"level: there are {', '.join(LEVELS)}")
    for key, digits in (("trace_id", 32), ("span_id", 16), ("parent_span_id", 16)):
        value = event.get(key)
        if value is not None and not (len(str(value)) == digits and set(str(value)) <= set("0123456789abcdef")):
            wrong.append(f"{key}: expected {digits} hexadecimal digits")
    return not wrong, wrong


def migrate_event_to_current_version(event: dict[str, Any]) -> dict[str, Any]:
    """A copy with all that version 1.0 asks for; what one of generation A has is taken over."""
    found = {
        "timestamp": format_timestamp(None),
        "level": "INFO",
        "agent_id": "unknown",
        "name": event.get("event_type") or event.get("event") or "unknown",
        "attributes": event.get("data") if isinstance(event.get("data"), dict) else {},
        **{key: value for key, value in event.items() if key not in ("data", "event", "event_type")},
    }
    found["schema_version"] = CURRENT_SCHEMA_VERSION
    found["level"] = str(found["level"]).upper()
    return found
