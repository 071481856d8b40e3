"""What monitoring goes by. Arguments win over the environment, that over the project's file, that over the user's.

The project's file is `skilld-monitor.ini` in the working directory, the user's `skilld/monitor.ini` in the XDG
configuration directory; both have one section, `[monitor]`, with the names below. A file that others could have written
is not read: it could have prompts sent elsewhere. Nothing is ever written to either.
"""

from __future__ import annotations

import os
import stat

from skilld_monitor.records import LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONTENT_FIELDS", "Settings", "SettingsError", "resolve", "usable"]

CONTENT_FIELDS = ("system", "input", "output", "tools", "arguments", "result")
_SYSTEM_SOCKET = "/run/skilld/monitor.sock"
_OTEL_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_SECTION = "monitor"

# By setting, the variables that are read for it, first come first served.
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "agent_id": ("SKILLD_MONITOR_AGENT", "OTEL_SERVICE_NAME"),
    "socket": ("SKILLD_MONITOR_SOCKET",),
    "log_file": ("SKILLD_MONITOR_LOG_FILE", "MONITORING_LOG_FILE"),
    "debug_level": ("SKILLD_MONITOR_LEVEL", "MONITORING_DEBUG_LEVEL"),
    "environment": ("SKILLD_MONITOR_ENVIRONMENT", "ENVIRONMENT"),
    "capture": ("SKILLD_MONITOR_CAPTURE",),
    "full_events": ("SKILLD_MONITOR_FULL_EVENTS",),
    "spool_dir": ("SKILLD_MONITOR_SPOOL",),
    "strict": ("SKILLD_MONITOR_STRICT",),
    "max_queued": ("SKILLD_MONITOR_MAX_QUEUED",),
    "max_spool_bytes": ("SKILLD_MONITOR_MAX_SPOOL_BYTES",),
    "exit_timeout_s": ("SKILLD_MONITOR_EXIT_TIMEOUT_S",),
}
_DEFAULTS: Mapping[str, object] = {
    "agent_id": "",
    "socket": "",
    "log_file": "",
    "debug_level": "INFO",
    "environment": "",
    "capture": "none",
    "full_events": False,
    "spool_dir": "",
    "strict": False,
    "max_queued": 65_536,
    "max_spool_bytes": 32 << 20,
    "exit_timeout_s": 5.0,
}


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it, the value and what is allowed."""


class Settings:
    """What monitoring goes by, checked.

    Args:
        agent_id: whose events these are, for who reads them.
        socket: where the daemon takes events; "" for the places it is looked for in.
        log_file: a file or folder that gets each event as a line of JSON as well; "" for none.
        debug_level: events below it are not reported.
        environment: such as `production`; told with every run.
        capture: which parts of a conversation's content are reported, out of `CONTENT_FIELDS`; normally none.
        full_events: the log file has content, and the start of each call too, as in Cylestio Monitor.
        spool_dir: where events wait for a daemon that is away.
        strict: whether mistakes in calls of this package raise; otherwise they are counted.
        max_queued: records in memory that wait to be sent.
        max_spool_bytes: of one process's file in `spool_dir`.
        exit_timeout_s: seconds that the end of the program may be held up, at most.

    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self.agent_id = str(values["agent_id"]) or "unnamed"
        self.socket = str(values["socket"])
        self.log_file = str(values["log_file"])
        self.debug_level = _level(values["debug_level"])
        self.environment = str(values["environment"])[:64]
        self.full_events = _flag("full_events", values["full_events"])
        self.capture = frozenset(CONTENT_FIELDS) if self.full_events else _fields(values["capture"])
        self.spool_dir = str(values["spool_dir"])
        self.strict = _flag("strict", values["strict"])
        self.max_queued = int(_number("max_queued", values["max_queued"], 1, 1_000_000))
        self.max_spool_bytes = int(_number("max_spool_bytes", values["max_spool_bytes"], 0, 1 << 40))
        self.exit_timeout_s = _number("exit_timeout_s", values["exit_timeout_s"], 0, 600)
        if len(self.agent_id) > 200:
            raise SettingsError(f"agent_id is {len(self.agent_id)} characters long; 200 are allowed")

    def same_as(self, other: Settings) -> bool:
        """Whether nothing differs."""
        return vars(self) == vars(other)


