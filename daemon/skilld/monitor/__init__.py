"""Monitoring of other programs: what they use of it, and what the daemon does with what they report.

For programs this is `skilld_monitor` under another name; it needs nothing else of this distribution.

    Listener -> Ingest (who may, how much) -> batch (what the lines mean) -> EventStore -> Questions
"""

from __future__ import annotations

import skilld_monitor

TYPE_CHECKING = False  # as there: what is not used is not imported
if TYPE_CHECKING:
    from skilld_monitor import (
        BlockedError,
        Monitoring,
        QueryError,
        Report,
        SettingsError,
        Span,
        TraceContext,
        agent_span,
        cleanup_old_events,
        disable_monitoring,
        enable_monitoring,
        get_callback_handler,
        get_database_path,
        instrument_function,
        instrument_method,
        log_error,
        log_event,
        log_info,
        log_warning,
        monitor_call,
        monitor_llm_call,
        monitor_tool,
        start_monitoring,
        stop_monitoring,
        tool,
        tool_span,
    )

__all__ = [
    "BlockedError",
    "Monitoring",
    "QueryError",
    "Report",
    "SettingsError",
    "Span",
    "TraceContext",
    "agent_span",
    "cleanup_old_events",
    "disable_monitoring",
    "enable_monitoring",
    "get_callback_handler",
    "get_database_path",
    "instrument_function",
    "instrument_method",
    "log_error",
    "log_event",
    "log_info",
    "log_warning",
    "monitor_call",
    "monitor_llm_call",
    "monitor_tool",
    "start_monitoring",
    "stop_monitoring",
    "tool",
    "tool_span",
]


def __getattr__(name: str) -> object:
    """A public name of `skilld_monitor`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(skilld_monitor, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
