"""Generation B's `events.processing`: what of it worked there. What is in an event is judged by the scanner's rules."""

from __future__ import annotations

from skilld_monitor.compat.events_processor import contains_dangerous, contains_suspicious
from skilld_monitor.compat.security_detection.scanner import SecurityScanner
from skilld_monitor.talking import log_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "check_security_concerns",
    "contains_dangerous",
    "contains_suspicious",
    "log_event",
    "mask_sensitive_data",
]


def mask_sensitive_data(data: dict[str, Any]) -> dict[str, Any]:
    """A copy in which what is secret is unreadable."""
    return dict(SecurityScanner().mask_event(data))


def check_security_concerns(data: dict[str, Any]) -> str:
    """`none`, `suspicious` or `dangerous`: the worst that is found in any of its texts."""
    return str(SecurityScanner().scan_event(data)["alert_level"])
