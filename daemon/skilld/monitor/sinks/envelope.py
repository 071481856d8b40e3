"""Events in the envelope of generation B of Cylestio Monitor, for who reads that.

The lines are the client's own, see `skilld_monitor.envelope`: a span becomes two, one for its start and one for its
end. What the daemon knows besides comes along in their attributes: which event it was, the process that sent it, and
this host, but not in what that process runs. In the line of the end our names stand too, beside those that were asked
for there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from skilld.monitor.sinks.canonical import EVENT_KEYS
from skilld_monitor.envelope import ALERT, host_facts
from skilld_monitor.envelope import envelopes as lines_of

__all__ = ["START", "envelopes"]

START: Final = "skilld.start"  # true in the attributes of the first of two

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def envelopes(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One for an event, two for a span.

    Args:
        event: as the interface shows it.

    """
    lines: list[dict[str, Any]] = lines_of(
        name=event["name"],
        level=event["level"],
        channel=event["channel"],
        agent=event["agent"],
        time_us=_time_us(event["time"]),
        data=event["data"],
        trace=event["trace"],
        span=event["span"],
        parent=event["parent"],
        duration_ms=event["duration_ms"],
        status=event["status"],
        session=event.get("session"),
        user=event.get("user"),
        tags=event.get("tags") or (),
        run=event["run"],
        around=host_facts(),
    )
    marks = dict(zip(EVENT_KEYS, (event["id"], event["run"], event["seq"]), strict=True)) | {"process.id": event["pid"]}
    ours = event["data"] if isinstance(event["data"], dict) else {}
    *starts, last = lines
    for start in starts:
        start["attributes"] |= {**marks, START: True}
    last["attributes"] = {**(ours if starts else {}), **last["attributes"], **marks}
    for mark in (START, ALERT):  # a program that says so would have its line taken away after a crash, or passed over
        last["attributes"].pop(mark, None)
    return lines


def _time_us(text: str | None) -> int:
    """Microseconds since 1970; 0 where it is not known."""
    return 0 if text is None else (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
