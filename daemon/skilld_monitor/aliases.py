"""`start_monitoring` and `stop_monitoring` with a dictionary of settings, for programs written for generation B of
Cylestio Monitor. New ones call `enable_monitoring`.
"""

from __future__ import annotations

from skilld_monitor.monitoring import disable_monitoring, enable_monitoring
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from skilld_monitor.monitoring import Monitoring, Report

__all__ = ["REPLACED", "read_config", "start_monitoring", "stop_monitoring"]

# Keys that are taken and do nothing here, by what does it.
REPLACED = {
    "telemetry_endpoint": "events are sent on by the daemon: monitor.export.telemetry in its configuration",
    "api_endpoint": "events are sent on by the daemon: monitor.export.telemetry in its configuration",
    "access_key": "keys belong to the daemon: monitor.export.telemetry in its configuration",
    "safe_tool_patching": "nothing looks for tools in loaded modules: frameworks say when they call one",
}
_RENAMED = {
    "events_output_file": "log_file",
    "log_file": "log_file",
    "enable_framework_patching": "frameworks",
}
_DEBUG = ("debug_mode", "development_mode", "debug_log_file", "debug_level")


def start_monitoring(agent_id: str | None = None, config: Mapping[str, object] | None = None) -> Monitoring:
    """Switch monitoring on, as `enable_monitoring` does; the log file has generation B's lines.

    Args:
        agent_id: whose events these are.
        config: see `read_config`.

    Raises:
        SettingsError: as `enable_monitoring`.

    """
    made = enable_monitoring(agent_id, config={"log_format": "B", **config} if isinstance(config, dict) else config)
    if made.settings.strict:
        import warnings

        warnings.warn("start_monitoring is kept for old programs: enable_monitoring", DeprecationWarning, stacklevel=2)
    return made


def stop_monitoring(timeout_s: float = 2.0, *unknown: object, **more: object) -> Report | None:
    """Switch it off, as `disable_monitoring` does."""
    return disable_monitoring(timeout_s, *unknown, **more)


def read_config(config: object) -> tuple[dict[str, object], str]:
    """The settings that generation B's dictionary means, and what is to be said of the rest of it.

    Its keys may also be names of our settings. What `debug_mode` and `debug_log_file` ask for is told there or to
    Python's `logging`, never printed.
    """
    if not isinstance(config, dict):
        return {}, f"config is of {type(config).__name__}; expected a dictionary"
    given = {str(key): value for key, value in config.items() if value is not None}
    found = _diagnostics(given)
    for theirs, ours in _RENAMED.items():
        if theirs in given and ours not in found:
            found[ours] = given[theirs]
    known = {*REPLACED, *_RENAMED, *_DEBUG}
    found.update({key: value for key, value in given.items() if key not in known})
    notes = [f"{key} does nothing here: {way}" for key, way in REPLACED.items() if _asks_for(key, given)]
    return found, "; ".join(notes)


def _diagnostics(given: Mapping[str, object]) -> dict[str, object]:
    """Generation B's switches for what it prints about itself, as our settings."""
    if not (_is_set(given.get("debug_mode")) or _is_set(given.get("development_mode"))):
        return {}
    found: dict[str, object] = {"diagnostics": given.get("debug_log_file") or "logging"}
    if "debug_level" in given:
        found["diagnostics_level"] = given["debug_level"]
    return found


def _asks_for(key: str, given: Mapping[str, object]) -> bool:
    """Whether a key that does nothing here was to do something: the one of tools, where it is False."""
    return key in given and not (key == "safe_tool_patching" and _is_set(given[key]))


def _is_set(value: object) -> bool:
    return str(plain(value)).lower() in ("true", "1", "yes", "on")
