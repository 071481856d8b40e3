"""Generation B's `events.keyword_detection`, by the rules of the scanner."""

from __future__ import annotations

from skilld_monitor.compat.events_processor import contains_dangerous, contains_suspicious
from skilld_monitor.compat.security_detection.scanner import alert_of

__all__ = ["contains_dangerous", "contains_suspicious", "get_alert_level", "normalize_text"]


def normalize_text(text: object) -> str:
    """Text in small letters; "" for none."""
    return "" if text is None else str(text).lower()


def get_alert_level(text: object) -> str:
    """`none`, `suspicious` or `dangerous`."""
    return "none" if text is None else alert_of(str(text))
