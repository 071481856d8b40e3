"""The text of a header that is a secret: out of a file, a variable or a systemd credential, read for every request."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skill_actors.models.credentials import CredentialError

if TYPE_CHECKING:
    from skilld.config.monitor_sinks import HeaderConfig

__all__ = ["HeaderSecret"]

_MAX_BYTES: Final = 8192


class HeaderSecret:
    """A callable that returns the text as it is now. Unlike a key it may have blanks in it, as `Bearer ...` has."""

    def __init__(self, place: HeaderConfig, environ: Mapping[str, str]) -> None:
        self._place = place
        self._environ = environ

    def __repr__(self) -> str:
        return f"HeaderSecret({self._name})"

    def __call__(self) -> str:
        """The text. Raises CredentialError: the message names the place, never what is there."""
        text = self._read().strip()
        if not text or len(text) > _MAX_BYTES:
            raise CredentialError(f"{self._name} is empty, or longer than {_MAX_BYTES} bytes")
        if not all(0x20 <= byte <= 0x7E for byte in text):
            raise CredentialError(f"{self._name} holds line breaks or characters outside ASCII: that is no header")
        return text.decode("ascii")

    @property
    def _name(self) -> str:
        place = self._place
        if place.env is not None:
            return f"environment variable {place.env}"
        return f"credential {place.credential}" if place.file is None else f"file {place.file}"

    def _read(self) -> bytes:
        place = self._place
        if place.env is not None:
            return self._environ.get(place.env, "").encode("utf-8", "surrogateescape")
        folder = self._environ.get("CREDENTIALS_DIRECTORY", "")
        if place.file is None and not folder:
            raise CredentialError(f"{self._name}: CREDENTIALS_DIRECTORY is not set; start skilld by systemd")
        path = place.file or Path(folder) / str(place.credential)
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise CredentialError(f"{self._name} is not a regular file")
                return file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise CredentialError(f"{self._name} cannot be read: {error.strerror}") from error
