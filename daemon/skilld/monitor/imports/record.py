"""A record of an old file, before it is known which of two belong together. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, Literal, NamedTuple, TypeAlias

__all__ = ["BadRecord", "Head", "OldRecord", "OwnRecord", "Part", "Record", "time_us_of"]

Part = Literal["start", "finish", "error", "alone"]

_LARGEST_US: Final = 1 << 61


class BadRecord(ValueError):
    """It is no such record; the message says why, in words that do not repeat what it holds."""


class Head(NamedTuple):
    """Of which run of which program events are."""

    agent: str
    run: str
    pid: int
    program: str
    environment: str


class OwnRecord(NamedTuple):
    """An event as it goes over the ingest socket: one of ours that was written out."""

    head: Head
    event: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRecord:
    """One record.

    Args:
        key: what it is known by: the same record has the same, in whichever copy of the file.
        part: of a call; `alone` for an event.
        base: what was called: the same for the two records of one call.
        duration_ms: as it says; None where it does not.
        known: the run and the number of the event of ours that it was written for; None for one that is not ours.

    """

    key: tuple[str, ...]
    agent: str
    time_us: int
    name: str
    base: str
    part: Part
    channel: str
    level: str
    trace: str | None
    span: str | None
    parent: str | None
    session: str | None
    duration_ms: float | None
    data: dict[str, Any]
    known: tuple[str, int] | None = None


Record: TypeAlias = OldRecord | OwnRecord


def time_us_of(text: Any, zone: tzinfo | None) -> int:
    """Microseconds since 1970 of a time in ISO 8601.

    Args:
        zone: of times that name none; None: that of this host.

    Raises:
        BadRecord: if it is none, or before 1970.

    """
    if not isinstance(text, str) or len(text) > 64:
        raise BadRecord("timestamp: expected a time such as 2025-03-15T09:30:00.000000")
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.astimezone() if zone is None else moment.replace(tzinfo=zone)
        since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadRecord("timestamp: expected a time such as 2025-03-15T09:30:00.000000") from error
    time_us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if not 0 <= time_us < _LARGEST_US:
        raise BadRecord("timestamp: it is before 1970")
    return time_us
