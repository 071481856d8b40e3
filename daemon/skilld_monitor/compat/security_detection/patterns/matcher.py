"""Generation B's `security_detection.patterns.matcher`: the rules of the scanner, with the places of what they find."""

from __future__ import annotations

from skilld_monitor.compat.security_detection.scanner import BuiltIn, described, shown
from skilld_monitor.scanning import builtin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["PatternRegistry"]


class PatternRegistry(BuiltIn):
    """The built-in rules."""

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
                "description": described(found),
            }
            for found in builtin().scan(said, "event")
        ]

    def mask_text_in_place(self, text: str) -> str:
        """The text with what is secret unreadable."""
        return builtin().mask_text(text)[0] if text else text
