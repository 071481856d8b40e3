"""What doctor looks at. Every check looks at one thing and says what to do about it; none changes anything."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skill_actors import __version__
from skilld.cli.check import Check
from skilld.client import Client, DaemonUnreachable, SkilldError

if TYPE_CHECKING:
    from skill_actors.skills.discovery import Source
    from skilld.config import Config

__all__ = ["check_all"]

_LITTLE_SPACE_BYTES: Final = 1 << 30
_NO_SPACE_BYTES: Final = 100 << 20
_MIN_PYTHON: Final = (3, 11)


def check_all(socket: str | None, config_file: Path | None, environ: Mapping[str, str]) -> Iterator[Check]:
    """Look at everything, cheapest first. Without a usable configuration what depends on it is left out.

    Unless a file is named, it is the daemon of the installed unit that is looked at, with the environment it has.
    """
    from skilld.paths import find_config

    if config_file is None:
        from skilld.cli.unit_environment import daemon_environment

        environ = daemon_environment(environ, uid=os.getuid())
    yield check_python(sys.version_info[:3])
    yield check_bash(environ.get("PATH"))
    yield check_daemon(socket)
    config, found = check_config(config_file, environ)
    yield found
    if config is None:
        return
    yield check_socket_folder(config.daemon.socket.parent, _user_of_daemon(config.daemon.state_dir))
    yield check_state(config.daemon.state_dir)
    yield from check_quarantine(config.daemon.state_dir / "quarantine")
    yield from check_skills(config, environ)
    yield check_model(config, environ)
    yield from check_model_socket(config)
    yield from check_budget(config, environ)
    from skilld.cli.agent_checks import check_agent_backends
    from skilld.cli.host_checks import check_host
    from skilld.cli.server_checks import check_tool_servers

    yield from check_agent_backends(config, environ)
    yield from check_tool_servers(config, environ)
    yield from check_host(config, config_file or find_config(environ, os.getuid()), environ)


def check_python(version: tuple[int, ...]) -> Check:
    """The interpreter that runs this."""
    text = ".".join(map(str, version))
    if version >= _MIN_PYTHON:
        return Check(name="python", level="ok", message=text)
    return Check(name="python", level="fail", message=text, remedy="install Python 3.11 or newer")


def check_bash(path: str | None) -> Check:
    """The shell of the local backend."""
    found = shutil.which("bash", path=path)
    if found is not None:
        return Check(name="bash", level="ok", message=found)
    return Check(name="bash", level="fail", message="not found in PATH", remedy="install bash: tools run in it")


def check_daemon(socket: str | None) -> Check:
    """Whether a daemon answers, whether it takes messages, and whether it is of this version."""
    try:
        with Client(socket, transport="plain") as client:
            version = str(client.version().get("version"))
            ready = client.ready()
    except DaemonUnreachable as error:
        return Check(name="daemon", level="warn", message="not running", remedy=error.message)
    except (SkilldError, ValueError) as error:
        return Check(name="daemon", level="fail", message=str(error), remedy="look into the daemon's log")
    if not ready:
        message = f"{version} at {client.socket} takes no messages"
        return Check(name="daemon", level="warn", message=message, remedy="it starts or drains: wait a moment")
    if version != __version__:
        message = f"{version} at {client.socket}, while skillctl is {__version__}"
        return Check(name="daemon", level="warn", message=message, remedy="restart the daemon")
    return Check(name="daemon", level="ok", message=f"{version} at {client.socket}")


def check_config(file: Path | None, environ: Mapping[str, str]) -> tuple[Config | None, Check]:
    """The configuration the daemon would start with."""
    from skilld.config import ConfigError, find_and_load

    try:
        loaded = find_and_load(file, environ)
    except ConfigError as error:
        return None, Check(
            name="config", level="fail", message=str(error), remedy="correct it: 'skillctl config check'"
        )
    message = ", ".join(map(str, loaded.files)) or "no file: defaults"
    return loaded.config, Check(name="config", level="ok", message=message)


def _user_of_daemon(state_dir: Path) -> int:
    """Whose daemon is looked at: this user's; where root looks, the one whose the state is, as systemd makes it."""
    uid = os.getuid()
    try:
        return uid or state_dir.stat().st_uid
    except OSError:
        return uid


def check_socket_folder(folder: Path, uid: int) -> Check:
    """The folder of the socket: whoever can write into it can put up a socket of their own."""
    try:
        found = folder.lstat()
    except OSError as error:
        return _check_missing("socket folder", folder, error)
    if not stat.S_ISDIR(found.st_mode):
        remedy = "choose another socket: a symbolic link or a file there is refused"
        return Check(name="socket folder", level="fail", message=f"{folder} is no folder", remedy=remedy)
    if found.st_uid not in (0, uid):
        message = f"{folder} belongs to user {found.st_uid}"
        return Check(name="socket folder", level="fail", message=message, remedy="choose a folder of your own")
    if found.st_mode & stat.S_IWOTH:
        message = f"{folder} can be written by everybody"
        fix = partial(os.chmod, folder, stat.S_IMODE(found.st_mode) & ~stat.S_IWOTH) if found.st_uid == uid else None
        return Check(name="socket folder", level="fail", message=message, remedy=f"chmod o-w {folder}", fix=fix)
    return Check(name="socket folder", level="ok", message=str(folder))


def check_state(folder: Path) -> Check:
    """The folder of the conversations: it can be written, and has room."""
    if not folder.exists():
        return _check_missing("state", folder, FileNotFoundError())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        remedy = f"make it a folder of the daemon's user: chown {os.getuid()} {folder}"
        return Check(name="state", level="fail", message=f"{folder} cannot be written", remedy=remedy)
    return _check_space(folder)


