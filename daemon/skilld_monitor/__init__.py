"""Tell a skilld daemon what a program does: one line in its code, everything else in the daemon.

Standard library only, Python 3.9 and newer. `import skilld_monitor` loads none of the modules below; what is used
first brings its own. Nothing here prints, and nothing raises into the program unless it asked for `strict`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, whose import costs more than this whole package
if TYPE_CHECKING:
    from skilld_monitor.calls import instrument_function, instrument_method, monitor_call, monitor_llm_call
    from skilld_monitor.monitoring import Monitoring, Report, disable_monitoring, enable_monitoring
    from skilld_monitor.settings import SettingsError
    from skilld_monitor.spans import Span
    from skilld_monitor.talking import log_error, log_event, log_info, log_warning
    from skilld_monitor.trace import TraceContext

__all__ = [
    "Monitoring",
    "Report",
    "SettingsError",
    "Span",
    "TraceContext",
    "disable_monitoring",
    "enable_monitoring",
    "instrument_function",
    "instrument_method",
    "log_error",
    "log_event",
    "log_info",
    "log_warning",
    "monitor_call",
    "monitor_llm_call",
]

__version__ = "0.1.0"

_HOMES = {
    "Monitoring": "monitoring",
    "Report": "monitoring",
    "SettingsError": "settings",
    "Span": "spans",
    "TraceContext": "trace",
    "disable_monitoring": "monitoring",
    "enable_monitoring": "monitoring",
    "instrument_function": "calls",
    "instrument_method": "calls",
    "log_error": "talking",
    "log_event": "talking",
    "log_info": "talking",
    "log_warning": "talking",
    "monitor_call": "calls",
    "monitor_llm_call": "calls",
}


def __getattr__(name: str) -> object:
    """A public name, from the module that has it; found once, then an ordinary attribute."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