def resolve(arguments: Mapping[str, object], env: Mapping[str, str], *, folder: str, uid: int) -> Settings:
    """The settings in force.

    Args:
        arguments: those of `enable_monitoring` that were given.
        env: the environment.
        folder: the working directory.
        uid: the user whose files may be read.

    Raises:
        SettingsError: naming what is wrong, and where it stands.

    """
    found = dict(_DEFAULTS)
    found["socket"] = _usual_socket(env, uid)
    found["spool_dir"] = os.path.join(_state_home(env), "skilld-monitor")
    for path in (_user_file(env), os.path.join(folder, "skilld-monitor.ini")):
        layer = _read_file(path, uid)
        _check_known(layer, f"{path}: ")
        found.update(layer)
    found.update(_from_environment(env))
    _check_known(arguments, "")
    found.update({name: value for name, value in arguments.items() if value is not None})
    return Settings(found)


def _check_known(layer: Mapping[str, object], where: str) -> None:
    unknown = sorted(set(layer) - set(_DEFAULTS))
    if unknown:
        raise SettingsError(f"{where}there is no setting {unknown[0]!r}; there are {', '.join(sorted(_DEFAULTS))}")


def usable(
    arguments: Mapping[str, object], env: Mapping[str, str], *, folder: str | None, uid: int
) -> tuple[Settings, str]:
    """As `resolve` for a program that is not to be stopped: what cannot be used is left out, and what was wrong said.

    Args:
        folder: the working directory; None if there is none any more.

    """
    found = dict(_DEFAULTS)
    problems: list[str] = []
    found["socket"] = _usual_socket(env, uid)
    found["spool_dir"] = os.path.join(_state_home(env), "skilld-monitor")
    files = [_user_file(env)] + ([] if folder is None else [os.path.join(folder, "skilld-monitor.ini")])
    for path in files:
        try:
            _adopt(found, _read_file(path, uid), problems)
        except SettingsError as error:
            problems.append(str(error))
    _adopt(found, _from_environment(env), problems)
    _adopt(found, {name: value for name, value in arguments.items() if value is not None}, problems)
    return Settings(found), "; ".join(problems)


def _adopt(found: dict[str, object], layer: Mapping[str, object], problems: list[str]) -> None:
    """Take over what can be used of a layer."""
    for name, value in layer.items():
        try:
            _check_known({name: value}, "")
            Settings({**_DEFAULTS, name: value})
        except Exception as error:  # of any class: its text may be anything
            problems.append(str(error) if isinstance(error, SettingsError) else f"{name}: {type(error).__name__}")
        else:
            found[name] = value


def _from_environment(env: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    if env.get(_OTEL_CAPTURE):
        found["capture"] = "none" if env[_OTEL_CAPTURE].lower() in ("no_content", "false", "0") else "all"
    for name, variables in _VARIABLES.items():
        value = next((env[variable] for variable in variables if env.get(variable)), None)
        if value is not None:
            found[name] = value
    return found


def _read_file(path: str, uid: int) -> dict[str, object]:
    try:
        facts = os.stat(path)
    except OSError:
        return {}
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
    """That of a daemon of the user's own, if there is one; else the host's."""
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


def _state_home(env: Mapping[str, str]) -> str:
    base = env.get("XDG_STATE_HOME", "")
    return base if os.path.isabs(base) else os.path.join(_home(env), ".local/state")


def _home(env: Mapping[str, str]) -> str:
    return env.get("HOME") or os.path.expanduser("~")


def _level(value: object) -> str:
    name = {"WARN": "WARNING"}.get(str(value).upper(), str(value).upper())
    if name not in LEVELS:
        raise SettingsError(f"debug_level is {str(value)[:40]!r}; there are {', '.join(LEVELS)}")
    return name


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
