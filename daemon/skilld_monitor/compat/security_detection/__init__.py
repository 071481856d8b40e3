"""Generation B's `security_detection`, by the rules that come along here (docs/security-scanning.md)."""

from __future__ import annotations

from skilld_monitor.compat._places import HERE, found_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.compat.security_detection import patterns, scanner
    from skilld_monitor.compat.security_detection.scanner import SecurityScanner

__all__ = ["SecurityScanner", "patterns", "scanner"]

__getattr__ = found_in(
    __name__,
    {"SecurityScanner": "skilld_monitor.compat.security_detection.scanner", "patterns": HERE, "scanner": HERE},
)
