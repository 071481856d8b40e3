"""What can go wrong with an artifact.

ArtifactError   with a stable code, whether to try again makes sense, and JSON-ready details
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from skill_actors.errors import Refused

__all__ = ["CODES", "ArtifactError"]

# Code -> the code of a refusal for whoever asked over a socket.
CODES: Final[Mapping[str, str]] = {
    "artifact_invalid": "bad_request",  # a name, URI or content that cannot be one
    "artifact_blocked": "bad_request",  # a host or address that may not be asked
    "artifact_not_found": "not_found",
    "artifact_too_large": "too_large",
    "artifact_expired": "not_found",  # it was registered too long ago
    "artifact_timeout": "backend_unavailable",
    "artifact_unreachable": "backend_unavailable",
}
_RETRYABLE: Final = frozenset({"artifact_timeout", "artifact_unreachable"})


class ArtifactError(Exception):
    """An artifact cannot be had. The message says which and why, in words for a user or a model."""

    def __init__(self, code: str, message: str, *, details: Mapping[str, Any] | None = None) -> None:
        if code not in CODES:
            raise ValueError(f"unknown artifact error {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = dict(details or {})

    @property
    def retryable(self) -> bool:
        return self.code in _RETRYABLE

    def to_refusal(self) -> Refused:
        """For a client of the socket."""
        return Refused(CODES[self.code], self.message, details={"artifact_error": self.code, **self.details})