def check_quarantine(folder: Path) -> Iterator[Check]:
    """What the daemon has found damaged, one line each; nothing where it has found nothing or may not be asked."""
    for place in sorted(folder.glob("*/report.json")) if os.access(folder, os.R_OK | os.X_OK) else ():
        try:
            report = json.loads(place.read_bytes())
            what = f"{report['what']} of {report['session']}" if "session" in report else str(report["what"])
            message = f"{report['found']}: {what}: {report['cause']}"
        except (OSError, ValueError, KeyError, TypeError):
            message = "its report cannot be read"
        remedy = f"restore a backup, or delete the session; then remove {place.parent}"
        yield Check(name="damage", level="warn", message=message, remedy=remedy)


def _check_space(folder: Path) -> Check:
    free_bytes = shutil.disk_usage(folder).free
    message = f"{folder}, {free_bytes / (1 << 30):.1f} GiB free"
    if free_bytes < _NO_SPACE_BYTES:
        return Check(name="state", level="fail", message=message, remedy="free some space: messages will be refused")
    if free_bytes < _LITTLE_SPACE_BYTES:
        return Check(name="state", level="warn", message=message, remedy="free some space soon")
    return Check(name="state", level="ok", message=message)


def _check_missing(name: str, folder: Path, error: OSError) -> Check:
    """A folder that is not there is fine if the daemon can make it."""
    if not isinstance(error, FileNotFoundError):
        return Check(
            name=name, level="fail", message=f"{folder}: {error.strerror}", remedy="look at its parents' modes"
        )
    parent = next(parent for parent in folder.parents if parent.exists())
    if os.access(parent, os.W_OK | os.X_OK):
        return Check(name=name, level="ok", message=f"{folder} will be made")
    remedy = f"make it, as a user who may write to {parent}, or choose another"
    return Check(name=name, level="fail", message=f"{folder} is missing and cannot be made", remedy=remedy)


def check_skills(config: Config, environ: Mapping[str, str]) -> Iterator[Check]:
    """The folders that skills are read from."""
    from skilld.skill_sources import skill_sources

    sources = [source for source in skill_sources(config.skills, environ) if _is_there(source)]
    if not sources:
        yield Check(name="skills", level="warn", message="no folder", remedy="name one in skills.paths")
    for source in sources:
        yield _check_source(source.path)


def _is_there(source: Source) -> bool:
    """Whether it counts: one that may be missing does so only where it exists."""
    return not source.optional or source.path.exists()


def _check_source(path: Path) -> Check:
    from skill_actors.skills.discovery import find_skill_folders

    try:
        found = find_skill_folders(path)
    except OSError as error:
        message = f"{path}: {error.strerror}"
        return Check(name="skills", level="fail", message=message, remedy="make it readable, or correct skills.paths")
    count = len(found.roots) + len(found.packages)
    if count:
        return Check(name="skills", level="ok", message=f"{path}, {count} found")
    remedy = "put folders with a SKILL.md there"
    return Check(name="skills", level="warn", message=f"{path} holds no skill", remedy=remedy)


def check_model(config: Config, environ: Mapping[str, str]) -> Check:
    """Which model would answer. The credential is looked for, never printed."""
    from skilld.config import ConfigError
    from skilld.model_choice import ModelChoice

    try:
        choice = ModelChoice(config.model, environ)
    except ConfigError as error:
        return Check(name="model", level="fail", message=str(error), remedy="see 'skillctl config show'")
    if choice.anthropic is not None:
        return Check(name="model", level="ok", message=f"{choice.default}, credential found")
    if config.model.provider == "offline":
        return Check(name="model", level="ok", message="offline, as configured")
    remedy = "name a file with the key in model.api_key_file, or set ANTHROPIC_API_KEY for the daemon"
    return Check(name="model", level="warn", message="no credential: the offline model answers", remedy=remedy)


def check_model_socket(config: Config) -> Iterator[Check]:
    """Whether somebody takes connections where the model is to be reached; nothing is sent."""
    from skill_actors.models.model_socket import connect_problem

    place = config.model.socket
    if place is None:
        return
    problem = connect_problem(place)
    if problem is None:
        yield Check(name="model socket", level="ok", message=f"{place} takes connections")
    else:
        remedy = "see model.socket in the configuration; docs/secure.md has a proxy"
        yield Check(name="model socket", level="fail", message=str(problem), remedy=remedy)


def check_budget(config: Config, environ: Mapping[str, str]) -> Iterator[Check]:
    """Whether something bounds what models may cost, and whether the default model can be called within it."""
    from skill_actors.models.prices import PriceError, load_prices
    from skilld.budget_caps import configured_caps
    from skilld.config import ConfigError
    from skilld.model_choice import ModelChoice

    try:
        choice = ModelChoice(config.model, environ)
        prices = load_prices(config.model.price_file)
    except ConfigError:
        return  # the check of the model says so
    except PriceError as error:
        yield Check(name="budget", level="fail", message=str(error), remedy="correct model.price_file")
        return
    if choice.anthropic is None:
        return
    caps = [cap.name for cap in configured_caps(config.budget) if cap.limits.usd is not None]
    if not caps:
        message = "the configuration has no cap in dollars: nothing of it bounds what models may cost"
        yield Check(name="budget", level="warn", message=message, remedy="[budget] month = { usd = 50.0 }, or others")
    elif prices.has(choice.default):
        yield Check(name="budget", level="ok", message=f"dollars are capped: {', '.join(caps)}")
    else:
        message = f"{choice.default} has no price, so that the cap {caps[0]} in dollars refuses each call of it"
        yield Check(name="budget", level="fail", message=message, remedy="add it to a file that model.price_file names")
