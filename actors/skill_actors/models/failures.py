"""What goes wrong in a call of the Messages API, as ModelError. Pure: status, headers and body in, error out."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping
from typing import Final

from skill_actors.models.base import ModelError, Usage

__all__ = ["api_failure", "connection_failure", "protocol_failure", "retry_after_s", "stall_failure", "stream_failure"]

_MAX_MESSAGE_CHARS: Final = 1000
_BAD_REQUEST: Final = 400

# How a refusal begins whose prompt does not fit into the model's window, alone or together with max_tokens.
_TOO_LONG: Final = ("prompt is too long", "input length and `max_tokens` exceed context limit")

# error type of the API -> our code, and whether the same request may succeed later
_BY_TYPE: Final[Mapping[str, tuple[str, bool]]] = {
    "api_error": ("server", True),
    "authentication_error": ("authentication", False),
    "billing_error": ("billing", False),
    "conflict_error": ("server", True),
    "invalid_request_error": ("invalid_request", False),
    "not_found_error": ("not_found", False),
    "overloaded_error": ("overloaded", True),
    "permission_error": ("permission", False),
    "rate_limit_error": ("rate_limited", True),
    "request_too_large": ("too_large", False),
    "timeout_error": ("timeout", True),
}

_BY_STATUS: Final[Mapping[int, tuple[str, bool]]] = {
    401: ("authentication", False),
    402: ("billing", False),
    403: ("permission", False),
    404: ("not_found", False),
    408: ("timeout", True),
    409: ("server", True),
    413: ("too_large", False),
    429: ("rate_limited", True),
    503: ("overloaded", True),
    504: ("timeout", True),
    529: ("overloaded", True),
}


def api_failure(status: int, headers: Mapping[str, str], body: object, *, secret: str = "") -> ModelError:
    """An answer that is not a success: HTTP `status` with the API's error body, or with something else."""
    kind, message = _described(body)
    code, retryable = _BY_STATUS.get(status) or _BY_TYPE.get(kind) or _by_class(status)
    if status == _BAD_REQUEST and message.startswith(_TOO_LONG):
        code = "context_exceeded"
    advice = headers.get("x-should-retry")
    if advice in ("true", "false"):
        retryable = advice == "true"
    request_id = headers.get("request-id")
    detail = f"HTTP {status}" + (f" {kind}" if kind else "") + (f", request {request_id}" if request_id else "")
    return ModelError(
        f"{_safe(message, secret)} ({_safe(detail, secret)})",
        code=code,
        retryable=retryable,
        retry_after_s=retry_after_s(headers, time.time()),
        status=status,
    )


def stream_failure(body: object, usage: Usage, *, secret: str = "") -> ModelError:
    """An `error` event in the middle of a stream, whose HTTP status was 200."""
    kind, message = _described(body)
    code, retryable = _BY_TYPE.get(kind, ("server", True))
    said = f"{_safe(message, secret)} ({kind or 'error'} while the answer was streaming)"
    return ModelError(said, code=code, retryable=retryable, status=200, usage=usage)


def connection_failure(reason: str, usage: Usage | None = None, *, secret: str = "", sent: bool = True) -> ModelError:
    """The network failed before the message was complete; `sent`: the request may have reached the server."""
    said = f"the connection to the model API failed: {_safe(reason, secret)}"
    return ModelError(said, code="connection", retryable=True, usage=usage, sent=sent)


def stall_failure(stall_timeout_s: float, usage: Usage | None = None) -> ModelError:
    """Nothing arrived for too long."""
    said = f"nothing arrived from the model API for {stall_timeout_s:g} s"
    return ModelError(said, code="timeout", retryable=True, usage=usage)


def protocol_failure(reason: str, usage: Usage | None = None, *, secret: str = "") -> ModelError:
    """The other side does not speak the Messages API. Not retryable: it would answer the same again."""
    said = f"the answer of the model API is not understood: {_safe(reason, secret)}"
    return ModelError(said, code="protocol", usage=usage)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """What the server asks to wait, in seconds: `retry-after-ms`, or `retry-after` as seconds or an HTTP date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now_s)
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _by_class(status: int) -> tuple[str, bool]:
    return ("server", True) if status >= 500 else ("invalid_request", False)


def _described(body: object) -> tuple[str, str]:
    """The API's error type and message; of a foreign body (a proxy's page, say) its beginning."""
    parsed = _json(body) if isinstance(body, str) else body
    error = parsed.get("error") if isinstance(parsed, dict) else None
    if isinstance(error, dict):
        return str(error.get("type") or ""), str(error.get("message") or "no reason given")
    return "", f"the answer is not the API's: {str(body)[:200]!r}" if body else "no reason given"


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _safe(text: str, secret: str) -> str:
    """Without the key, should the server have quoted it; one line, bounded."""
    if secret:
        text = text.replace(secret, "***")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_MAX_MESSAGE_CHARS]
