"""Generation B's `utils`."""

from __future__ import annotations

from skilld_monitor.compat._places import HERE, found_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.calls import instrument_function, instrument_method
    from skilld_monitor.compat.utils import (
        event_context,
        event_logging,
        event_utils,
        instrumentation,
        otel,
        schema,
        trace_context,
    )
    from skilld_monitor.compat.utils.instrumentation import Span
    from skilld_monitor.talking import log_error, log_event
    from skilld_monitor.trace import TraceContext

__all__ = [
    "Span",
    "TraceContext",
    "event_context",
    "event_logging",
    "event_utils",
    "instrument_function",
    "instrument_method",
    "instrumentation",
    "log_error",
    "log_event",
    "otel",
    "schema",
    "trace_context",
]

__getattr__ = found_in(
    __name__,
    {
        "Span": "skilld_monitor.compat.utils.instrumentation",
        "TraceContext": "skilld_monitor.trace",
        "event_context": HERE,
        "event_logging": HERE,
        "event_utils": HERE,
        "instrument_function": "skilld_monitor.calls",
        "instrument_method": "skilld_monitor.calls",
        "instrumentation": HERE,
        "log_error": "skilld_monitor.talking",
        "log_event": "skilld_monitor.talking",
        "otel": HERE,
        "schema": HERE,
        "trace_context": HERE,
    },
)
