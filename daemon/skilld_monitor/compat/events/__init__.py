"""Generation B's `events`: dictionaries of the kinds of events that it knew, and what it said of them.

Its hooks and its helpers for MCP raised whenever they were called, and are not here: calls are watched by themselves.
"""

from __future__ import annotations

from skilld_monitor.compat._places import HERE, found_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.compat.events import factories, keyword_detection, processing
    from skilld_monitor.compat.events.processing import (
        check_security_concerns,
        contains_dangerous,
        contains_suspicious,
        mask_sensitive_data,
    )
    from skilld_monitor.compat.utils.otel import generate_span_id, generate_trace_id
    from skilld_monitor.talking import log_error, log_event, log_info, log_warning

__all__ = [
    "check_security_concerns",
    "contains_dangerous",
    "contains_suspicious",
    "factories",
    "generate_span_id",
    "generate_trace_id",
    "keyword_detection",
    "log_error",
    "log_event",
    "log_info",
    "log_warning",
    "mask_sensitive_data",
    "processing",
]

_PROCESSING = "skilld_monitor.compat.events.processing"
_OTEL = "skilld_monitor.compat.utils.otel"
_TALKING = "skilld_monitor.talking"

__getattr__ = found_in(
    __name__,
    {
        "check_security_concerns": _PROCESSING,
        "contains_dangerous": _PROCESSING,
        "contains_suspicious": _PROCESSING,
        "factories": HERE,
        "generate_span_id": _OTEL,
        "generate_trace_id": _OTEL,
        "keyword_detection": HERE,
        "log_error": _TALKING,
        "log_event": _TALKING,
        "log_info": _TALKING,
        "log_warning": _TALKING,
        "mask_sensitive_data": _PROCESSING,
        "processing": HERE,
    },
)
