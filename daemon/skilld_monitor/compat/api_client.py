"""Generation B's `api_client`: what it posted to an endpoint goes to the daemon here, which sends it on where that is
wanted. Endpoints and keys are in the daemon's configuration (`monitor.export.telemetry`).
"""

from __future__ import annotations

from skilld_monitor.context import agent
from skilld_monitor.monitoring import active
from skilld_monitor.talking import log_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

__all__ = [
    "ApiClient",
    "get_api_client",
    "send_event_to_api",
    "send_event_to_api_legacy",
    "stop_background_thread",
]


class ApiClient:
    """Takes events as dictionaries. Its arguments say what the daemon's configuration says here: they do nothing."""

    def __init__(
        self, endpoint: str | None = None, http_method: str | None = None, access_key: str | None = None
    ) -> None:
        pass

    def send_event(self, event: Mapping[str, Any]) -> bool:
        """Report an event in generation B's envelope; whether monitoring is on."""
        if active() is None or not isinstance(event, dict):
            return False
        attributes = event.get("attributes")
        with agent(event.get("agent_id")):
            log_event(
                name=str(event.get("name") or "unknown"),
                attributes=attributes if isinstance(attributes, dict) else {},
                level=str(event.get("level") or "INFO"),
                channel=event.get("channel"),
                timestamp=event.get("timestamp"),
                trace_id=event.get("trace_id"),
                span_id=event.get("span_id"),
                parent_span_id=event.get("parent_span_id"),
            )
        return True


def get_api_client() -> ApiClient:
    """One of them; they are all the same."""
    return ApiClient()


def send_event_to_api(event: Mapping[str, Any]) -> bool:
    """As `ApiClient.send_event`."""
    return ApiClient().send_event(event)


def send_event_to_api_legacy(
    agent_id: str,
    event_type: str,
    data: dict[str, Any],
    channel: str = "SYSTEM",
    level: str = "info",
    timestamp: datetime | None = None,
    direction: str | None = None,
) -> bool:
    """Report an event in generation A's words; whether monitoring is on."""
    if active() is None:
        return False
    with agent(agent_id):
        log_event(
            event_type,
            data if direction is None else {**data, "direction": direction},
            channel,
            level,
            timestamp=timestamp,
        )
    return True


def stop_background_thread() -> None:
    """Wait until what was reported is delivered or in the spool file, 2 s at most."""
    on = active()
    if on is not None:
        on.flush()
