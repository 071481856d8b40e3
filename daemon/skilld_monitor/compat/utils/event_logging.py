"""Generation B's `utils.event_logging`."""

from __future__ import annotations

from skilld_monitor.talking import log_error, log_event, log_info, log_warning

__all__ = ["log_error", "log_event", "log_info", "log_warning"]
