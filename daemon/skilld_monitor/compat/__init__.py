"""Names of Cylestio Monitor at the places where its two generations had them, below this package instead of theirs.

    from cylestio_monitor.utils.instrumentation import Span         # becomes
    from skilld_monitor.compat.utils.instrumentation import Span

A name that is not here has another way, told in docs/cylestio.md. New programs need none of this.
"""

from __future__ import annotations

from skilld_monitor.compat._places import HERE, found_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.aliases import start_monitoring, stop_monitoring
    from skilld_monitor.calls import instrument_function, instrument_method
    from skilld_monitor.compat import (
        api_client,
        db,
        events,
        events_listener,
        events_processor,
        monitor,
        patchers,
        security_detection,
        utils,
    )
    from skilld_monitor.compat.events_processor import log_to_file_and_db
    from skilld_monitor.compat.utils.instrumentation import Span
    from skilld_monitor.monitoring import disable_monitoring, enable_monitoring
    from skilld_monitor.queries import cleanup_old_events, get_database_path
    from skilld_monitor.talking import log_error, log_event, log_info, log_warning
    from skilld_monitor.trace import TraceContext

__all__ = [
    "Span",
    "TraceContext",
    "api_client",
    "cleanup_old_events",
    "db",
    "disable_monitoring",
    "enable_monitoring",
    "events",
    "events_listener",
    "events_processor",
    "get_database_path",
    "instrument_function",
    "instrument_method",
    "log_error",
    "log_event",
    "log_info",
    "log_to_file_and_db",
    "log_warning",
    "monitor",
    "patchers",
    "security_detection",
    "start_monitoring",
    "stop_monitoring",
    "utils",
]

__getattr__ = found_in(
    __name__,
    {
        "Span": "skilld_monitor.compat.utils.instrumentation",
        "TraceContext": "skilld_monitor.trace",
        "api_client": HERE,
        "cleanup_old_events": "skilld_monitor.queries",
        "db": HERE,
        "disable_monitoring": "skilld_monitor.monitoring",
        "enable_monitoring": "skilld_monitor.monitoring",
        "events": HERE,
        "events_listener": HERE,
        "events_processor": HERE,
        "get_database_path": "skilld_monitor.queries",
        "instrument_function": "skilld_monitor.calls",
        "instrument_method": "skilld_monitor.calls",
        "log_error": "skilld_monitor.talking",
        "log_event": "skilld_monitor.talking",
        "log_info": "skilld_monitor.talking",
        "log_to_file_and_db": "skilld_monitor.compat.events_processor",
        "log_warning": "skilld_monitor.talking",
        "monitor": HERE,
        "patchers": HERE,
        "security_detection": HERE,
        "start_monitoring": "skilld_monitor.aliases",
        "stop_monitoring": "skilld_monitor.aliases",
        "utils": HERE,
    },
)
