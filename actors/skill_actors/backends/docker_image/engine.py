"""The way to a container engine: Docker's, or Podman's socket that speaks the same.

The SDK blocks and takes long to import: everything here is called in a worker thread or in a program of its own.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from skill_actors.backends.base import BackendUnavailable

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["DEFAULT_ADDRESS", "connect", "engine_address", "knock"]

DEFAULT_ADDRESS: Final = "unix:///var/run/docker.sock"
_TIMEOUT_S: Final = 60.0
_ANY_VERSION: Final = "1.41"  # is not sent: what is asked with it is how new the engine is
_PASSED_ON: Final = ("DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY")

_INSTALL: Final = "install one and start it (on Debian: apt-get install docker.io), or name its socket in DOCKER_HOST"
_REMEDIES: Final[Mapping[int, str]] = {
    errno.ENOENT: f"nothing is there: {_INSTALL}",
    errno.ECONNREFUSED: "nothing listens there: start the engine (systemctl start docker)",
    errno.EACCES: "this user may not: add it to the group of the socket, whose members are as good as root",
    errno.EPERM: "this user may not: add it to the group of the socket, whose members are as good as root",
}


def engine_address(environ: Mapping[str, str]) -> str:
    """Where the engine is looked for, unless somebody names another place."""
    return environ.get("DOCKER_HOST") or DEFAULT_ADDRESS


def connect(address: str, environ: Mapping[str, str], timeout_s: float = _TIMEOUT_S) -> DockerClient:
    """A client that has spoken with the engine once. Whoever gets it closes it. Blocks.

    Args:
        address: unix:///path, tcp://host:port or ssh://host.
        environ: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH count.
        timeout_s: for each answer of the engine.

    Raises:
        BackendUnavailable: nothing that speaks Docker's API answers there.

    """
    import docker
    from docker.errors import DockerException

    settings = {name: environ[name] for name in _PASSED_ON if name in environ}
    make = partial(docker.from_env, timeout=timeout_s, environment={"DOCKER_HOST": address, **settings})
    try:
        _knock(address, timeout_s)
        # The SDK's own version="auto" leaves its connection open where it fails.
        with contextlib.closing(make(version=_ANY_VERSION)) as first:
            version = first.version(api_version=False)["ApiVersion"]
        return make(version=version)
    except (DockerException, OSError, ValueError, LookupError, TypeError) as error:
        raise BackendUnavailable(f"no container engine at {address}: {_explain(error)}") from error


def knock(address: str) -> None:
    """Raise BackendUnavailable where nobody listens any more: to be called before a client is used again. Blocks."""
    try:
        _knock(address, _TIMEOUT_S)
    except OSError as error:
        raise BackendUnavailable(f"no container engine at {address}: {_explain(error)}") from error


def _knock(address: str, timeout_s: float) -> None:
    """Raise the system's error where nobody listens on a Unix socket; the SDK wraps it, and leaves its socket open."""
    scheme, _, path = address.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout_s)
            sock.connect(path if path.startswith("/") else f"/{path}")


def _explain(error: BaseException) -> str:
    """The remedy where the system's error is somewhere below; else what the lowest of them says."""
    for below in _chain(error):
        if isinstance(below, OSError) and (remedy := _REMEDIES.get(below.errno or 0)):
            return remedy
    return f"{error}".strip() or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
