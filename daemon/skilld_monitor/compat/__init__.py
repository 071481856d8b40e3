"""Names of Cylestio Monitor at the places where its two generations had them, below this package instead of theirs.

    from cylestio_monitor.utils.instrumentation import Span         # becomes
    from skilld_monitor.compat.utils.instrumentation import Span

A name that is not here has another way, told in docs/cylestio.md. New programs need none of this.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.aliases import start_monitoring, stop_monitoring
    from skilld_monitor.compat.events_processor import log_to_file_and_db
    from skilld_monitor.monitoring import disable_monitoring, enable_monitoring
    from skilld_monitor.queries import cleanup_old_events, get_database_path
    from skilld_monitor.talking import log_error, log_event, log_info, log_warning

__all__ = [
    "cleanup_old_events",
    "disable_monitoring",
    "enable_monitoring",
    "get_database_path",
    "log_error",
    "log_event",
    "log_info",
    "log_to_file_and_db",
    "log_warning",
    "start_monitoring",
    "stop_monitoring",
]

_HERE = {"log_to_file_and_db": "skilld_monitor.compat.events_processor"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"{name!r} is not in {__name__}; docs/cylestio.md says what is in its place")
    from importlib import import_module

    found: object = getattr(import_module(_HERE.get(name, "skilld_monitor")), name)
    globals()[name] = found
    return found
