"""The environment that the installed unit gives the daemon, which the shell of whoever runs skillctl does not have."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

__all__ = ["daemon_environment", "read_shown"]

_UNIT: Final = "skilld.service"
_SHOW: Final = ("show", _UNIT, "--property=LoadState,Environment,EnvironmentFiles")
_TIMEOUT_S: Final = 10.0
_IGNORE_ERRORS: Final = " (ignore_errors="


def daemon_environment(
    environ: Mapping[str, str], *, uid: int, show: Callable[[list[str]], str] | None = None
) -> Mapping[str, str]:
    """`environ` with what the unit of this user, for root that of the system, sets besides; the shell's own wins.

    Args:
        show: runs systemctl with these arguments and returns what it prints. An error of it, as where there is no
            systemd or no such unit, leaves `environ` as it is.

    """
    try:
        shown = (show or _systemctl)([*(["--user"] if uid else []), *_SHOW])
    except (OSError, subprocess.SubprocessError):
        return environ
    return {**read_shown(shown), **environ}


def read_shown(shown: str) -> dict[str, str]:
    """The variables that a unit sets, from the properties that systemctl shows; files of them win over the unit."""
    properties: dict[str, list[str]] = {}
    for line in shown.splitlines():
        name, _, value = line.partition("=")
        properties.setdefault(name, []).append(value)
    if properties.get("LoadState") != ["loaded"]:
        return {}
    variables = _variables(" ".join(properties.get("Environment", [])))
    for value in properties.get("EnvironmentFiles", []):
        path, separator, _ = value.rpartition(_IGNORE_ERRORS)
        variables |= _of_file(Path(path if separator else value))
    return variables


def _of_file(path: Path) -> dict[str, str]:
    """Those of a file; none of one that cannot be read, which the daemon's own start tells about."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found: dict[str, str] = {}
    for line in lines:
        if not line.lstrip().startswith(("#", ";")):
            found |= _variables(line)
    return found


def _variables(words: str) -> dict[str, str]:
    """NAME=VALUE, quoted as a shell quotes."""
    try:
        parts = shlex.split(words)
    except ValueError:
        return {}
    pairs = (part.partition("=") for part in parts)
    return {name: value for name, separator, value in pairs if separator and name}


def _systemctl(arguments: list[str]) -> str:
    program = shutil.which("systemctl")
    if program is None:
        raise FileNotFoundError("systemctl")
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""},
    )
    return done.stdout
