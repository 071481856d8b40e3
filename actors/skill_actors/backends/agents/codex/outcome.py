"""What the program's words for a failure mean. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from skill_actors.backends.agents.base import AgentErrorCode

__all__ = ["code_of_error", "code_of_text"]

_CODES: Final[Mapping[str, AgentErrorCode]] = {
    "unauthorized": "auth",
    "flexUnavailable": "overloaded",
    "internalServerError": "overloaded",
    "policyCapacityUnavailable": "overloaded",
    "rateLimitExceeded": "overloaded",
    "serverOverloaded": "overloaded",
    "usageLimitExceeded": "overloaded",
    "sessionBudgetExceeded": "max_budget_exceeded",
    "cyberPolicy": "refused",
    "inferenceHookDenied": "refused",
    "misalignmentPolicyViolation": "refused",
    "tooManyDenials": "refused",
}
_STATUS: Final = re.compile(r"\bstatus:? (\d{3})\b")
_WORDS: Final[tuple[tuple[str, AgentErrorCode], ...]] = (
    ("no rollout found", "session_lost"),
    ("not logged in", "auth"),
    ("missing environment variable", "auth"),
    ("unauthorized", "auth"),
    ("high demand", "overloaded"),
    ("rate limit", "overloaded"),
    ("usage limit", "overloaded"),
    ("stream disconnected", "io"),
    ("connection", "io"),
    ("unexpected argument", "version_mismatch"),
    ("unrecognized subcommand", "version_mismatch"),
)


def code_of_error(error: Mapping[str, Any]) -> AgentErrorCode:
    """Of an error of a turn, with `message` and, from a server, `codexErrorInfo`: a word, or one with a status."""
    info = error.get("codexErrorInfo")
    if isinstance(info, str) and info in _CODES:
        return _CODES[info]
    if isinstance(info, Mapping):
        for detail in info.values():
            status = detail.get("httpStatusCode") if isinstance(detail, Mapping) else None
            if type(status) is int:
                return _of_status(status)
    return code_of_text(str(error.get("message") or ""))


def code_of_text(text: str) -> AgentErrorCode:
    """Of a message alone."""
    if status := _STATUS.search(text):
        return _of_status(int(status[1]))
    lower = text.lower()
    return next((code for words, code in _WORDS if words in lower), "command_failed")


def _of_status(status: int) -> AgentErrorCode:
    if status in (401, 403):
        return "auth"
    return "overloaded" if status == 429 or status >= 500 else "command_failed"
