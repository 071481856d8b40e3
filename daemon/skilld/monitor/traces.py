"""All that was reported of one trace, by its id, the beginning of it, or an event of it."""

from __future__ import annotations

from itertools import accumulate, takewhile
from typing import Any, Final

import apsw

from skill_actors.errors import Refused
from skilld.monitor.findings import FindingsWanted, find_findings
from skilld.monitor.questions import MAX_PAGE, MAX_PAGE_CHARS, OF_USER_IN_FEW, Wanted, find_events

__all__ = ["MAX_TRACE_EVENTS", "find_trace"]

MAX_TRACE_EVENTS: Final = 5_000
_LEAST_PREFIX: Final = 4
_HEX: Final = frozenset("0123456789abcdef")


def find_trace(db: apsw.Connection, uid: int | None, id: str) -> dict[str, Any]:
    """The events of a trace, the oldest first, and what was found in them; JSON-ready.

    `more` says how many events there are beside these.

    Args:
        uid: whose; None for everybody's.
        id: of the trace, or the beginning of it where no other begins so, or the number of an event.

    Raises:
        Refused: bad_request for what is no id, not_found, or conflict if several traces begin so.

    """
    found = _event(db, uid, id) if id.isdecimal() and len(id) < 16 else None
    if found is not None and found["trace"] is None:
        findings = find_findings(db, FindingsWanted(uid=uid, event=found["id"], limit=MAX_PAGE))
        return {"trace": None, "events": [found], "findings": findings, "more": 0}
    trace = found["trace"] if found is not None else _whole(db, uid, id)
    mine, values = ("", (trace,)) if uid is None else (f" AND {OF_USER_IN_FEW}", (trace, uid))
    total = int(db.execute(f"SELECT count(*) FROM event WHERE trace = ?{mine}", values).get)
    events = list[dict[str, Any]]()
    most = _most_of(db, mine, values)
    while len(events) < most:
        after = events[-1]["id"] if events else 0
        wanted = Wanted(uid=uid, trace=trace, after=after, limit=min(MAX_PAGE, most - len(events)))
        page = find_events(db, wanted)
        if not page:
            break
        events += page
    findings = find_findings(db, FindingsWanted(uid=uid, trace=trace, after=0, limit=MAX_PAGE))
    return {"trace": trace, "events": events, "findings": findings, "more": total - len(events)}


def _most_of(db: apsw.Connection, mine: str, values: tuple[Any, ...]) -> int:
    """How many of its events fit into one answer, which has no more in it than a page; at least one."""
    sizes = db.execute(
        f"SELECT length(data) FROM event WHERE trace = ?{mine} ORDER BY id LIMIT ?", (*values, MAX_TRACE_EVENTS)
    )
    fitting = takewhile(lambda size: size <= MAX_PAGE_CHARS, accumulate(size for (size,) in sizes))
    return max(1, sum(1 for _ in fitting))


def _event(db: apsw.Connection, uid: int | None, id: str) -> dict[str, Any] | None:
    events = find_events(db, Wanted(uid=uid, after=int(id) - 1, before=int(id) + 1))
    return events[0] if events else None


def _whole(db: apsw.Connection, uid: int | None, id: str) -> str:
    """The trace that begins so."""
    id = id.lower()
    if not _LEAST_PREFIX <= len(id) <= 32 or not set(id) <= _HEX:
        raise Refused(
            "bad_request", f"{id[:40]!a}: expected an event's number, or 4 to 32 hexadecimal digits of a trace"
        )
    mine, values = ("", ()) if uid is None else (f" AND {OF_USER_IN_FEW}", (uid,))
    traces = [
        str(trace)
        for (trace,) in db.execute(
            f"SELECT DISTINCT trace FROM event WHERE trace >= ? AND trace < ?{mine} LIMIT 6", (id, id + "g", *values)
        )
    ]
    if id in traces:
        return id
    if len(traces) > 1:
        raise Refused("conflict", f"several traces begin with {id}: {', '.join(traces[:5])}")
    if not traces:
        raise Refused("not_found", f"no trace or event {id}")
    return traces[0]
