"""What a request of OTLP holds, whichever of its two forms it came in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = [
    "MAX_DEPTH",
    "MAX_PARTS",
    "BadRequest",
    "OtlpLog",
    "OtlpSpan",
    "Received",
    "Signal",
    "check_parts",
    "span_id",
    "trace_id",
]

Signal = Literal["traces", "logs"]

_HEX: Final = frozenset("0123456789abcdef")
MAX_DEPTH: Final = 16  # of values in values
MAX_PARTS: Final = 100_000  # resources, scopes and items of a request: empty ones take two bytes, and as long as others


class BadRequest(ValueError):
    """It cannot be read, and coming again would not help. The message says why, and nothing of its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpSpan:
    """A span that has ended.

    Args:
        kind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer; 0 where nothing was said.
        code: of its status: 0 unset, 1 ok, 2 error.
        message: of its status.
        events: what happened in it, as name, time in nanoseconds and attributes.

    """

    trace: str
    span: str
    parent: str | None
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    code: int
    message: str
    events: tuple[tuple[str, int, dict[str, Any]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpLog:
    """A record of a log; an event, where it has a name.

    Args:
        severity: 1 to 24; 0 where nothing was said.

    """

    trace: str | None
    span: str | None
    name: str
    time_ns: int
    severity: int
    body: Any
    attributes: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Received:
    """What one resource sent by one scope.

    Args:
        resource: its attributes.
        scope: the name of the library that made the items.
        rejected: how many items were none.

    """

    resource: dict[str, Any]
    scope: str
    spans: list[OtlpSpan] = field(default_factory=list)
    logs: list[OtlpLog] = field(default_factory=list)
    rejected: int = 0


def check_parts(count: int) -> None:
    """Raises BadRequest for more than `MAX_PARTS`."""
    if count > MAX_PARTS:
        raise BadRequest(f"it has more than {MAX_PARTS} resources, scopes and items: send several requests")


def trace_id(text: str) -> str | None:
    """As 32 hexadecimal digits; None for what is none, or nothing but noughts."""
    return _id(text, 32)


def span_id(text: str) -> str | None:
    """As 16 hexadecimal digits; None for what is none, or nothing but noughts."""
    return _id(text, 16)


def _id(text: str, length: int) -> str | None:
    found = text.lower()
    return found if len(found) == length and set(found) <= _HEX and found.strip("0") else None
