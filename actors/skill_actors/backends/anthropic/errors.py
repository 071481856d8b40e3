"""What goes wrong around hosted execution, by stable code.

One class, since callers decide by `code`; the table is the whole list, with whether the same request may succeed later
where nothing better is known. The exception below it, of the SDK or the system, is its `__cause__`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["HOSTED_ERRORS", "HostedError"]

HOSTED_ERRORS: Final[Mapping[str, bool]] = {
    "anthropic_api_error": False,  # details: status, api_type, api_message, request_id; retryable as the API says
    "skills_limit_exceeded": False,  # count, max
    "skill_upload_failed": False,  # path, reason
    "pause_turn_max_exceeded": False,  # iterations, max
    "container_not_found": False,  # container_id
    "file_download_failed": False,  # file_id, reason
    "file_upload_failed": False,  # path, reason
    "invalid_skill_spec": False,  # spec
}


class HostedError(Exception):
    """Something of the hosted side failed or was refused.

    Args:
        code: a key of HOSTED_ERRORS.
        message: names the thing, the value and the way out.
        details: JSON-ready facts for programs; the table says which.
        retryable: whether the same may succeed later; None for what the table says.
        retry_after_s: what the server asked for, in seconds.

    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        if code not in HOSTED_ERRORS:
            raise ValueError(f"unknown error code {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.retryable = HOSTED_ERRORS[code] if retryable is None else retryable
        self.retry_after_s = retry_after_s

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the cause."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "details": dict(self.details),
        }
