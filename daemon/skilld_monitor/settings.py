"""What monitoring goes by. Arguments win over the environment, that over the project's file, that over the user's.

The project's file is `skilld-monitor.ini` in the working directory, the user's `skilld/monitor.ini` in the XDG
configuration directory; both have one section, `[monitor]`, with the names below. A file that others could have written
is not read: it could have prompts sent elsewhere. Nothing is ever written to either.
"""

from __future__ import annotations

import os
import stat

from skilld_monitor.channels import read_channels
from skilld_monitor.records import LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from skilld_monitor.scanning.masking import Mask

__all__ = ["CONTENT_FIELDS", "Settings", "SettingsError", "replaced_variables", "usable"]

CONTENT_FIELDS = ("system", "input", "output", "tools", "arguments", "result")
_SYSTEM_SOCKET = "/run/skilld/monitor.sock"
_OTEL_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_OTEL_ALL = ("span_only", "event_only", "span_and_event", "true", "1", "yes", "on")  # what else it says is no
_DEVELOPMENT = "CYLESTIO_DEVELOPMENT_MODE"
_SECTION = "monitor"
_LOG_FORMATS = ("A", "B")
# Variables of Cylestio Monitor whose work is done elsewhere. Their values are nobody's business.
_REPLACED = {
    "CYLESTIO_TELEMETRY_ENDPOINT": "events are sent on by the daemon: monitor.export.telemetry in its configuration",
    "CYLESTIO_ACCESS_KEY": "keys belong to the daemon: monitor.export.telemetry in its configuration",
    "CYLESTIO_TEST_DB_DIR": "no database is here; SKILLD_MONITOR_SOCKET and SKILLD_MONITOR_SPOOL set a test apart",
}

# By setting, the variables that are read for it, first come first served.
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "agent_id": ("SKILLD_MONITOR_AGENT", "OTEL_SERVICE_NAME"),
    "socket": ("SKILLD_MONITOR_SOCKET",),
    "log_file": ("SKILLD_MONITOR_LOG_FILE", "MONITORING_LOG_FILE"),
    "log_format": ("SKILLD_MONITOR_LOG_FORMAT",),
    "debug_level": ("SKILLD_MONITOR_LEVEL", "MONITORING_DEBUG_LEVEL"),
    "channels": ("SKILLD_MONITOR_CHANNELS",),
    "environment": ("SKILLD_MONITOR_ENVIRONMENT", "ENVIRONMENT"),
    "capture": ("SKILLD_MONITOR_CAPTURE",),
    "full_events": ("SKILLD_MONITOR_FULL_EVENTS",),
    "frameworks": ("SKILLD_MONITOR_FRAMEWORKS",),
    "spool_dir": ("SKILLD_MONITOR_SPOOL",),
    "strict": ("SKILLD_MONITOR_STRICT",),
    "max_queued": ("SKILLD_MONITOR_MAX_QUEUED",),
    "max_spool_bytes": ("SKILLD_MONITOR_MAX_SPOOL_BYTES",),
    "exit_timeout_s": ("SKILLD_MONITOR_EXIT_TIMEOUT_S",),
    "policy_file": ("SKILLD_MONITOR_POLICY_FILE",),
    "policy_fail": ("SKILLD_MONITOR_POLICY_FAIL",),
    "diagnostics": ("SKILLD_MONITOR_DIAGNOSTICS",),
    "diagnostics_level": ("SKILLD_MONITOR_DIAGNOSTICS_LEVEL",),
}
_DEFAULTS: Mapping[str, object] = {
    "agent_id": "",
    "socket": "",
    "log_file": "",
    "log_format": "A",
    "debug_level": "INFO",
    "channels": "",
    "environment": "",
    "capture": "none",
    "full_events": False,
    "frameworks": True,
    "spool_dir": "",
    "strict": False,
    "max_queued": 65_536,
    "max_spool_bytes": 32 << 20,
    "exit_timeout_s": 5.0,
    "policy_file": "",
    "policy_fail": "open",
    "mask": None,
    "diagnostics": "",
    "diagnostics_level": "INFO",
}


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it, the value and what is allowed."""


class Settings:
    """What monitoring goes by, checked.

    Args:
        agent_id: whose events these are, for who reads them.
        socket: where the daemon takes events; "" for the places it is looked for in.
        log_file: a file or folder that gets each event as a line of JSON as well; "" for none.
        log_format: of its lines: those of one generation of Cylestio Monitor or the other, `A` or `B`.
        debug_level: events below it are not reported.
        channels: what holds for some channels instead, see `skilld_monitor.channels.read_channels`.
        environment: such as `production`; told with every run.
        capture: which parts of a conversation's content are reported, out of `CONTENT_FIELDS`; normally none.
        full_events: the log file has content, and the start of each call too, as in Cylestio Monitor.
        frameworks: whether frameworks are watched too, and not the SDKs of models alone.
        spool_dir: where events wait for a daemon that is away.
        strict: whether mistakes in calls of this package raise; otherwise they are counted.
        max_queued: records in memory that wait to be sent.
        max_spool_bytes: of one process's file in `spool_dir`.
        exit_timeout_s: seconds that the end of the program may be held up, at most.
        policy_file: rules of the program's own that redact or block, beside those of the daemon; "" for none.
        policy_fail: `closed` blocks calls that cannot be judged, also for want of the daemon's policy.
        mask: a function of a text that a rule found and the rule's id, which gives what stands there instead, or None
            to leave it to the rule; it may take 0.1 s. For what is masked in this program; the daemon has its own way.
        diagnostics: where the client tells of itself: a file, or `logging`; "" for nowhere.
        diagnostics_level: what is below it is not told.

    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self.agent_id = str(values["agent_id"]) or "unnamed"
        self.socket = str(values["socket"])
        self.log_file = str(values["log_file"])
        self.log_format = _one_of("log_format", values["log_format"], _LOG_FORMATS)
        self.debug_level = _level("debug_level", values["debug_level"])
        self.channels = _channels(values["channels"])
        self.environment = str(values["environment"])[:64]
        self.full_events = _flag("full_events", values["full_events"])
        self.capture = frozenset(CONTENT_FIELDS) if self.full_events else _fields(values["capture"])
        self.frameworks = _flag("frameworks", values["frameworks"])
        self.spool_dir = str(values["spool_dir"])
        self.strict = _flag("strict", values["strict"])
        self.max_queued = int(_number("max_queued", values["max_queued"], 1, 1_000_000))
        self.max_spool_bytes = int(_number("max_spool_bytes", values["max_spool_bytes"], 0, 1 << 40))
        self.exit_timeout_s = _number("exit_timeout_s", values["exit_timeout_s"], 0, 600)
        self.policy_file = str(values["policy_file"])
        self.policy_fail = _one_of("policy_fail", values["policy_fail"], ("OPEN", "CLOSED")).lower()
        self.mask = _function("mask", values["mask"])
        self.diagnostics = str(values["diagnostics"])
        self.diagnostics_level = _level("diagnostics_level", values["diagnostics_level"])
        if len(self.agent_id) > 200:
            raise SettingsError(f"agent_id is {len(self.agent_id)} characters long; 200 are allowed")

    def same_as(self, other: Settings) -> bool:
        """Whether nothing differs."""
        return vars(self) == vars(other)


