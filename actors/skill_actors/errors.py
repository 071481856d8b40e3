"""Refusals that reach a client, by stable code.

One class, since callers decide by `code`; the table below is the whole list, with the HTTP status a server
answers and whether the same request may succeed later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ERROR_CODES", "Refused"]

ERROR_CODES: Final[Mapping[str, tuple[int, bool]]] = {
    "bad_request": (400, False),
    "unauthorized": (401, False),
    "budget_exceeded": (402, False),
    "forbidden": (403, False),
    "policy_denied": (403, False),
    "cwd_not_allowed": (403, False),
    "not_found": (404, False),
    "conflict": (409, False),
    "idempotency_conflict": (409, False),
    "too_large": (413, False),
    "invalid_skill_spec": (422, False),
    "skills_limit_exceeded": (422, False),
    "no_entry_command": (422, False),
    "overloaded": (429, True),
    "internal": (500, True),
    "session_damaged": (500, False),
    "backend_unavailable": (503, True),
    "draining": (503, True),
    "storage_full": (507, True),
}


class Refused(Exception):
    """A request was understood and refused; nothing of it was done.

    Args:
        code: a key of ERROR_CODES.
        message: names the thing, the value and the way out.
        details: JSON-ready facts for programs.
        retry_after_s: when a retry makes sense, in seconds, where that is known.

    """

    def __init__(
        self, code: str, message: str, *, details: Mapping[str, Any] | None = None, retry_after_s: float | None = None
    ) -> None:
        if code not in ERROR_CODES:
            raise ValueError(f"unknown error code {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        """HTTP status."""
        return ERROR_CODES[self.code][0]

    @property
    def retryable(self) -> bool:
        return ERROR_CODES[self.code][1]

    def to_dict(self) -> dict[str, Any]:
        """The body a client gets."""
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "retryable": self.retryable,
                "details": self.details,
            }
        }
