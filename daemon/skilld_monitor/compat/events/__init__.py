"""Generation B's `events`: dictionaries of the kinds of events that it knew."""

from __future__ import annotations

from skilld_monitor.compat.events import factories

__all__ = ["factories"]