def usable(
    arguments: Mapping[str, object], env: Mapping[str, str], *, folder: str | None, uid: int
) -> tuple[Settings, str]:
    """The settings in force without what cannot be used, and what is wrong with that; "" for nothing.

    Args:
        arguments: those of `enable_monitoring` that were given.
        env: the environment.
        folder: the working directory; None if there is none any more.
        uid: the user whose files may be read.

    """
    found = dict(_DEFAULTS)
    problems: list[str] = []
    found["socket"] = _usual_socket(env, uid)
    found["spool_dir"] = _spool_dir(env)
    files = [_user_file(env)] + ([] if folder is None else [os.path.join(folder, "skilld-monitor.ini")])
    for path in files:
        try:
            _adopt(found, _read_file(path, uid), path, problems)
        except SettingsError as error:
            problems.append(str(error))
    for variable, layer in _from_environment(env).items():
        _adopt(found, layer, variable, problems)
    _adopt(found, {name: value for name, value in arguments.items() if value is not None}, "", problems)
    return Settings(found), "; ".join(problems)


def replaced_variables(env: Mapping[str, str]) -> str:
    """What is to be said about variables that somebody set and nothing here goes by; "" for nothing."""
    return "; ".join(f"{name} is not used: {way}" for name, way in _REPLACED.items() if env.get(name))


def _adopt(found: dict[str, object], layer: Mapping[str, object], where: str, problems: list[str]) -> None:
    """Take over what can be used of a layer; where that stands is said of the rest."""
    for name, value in layer.items():
        try:
            if name not in _DEFAULTS:
                raise SettingsError(f"there is no setting {name!r}; there are {', '.join(sorted(_DEFAULTS))}")
            Settings({**_DEFAULTS, name: value})
        except Exception as error:  # of any class: its text may be anything
            said = str(error) if isinstance(error, SettingsError) else f"{name}: {type(error).__name__}"
            problems.append(f"{where}: {said}" if where else said)
        else:
            found[name] = value


