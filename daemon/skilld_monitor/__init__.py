"""Tell a skilld daemon what a program does: one line in its code, everything else in the daemon.

Standard library only, Python 3.9 and newer. `import skilld_monitor` loads none of the modules below; what is used
first brings its own. Nothing here prints, and nothing raises into the program unless it asked for `strict`.
"""

from __future__ import annotations

import atexit
import sys

TYPE_CHECKING = False  # as in `typing`, whose import costs more than this whole package
if TYPE_CHECKING:
    from skilld_monitor.adapters.langchain import get_callback_handler
    from skilld_monitor.adapters.tools import agent_span, monitor_tool, tool, tool_span
    from skilld_monitor.aliases import start_monitoring, stop_monitoring
    from skilld_monitor.calls import instrument_function, instrument_method, monitor_call, monitor_llm_call
    from skilld_monitor.monitoring import Monitoring, Report, disable_monitoring, enable_monitoring
    from skilld_monitor.policy.errors import BlockedError
    from skilld_monitor.queries import QueryError, cleanup_old_events, get_database_path
    from skilld_monitor.settings import SettingsError
    from skilld_monitor.spans import Span
    from skilld_monitor.talking import log_error, log_event, log_info, log_warning
    from skilld_monitor.trace import TraceContext

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

__version__ = "0.1.0"

_HOMES = {
    "BlockedError": "policy.errors",
    "Monitoring": "monitoring",
    "QueryError": "queries",
    "Report": "monitoring",
    "SettingsError": "settings",
    "Span": "spans",
    "TraceContext": "trace",
    "agent_span": "adapters.tools",
    "cleanup_old_events": "queries",
    "disable_monitoring": "monitoring",
    "enable_monitoring": "monitoring",
    "get_callback_handler": "adapters.langchain",
    "get_database_path": "queries",
    "instrument_function": "calls",
    "instrument_method": "calls",
    "log_error": "talking",
    "log_event": "talking",
    "log_info": "talking",
    "log_warning": "talking",
    "monitor_call": "calls",
    "monitor_llm_call": "calls",
    "monitor_tool": "adapters.tools",
    "start_monitoring": "aliases",
    "stop_monitoring": "aliases",
    "tool": "adapters.tools",
    "tool_span": "adapters.tools",
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


def _deliver_at_the_end() -> None:
    exits = sys.modules.get(f"{__name__}.exits")
    if exits is not None:
        exits.deliver()


# Now, and not when monitoring is switched on: what is registered first is called last, so that what a program reports
# while it tidies up at its end is delivered too.
atexit.register(_deliver_at_the_end)
