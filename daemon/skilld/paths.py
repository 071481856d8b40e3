"""Where the socket, the state and the shipped data are: one answer for the daemon and for its clients.

Kept free of heavy imports, since `skillctl` reads it at every start.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = [
    "MAX_SOCKET_PATH_BYTES",
    "PathError",
    "check_socket_path",
    "daemon_socket_path",
    "data_dir",
    "find_config",
    "find_host_config",
    "find_socket",
    "home",
    "is_live",
    "state_dir",
]

MAX_SOCKET_PATH_BYTES: Final = 107  # sun_path holds 108 bytes with its ending NUL

_HOST_CONFIG: Final = Path("/etc/skilld/skilld.toml")
_SYSTEM_SOCKET: Final = Path("/run/skilld/skilld.sock")
_SOCKET_NAME: Final = "skilld.sock"


class PathError(ValueError):
    """A path that cannot be used; the message names it and the way out."""


def check_socket_path(path: Path) -> Path:
    """The path itself, made absolute.

    Raises:
        PathError: if it is longer than the kernel takes, or holds a NUL.

    """
    if "\0" in str(path):
        raise PathError(f"socket path {str(path)!r} holds a NUL byte")
    absolute = Path(os.path.abspath(path.expanduser()))
    size = len(os.fsencode(absolute))
    if size > MAX_SOCKET_PATH_BYTES:
        raise PathError(
            f"socket path {absolute} is {size} bytes long; Linux allows {MAX_SOCKET_PATH_BYTES}: "
            "choose a shorter one with --socket or SKILLD_SOCKET"
        )
    return absolute


def daemon_socket_path(flag: Path | None, env: Mapping[str, str], uid: int, configured: Path | None = None) -> Path:
    """Where the daemon listens: the flag, SKILLD_SOCKET, the configuration, else the place of this kind of start.

    That is systemd's RUNTIME_DIRECTORY, /run/skilld for root, else the user's run-time directory.

    Raises:
        PathError: if the path is too long.

    """
    if flag is not None:
        return check_socket_path(flag)
    if env.get("SKILLD_SOCKET"):
        return check_socket_path(Path(env["SKILLD_SOCKET"]))
    if configured is not None:
        return check_socket_path(configured)
    if env.get("RUNTIME_DIRECTORY"):
        return check_socket_path(Path(env["RUNTIME_DIRECTORY"].split(":")[0]) / _SOCKET_NAME)
    if uid == 0:
        return _SYSTEM_SOCKET
    return check_socket_path(_user_sockets(env, uid)[0])


def find_socket(flag: Path | None, env: Mapping[str, str], uid: int) -> Path:
    """The socket a client speaks to: the flag, SKILLD_SOCKET, a live one of the user's own, else the system's.

    Raises:
        PathError: if the path is too long.

    """
    if flag is not None:
        return check_socket_path(flag)
    if env.get("SKILLD_SOCKET"):
        return check_socket_path(Path(env["SKILLD_SOCKET"]))
    for candidate in _user_sockets(env, uid):
        if _is_of(candidate.parent, uid) and is_live(candidate):
            return candidate
    return _SYSTEM_SOCKET


def _is_of(folder: Path, uid: int) -> bool:
    """Whether nobody but the user and root can have put there what lies in it: /tmp is everybody's."""
    try:
        facts = folder.lstat()
    except OSError:
        return False
    closed = not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid in (0, uid) and closed


def is_live(path: Path) -> bool:
    """Whether somebody accepts connections at the path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:
            return True  # its backlog is full: alive and busy
        except OSError:
            return False
    return True


def state_dir(flag: Path | None, env: Mapping[str, str], uid: int, configured: Path | None = None) -> Path:
    """Where conversations are kept: the flag, SKILLD_STATE_DIR, the configuration, else the place of this start.

    That is systemd's STATE_DIRECTORY, /var/lib/skilld for root, else skilld in the user's XDG state directory.
    """
    if flag is not None:
        return Path(os.path.abspath(flag.expanduser()))
    if env.get("SKILLD_STATE_DIR"):
        return Path(os.path.abspath(Path(env["SKILLD_STATE_DIR"]).expanduser()))
    if configured is not None:
        return Path(os.path.abspath(configured.expanduser()))
    if env.get("STATE_DIRECTORY"):
        return Path(env["STATE_DIRECTORY"].split(":")[0])
    if uid == 0:
        return Path("/var/lib/skilld")
    base = _absolute(env.get("XDG_STATE_HOME")) or home(env) / ".local/state"
    return base / "skilld"


def find_config(env: Mapping[str, str], uid: int) -> Path | None:
    """The configuration used when none is named: the user's own or, for root, /etc/skilld/skilld.toml."""
    if uid == 0:
        candidate = _HOST_CONFIG
    else:
        candidate = (_absolute(env.get("XDG_CONFIG_HOME")) or home(env) / ".config") / "skilld/skilld.toml"
    return candidate if candidate.is_file() else None


def find_host_config(uid: int) -> Path | None:
    """The configuration of the host that a user's daemon goes by before the user's own; None where it may not."""
    return _HOST_CONFIG if uid != 0 and os.access(_HOST_CONFIG, os.R_OK) else None


def data_dir(name: str) -> Path | None:
    """The folder `name` (skills, etc, systemd) that came with the program, installed or in a source tree."""
    tree = Path(__file__).resolve().parents[2]
    if (tree / "pyproject.toml").is_file():
        bases: tuple[Path, ...] = (tree,)  # what an editable installation has copied is as old as the installation
    else:
        bases = (Path(sysconfig.get_path("data")) / "share/skilld", Path(sys.prefix) / "share/skilld")
    return next((base / name for base in bases if (base / name).is_dir()), None)


def _user_sockets(env: Mapping[str, str], uid: int) -> tuple[Path, ...]:
    """Best first. The last one serves users without a login session; the listener makes sure that it is theirs."""
    places = (_absolute(env.get("XDG_RUNTIME_DIR")), Path(f"/run/user/{uid}"))
    found = [place / "skilld" / _SOCKET_NAME for place in places if place is not None and place.is_dir()]
    return (*found, Path(f"/tmp/skilld-{uid}") / _SOCKET_NAME)


def _absolute(value: str | None) -> Path | None:
    """XDG: a relative path in these variables counts as unset."""
    return Path(value) if value and os.path.isabs(value) else None


def home(env: Mapping[str, str]) -> Path:
    """The folder of the user whose environment this is."""
    return _absolute(env.get("HOME")) or Path(os.path.expanduser("~"))
