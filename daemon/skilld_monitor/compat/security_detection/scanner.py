"""Generation B's `security_detection.scanner`: what is found in a text, and masked, by the rules that come along here.
The daemon looks at all that is reported in any case; rules are changed there (docs/security-scanning.md).
"""

from __future__ import annotations

from skilld_monitor.scanning import builtin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from skilld_monitor.scanning import Finding

__all__ = ["BuiltIn", "SecurityScanner", "alert_of", "described", "shown"]

_ALERTS = ("none", "suspicious", "dangerous")


def alert_of(text: str) -> str:
    """`none`, `suspicious` or `dangerous`: the worst that is found."""
    return max((finding.alert for finding in builtin().scan(text, "input")), key=_ALERTS.index, default="none")


class BuiltIn:
    """Goes by the rules that come along. What it is made with does nothing."""

    def __init__(self, config_manager: object = None) -> None:
        pass

    @classmethod
    def get_instance(cls, config_manager: object = None) -> Self:
        """One of them; they are all the same."""
        return cls()

    def reload_config(self) -> None:
        """Nothing is to be done: the rules are part of this package."""


class SecurityScanner(BuiltIn):
    """Looks for what is dangerous, sensitive, or meant to mislead a model."""

    def scan_text(self, text: object) -> dict[str, Any]:
        """The worst that is found: `alert_level`, `category`, `severity`, `description`, `keywords` (masked)."""
        said = "" if text is None else str(text)
        findings = builtin().scan(said, "input")
        worst = max(findings, key=lambda found: _ALERTS.index(found.alert), default=None)
        if worst is None:
            return {"alert_level": "none", "category": None, "severity": None, "description": None, "keywords": []}
        same = [found for found in findings if found.category == worst.category]
        return {
            "alert_level": worst.alert,
            "category": worst.category,
            "severity": worst.severity,
            "description": described(worst),
            "keywords": [shown(said, found) for found in same],
        }

    def scan_event(self, event: object) -> dict[str, Any]:
        """As `scan_text`, of all strings of an event."""
        return self.scan_text("\n".join(_strings(event)))

    def mask_event(self, event: Any) -> Any:
        """A copy in which what is secret is unreadable; the event itself stays as it is."""
        return builtin().mask(event)[0]


def described(finding: Finding) -> str:
    """What was found, in words that show none of it."""
    return f"{finding.category.replace('_', ' ')} by rule {finding.rule}"


def shown(text: str, finding: Finding) -> str:
    """What was found, masked."""
    return builtin().mask_text(text[finding.start : finding.end])[0]


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _strings(item)]
    return []