def _from_environment(env: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """By variable, in the order in which they win, the setting that it makes."""
    found: dict[str, dict[str, object]] = {}
    if env.get(_OTEL_CAPTURE):
        found[_OTEL_CAPTURE] = {"capture": "all" if env[_OTEL_CAPTURE].lower() in _OTEL_ALL else "none"}
    if env.get(_DEVELOPMENT, "").lower() in ("true", "1", "yes", "on"):
        found[_DEVELOPMENT] = {"diagnostics": "logging"}
    for name, variables in _VARIABLES.items():
        variable = next(filter(env.get, variables), None)
        if variable is not None:
            found[variable] = {name: env[variable]}
    return found


def _read_file(path: str, uid: int) -> dict[str, object]:
    try:
        facts = os.stat(path)
    except OSError:
        return {}
    if not stat.S_ISREG(facts.st_mode):
        return {}  # a pipe would be waited for
    if facts.st_uid not in (0, uid) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return {}
    from configparser import ConfigParser, Error

    parser = ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
        found = dict(parser[_SECTION]) if parser.has_section(_SECTION) else {}
    except (Error, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {str(error).splitlines()[0]}") from error
    return {name: value for name, value in found.items() if value != ""}


def _usual_socket(env: Mapping[str, str], uid: int) -> str:
    """That of the daemon that SKILLD_SOCKET names, or of one of the user's own, if there is one; else the host's."""
    named = env.get("SKILLD_SOCKET", "")
    if os.path.isabs(named):
        return os.path.join(os.path.dirname(named), "monitor.sock")
    run = env.get("XDG_RUNTIME_DIR", "")
    for folder in (run if os.path.isabs(run) else "", f"/run/user/{uid}"):
        path = os.path.join(folder, "skilld/monitor.sock")
        if folder and os.path.exists(path):
            return path
    path = f"/tmp/skilld-{uid}/monitor.sock"
    return path if _is_of(os.path.dirname(path), uid) and os.path.exists(path) else _SYSTEM_SOCKET


def _is_of(folder: str, uid: int) -> bool:
    """Whether nobody but the user and root can have put there what lies in it: /tmp is everybody's."""
    try:
        facts = os.lstat(folder)
    except OSError:
        return False
    closed = not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid in (0, uid) and closed


def _user_file(env: Mapping[str, str]) -> str:
    base = env.get("XDG_CONFIG_HOME", "")
    base = base if os.path.isabs(base) else os.path.join(_home(env), ".config")
    return os.path.join(base, "skilld", "monitor.ini")


def _spool_dir(env: Mapping[str, str]) -> str:
    base = env.get("XDG_STATE_HOME", "")
    base = base if os.path.isabs(base) else os.path.join(_home(env), ".local/state")
    return os.path.join(base, "skilld-monitor")


def _home(env: Mapping[str, str]) -> str:
    """The user's; one that nobody can make a folder in, where neither the environment nor the host knows any."""
    named = env.get("HOME") or os.path.expanduser("~")
    return named if os.path.isabs(named) else "/dev/null"


def _level(name: str, value: object) -> str:
    return {"WARN": "WARNING"}.get(str(value).upper()) or _one_of(name, value, tuple(LEVELS))


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """One of these, in any case."""
    found = next((known for known in allowed if known.upper() == str(value).upper()), None)
    if found is None:
        raise SettingsError(f"{name} is {str(value)[:40]!r}; there are {', '.join(allowed)}")
    return found


def _channels(value: object) -> dict[str, dict[str, object]]:
    try:
        return read_channels(value)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _fields(value: object) -> frozenset[str]:
    names = [str(name) for name in value] if isinstance(value, (list, tuple, set, frozenset)) else str(value).split(",")
    names = [name.strip().lower() for name in names if name.strip()]
    if names in (["all"], ["true"]):
        return frozenset(CONTENT_FIELDS)
    if names in (["none"], ["false"]):
        return frozenset()
    unknown = sorted(set(names) - set(CONTENT_FIELDS))
    if unknown:
        raise SettingsError(f"capture has {unknown[0][:40]!r}; there are all, none, {', '.join(CONTENT_FIELDS)}")
    return frozenset(names)


def _function(name: str, value: object) -> Mask | None:
    if value is not None and not callable(value):
        raise SettingsError(f"{name} is {str(value)[:40]!r}; expected a function of a text and the id of a rule")
    return value


def _flag(name: str, value: object) -> bool:
    text = str(value).lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise SettingsError(f"{name} is {str(value)[:40]!r}; expected true or false")


def _number(name: str, value: object, low: float, high: float) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise SettingsError(f"{name} is {str(value)[:40]!r}; expected a number from {low:g} to {high:g}")
    return number
