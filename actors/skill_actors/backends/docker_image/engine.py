"""The way to a container engine: Docker's, or Podman's socket that speaks the same.

The SDK blocks and takes long to import: everything here is called in a worker thread or in a program of its own.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skill_actors.backends.base import BackendUnavailable

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

__all__ = ["DEFAULT_ADDRESS", "check_address", "connect", "declared_volumes", "engine_address", "knock", "tls_context"]

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
        address: unix:///path or tcp://host:port.
        environ: DOCKER_TLS_VERIFY and DOCKER_CERT_PATH count, as `tls_context` says.
        timeout_s: for each answer of the engine.

    Raises:
        BackendUnavailable: nothing that speaks Docker's API answers there, or it is no address that can be used.

    """
    check_address(address)
    tls_context(address, environ)
    import docker
    from docker.errors import DockerException

    settings = {name: environ[name] for name in _PASSED_ON if name in environ}
    make = partial(docker.from_env, timeout=timeout_s, environment={"DOCKER_HOST": address, **settings})
    try:
        _knock(address, timeout_s)
        # The SDK's own version="auto" leaves its connection open where it fails.
        with contextlib.closing(_alone(make(version=_ANY_VERSION))) as first:
            version = first.version(api_version=False)["ApiVersion"]
        return _alone(make(version=version))
    except (DockerException, OSError, ValueError, LookupError, TypeError) as error:
        raise BackendUnavailable(f"no container engine at {address}: {_explain(error)}") from error


def _alone(client: DockerClient) -> DockerClient:
    """Without what the environment says of proxies, and of authorities, which would go before the engine's own."""
    client.api.trust_env = False
    return client


def check_address(address: str) -> None:
    """Raise BackendUnavailable for what is neither a Unix socket nor TCP, saying how to get there all the same."""
    scheme = address.partition("://")[0]
    if scheme == "ssh":
        raise BackendUnavailable(
            f"the engine's address is {address!r}, and ssh is not spoken here: forward its socket (ssh -nNT -L "
            "/run/user/1000/engine.sock:/var/run/docker.sock HOST) and use unix:///run/user/1000/engine.sock"
        )
    if scheme not in ("unix", "tcp"):
        raise BackendUnavailable(f"the engine's address is {address!r}, but has to be unix:///path or tcp://host:port")


def tls_context(address: str, environ: Mapping[str, str]) -> ssl.SSLContext | None:
    """How to speak with an engine at a TCP address; None for one that is asked in clear. Blocks.

    Args:
        address: of the engine; a Unix socket needs no TLS.
        environ: DOCKER_TLS_VERIFY, not empty, asks for TLS, with ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH, else
            in ~/.docker.

    Raises:
        BackendUnavailable: the files cannot be used; or TLS is meant, and nobody is to look whose certificate it is.

    """
    folder, verify = environ.get("DOCKER_CERT_PATH"), environ.get("DOCKER_TLS_VERIFY")
    if not address.startswith("tcp://") or not (folder or verify):
        return None
    if not verify:
        raise BackendUnavailable(
            "DOCKER_CERT_PATH is set and DOCKER_TLS_VERIFY is not: whoever answers would be taken for the engine; set "
            "DOCKER_TLS_VERIFY=1"
        )
    place = Path(folder) if folder else Path.home() / ".docker"
    try:
        context = ssl.create_default_context(cafile=str(place / "ca.pem"))
        context.load_cert_chain(place / "cert.pem", place / "key.pem")
    except (OSError, ValueError) as error:  # of which ssl.SSLError is one
        raise BackendUnavailable(f"ca.pem, cert.pem and key.pem in {place} cannot be used: {error}") from error
    return context


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
        if isinstance(below, ssl.SSLError):  # an OSError too, whose number is not the system's
            return str(below)
        if isinstance(below, OSError) and (remedy := _REMEDIES.get(below.errno or 0)):
            return remedy
    return f"{error}".strip() or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def declared_volumes(image: Image) -> list[str]:
    """Each is a folder on the engine's disk, without a limit, in every container of the image."""
    return sorted((image.attrs.get("Config") or {}).get("Volumes") or ())
