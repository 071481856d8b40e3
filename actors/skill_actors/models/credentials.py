"""Where the API key comes from: a systemd credential, a file, or the environment.

A source is a callable that returns the key as it is now, so that a key can be replaced without a restart.
Keys never appear in a message, a repr or a log.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from skill_actors.models.base import ModelError

__all__ = ["CredentialError", "KeyEnvironment", "KeyFile", "KeySource", "find_key_source"]

KeySource = Callable[[], str]

_MAX_KEY_BYTES: Final = 8192
_log = logging.getLogger(__name__)


class CredentialError(ModelError):
    """There is no usable API key. The message names the place and the way out, never the content."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="not_configured", sent=False)


class KeyFile:
    """The key in a file, read again whenever the file has been changed or replaced. For use from any thread.

    Args:
        what: what messages call it.

    """

    def __init__(self, path: Path, *, what: str = "API key") -> None:
        self._path = path
        self._what = what
        self._cached: tuple[tuple[int, ...], str] | None = None
        self._warned = False

    def __repr__(self) -> str:
        return f"KeyFile({str(self._path)!r})"

    def __call__(self) -> str:
        """The key. Raises CredentialError if the file is missing, unreadable, not a regular file, or holds no key."""
        try:
            # O_NONBLOCK: a named pipe in this place must be refused, not waited for.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise CredentialError(f"{self._what} file {self._path} cannot be opened: {error.strerror}") from error
        try:
            return self._read(descriptor)
        except OSError as error:
            raise CredentialError(f"{self._what} file {self._path} cannot be read: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int) -> str:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise CredentialError(f"{self._what} file {self._path} is not a regular file")
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        cached = self._cached
        if cached is not None and cached[0] == identity:
            return cached[1]
        if found.st_mode & stat.S_IROTH and not self._warned:
            self._warned = True
            _log.warning("%s file %s can be read by every user: chmod o-r it and replace it", self._what, self._path)
        key = _checked(os.read(descriptor, _MAX_KEY_BYTES + 1), f"{self._what} file {self._path}", self._what)
        self._cached = (identity, key)
        return key


class KeyEnvironment:
    """The key in an environment variable."""

    def __init__(self, name: str, environ: Mapping[str, str] = os.environ) -> None:
        self._name = name
        self._environ = environ

    def __repr__(self) -> str:
        return f"KeyEnvironment({self._name!r})"

    def __call__(self) -> str:
        """The key. Raises CredentialError if the variable is not set, empty or no key."""
        value = self._environ.get(self._name)
        if value is None:
            raise CredentialError(f"environment variable {self._name} is not set: it should hold the API key")
        return _checked(value.encode("utf-8", "surrogateescape"), f"environment variable {self._name}")


def find_key_source(
    *,
    credential: str | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    variable: str = "ANTHROPIC_API_KEY",
) -> KeySource | None:
    """The configured source: a systemd credential by name, else a file, else `variable` if it is set; else None.

    Nothing is read yet: call the source to see whether it works.

    Raises:
        CredentialError: if a credential is named that systemd cannot have passed.

    """
    if credential is not None:
        return KeyFile(_credential_path(credential, environ))
    if file is not None:
        return KeyFile(file)
    return KeyEnvironment(variable, environ) if environ.get(variable) else None


def _credential_path(name: str, environ: Mapping[str, str]) -> Path:
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise CredentialError(f"credential name {name!r} is not the name of a systemd credential")
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise CredentialError(
            f"credential {name!r} is configured but CREDENTIALS_DIRECTORY is not set: "
            f"start the daemon by systemd with LoadCredential={name}:FILE, or configure a key file instead"
        )
    return Path(folder) / name


def _checked(content: bytes, place: str, what: str = "API key") -> str:
    if len(content) > _MAX_KEY_BYTES:
        raise CredentialError(f"{place} holds more than {_MAX_KEY_BYTES} bytes: that is no {what}")
    key = content.strip()
    if not key:
        raise CredentialError(f"{place} is empty: put the {what} into it")
    # Anything else cannot stand in an HTTP header; said here because the HTTP client would quote the key.
    if not all(0x21 <= byte <= 0x7E for byte in key):
        raise CredentialError(f"{place} holds blanks, line breaks or characters outside ASCII: that is no {what}")
    return key.decode("ascii")
