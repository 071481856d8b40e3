"""Answers of OTLP/HTTP, in the form of the request: success, partial success, and the status of a refusal. Pure.

A refusal's body is a `google.rpc.Status`. Of that only two fields are needed, so that they are written here rather
than taken from a library of all of Google's messages.
"""

from __future__ import annotations

import json
from typing import Final, Literal

from skilld.monitor.otlp.telemetry import Signal

__all__ = ["JSON", "PROTOBUF", "Form", "Refusal", "refused", "taken"]

Form = Literal["application/json", "application/x-protobuf"]
JSON: Final[Form] = "application/json"
PROTOBUF: Final[Form] = "application/x-protobuf"

_ITEMS: Final[dict[Signal, str]] = {"traces": "rejectedSpans", "logs": "rejectedLogRecords"}
_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 413: 3, 415: 3, 421: 3, 429: 8, 503: 14}  # of gRPC


class Refusal(Exception):
    """The request is not taken.

    Args:
        outcome: one word for the metrics.
        retry_after_s: of one that may come again; None for one that must not.

    """

    def __init__(self, status: int, message: str, outcome: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.outcome = outcome
        self.retry_after_s = retry_after_s


def taken(signal: Signal, rejected: int, form: Form) -> bytes:
    """All was taken, or all but so many items, which must not come again."""
    message = "ids or times are missing, or an item is too large" if rejected else ""
    if form == JSON:
        partial = {"partialSuccess": {_ITEMS[signal]: str(rejected), "errorMessage": message}} if rejected else {}
        return json.dumps(partial).encode()
    if not rejected:
        return b""
    return _field(1, b"\x08" + _number(rejected) + _field(2, message.encode()))


def refused(refusal: Refusal, form: Form) -> bytes:
    """The status of a refusal."""
    code = _CODES.get(refusal.status, 2)
    if form == JSON:
        return json.dumps({"code": code, "message": refusal.message}).encode()
    return b"\x08" + _number(code) + _field(2, refusal.message.encode())


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _number(len(content)) + content


def _number(value: int) -> bytes:
    """As protobuf writes whole numbers: seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
