"""Refusals and failures as JSON answers."""

from __future__ import annotations

import json
import logging
import secrets

from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.store import DamagedRow

__all__ = ["damage_refusal", "error_body", "error_response", "internal_error"]

_log = logging.getLogger(__name__)


def error_body(refused: Refused) -> tuple[int, bytes]:
    """HTTP status and JSON body. Never fails, whatever the message holds."""
    text = json.dumps(refused.to_dict(), ensure_ascii=False, separators=(",", ":"), default=str)
    return refused.status, text.encode("utf-8", "backslashreplace")


def error_response(refused: Refused, *, status: int | None = None, headers: dict[str, str] | None = None) -> Response:
    """The answer to a refused request; `status` where HTTP has a finer word than the code (405)."""
    code, body = error_body(refused)
    answer = Response(body, status or code, headers, "application/json")
    if refused.retry_after_s is not None:
        answer.headers["retry-after"] = str(max(1, round(refused.retry_after_s)))
    return answer


def damage_refusal(error: DamagedRow) -> Refused:
    """What a client is told of a session that cannot be read."""
    return Refused("session_damaged", str(error), details={"session": error.session})


def internal_error(error: BaseException, where: str) -> Response:
    """Log the failure under a fresh id and answer with that id: the client learns nothing of our insides."""
    failure = secrets.token_hex(6)
    _log.error("failure %s in %s", failure, where, exc_info=error)
    message = f"the daemon failed on this request; its log says more under {failure}"
    return error_response(Refused("internal", message, details={"id": failure}))
