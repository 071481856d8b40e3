"""Both generations' `monitor`: where each defined what switches it on and off."""

from __future__ import annotations

from skilld_monitor.compat._places import found_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.aliases import start_monitoring, stop_monitoring
    from skilld_monitor.monitoring import disable_monitoring, enable_monitoring
    from skilld_monitor.queries import cleanup_old_events, get_database_path

__all__ = [
    "cleanup_old_events",
    "disable_monitoring",
    "enable_monitoring",
    "get_database_path",
    "start_monitoring",
    "stop_monitoring",
]

__getattr__ = found_in(__name__, dict.fromkeys(__all__, "skilld_monitor"))
