"""Generation B's `security_detection.patterns.matcher`: the rules of the scanner, with the places of what they find."""

from __future__ import annotations

from skilld_monitor.compat.security_detection.scanner import shown
from skilld_monitor.scanning import builtin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["PatternRegistry"]


class PatternRegistry:
    """The built-in rules. What it is made with does nothing."""

    def __init__(self, config_manager: object = None) -> None:
        pass

    @classmethod
    def get_instance(cls, config_manager: object = None) -> PatternRegistry:
        """One of them; they are all the same."""
        return cls()

    def scan_text(self, text: str | None, mask_values: bool = True) -> list[dict[str, Any]]:
        """Each that is found: `pattern_name`, `matched_value`, `masked_value`, `position`, `category`, `severity` and
        `description`. Without `mask_values` the masked value is the other one."""
        said = text or ""
        return [
            {
                "pattern_name": found.rule,
                "matched_value": said[found.start : found.end],
                "masked_value": shown(said, found) if mask_values else said[found.start : found.end],
                "position": found.start,
                "category": found.category,
                "severity": found.severity,
                "description": f"{found.category.replace('_', ' ')} by rule {found.rule}",
            }
            for found in builtin().scan(said, "event")
        ]

    def mask_text_in_place(self, text: str) -> str:
        """The text with what is secret unreadable."""
        return builtin().mask_text(text)[0] if text else text

    def reload_config(self) -> None:
        """Nothing is to be done: the rules are part of this package."""
