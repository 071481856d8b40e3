"""Generation B's `security_detection.patterns`."""

from __future__ import annotations

from skilld_monitor.compat.security_detection.patterns.matcher import PatternRegistry

__all__ = ["PatternRegistry"]
