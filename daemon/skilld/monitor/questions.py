"""What can be asked about reported events: pages of them, and what they add up to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import apsw

from skilld.monitor.batch import LEVELS

__all__ = ["MAX_PAGE", "Wanted", "find_events", "totals"]

MAX_PAGE: Final = 1_000
_MOST_SOURCES: Final = 200
_COLUMNS: Final = (
    "event.id, event.uid, agent, run.run, pid, sender_pid, program, environment, seq, time_us, name, channel, level,"
    " trace, span, parent, duration_us, status, event.data"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events.

    Args:
        uid: whose; None for everybody's.
        text: words that the name or the data have, all of them; not a language of its own.
        level: this or a worse one.
        since_us: microseconds since 1970, by the programs' clocks.
        after: only those that came after this id, the oldest first; otherwise the newest come first.
        before: only those that came before this id.

    """

    uid: int | None
    agent: str | None = None
    name: str | None = None
    channel: str | None = None
    level: str | None = None
    trace: str | None = None
    text: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    after: int | None = None
    before: int | None = None
    limit: int = 100


def find_events(db: apsw.Connection, wanted: Wanted) -> list[dict[str, Any]]:
    """A page of events, JSON-ready."""
    where, values = _conditions(wanted)
    order = "ASC" if wanted.after is not None else "DESC"
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM event JOIN run ON run.id = event.run WHERE {' AND '.join(where)}"
        f" ORDER BY event.id {order} LIMIT ?",
        (*values, min(wanted.limit, MAX_PAGE)),
    )
    return [_event(row) for row in rows]


def _conditions(wanted: Wanted) -> tuple[list[str], list[Any]]:
    where, values = ["1"], list[Any]()
    for condition, value in (
        ("event.uid = ?", wanted.uid),
        ("agent = ?", wanted.agent),
        ("name = ?", wanted.name),
        ("channel = ?", wanted.channel),
        ("trace = ?", wanted.trace),
        ("time_us >= ?", wanted.since_us),
        ("time_us < ?", wanted.until_us),
        ("event.id > ?", wanted.after),
        ("event.id < ?", wanted.before),
    ):
        if value is not None:
            where.append(condition)
            values.append(value)
    if wanted.level is not None:
        worse = LEVELS[LEVELS.index(wanted.level) :]
        where.append(f"level IN ({', '.join('?' for _ in worse)})")
        values.extend(worse)
    words = (wanted.text or "").replace('"', " ").replace("\0", " ").split()
    if words:
        where.append("event.id IN (SELECT rowid FROM event_text WHERE event_text MATCH ?)")
        values.append(" ".join(f'"{word}"' for word in words))
    return where, values


def _event(row: Sequence[Any]) -> dict[str, Any]:
    (id, uid, agent, run, pid, sender, program, environment, seq, time_us, name, channel, level) = row[:13]
    trace, span, parent, duration_us, status, data = row[13:]
    return {
        "id": id,
        "time": _time(time_us),
        "agent": agent,
        "name": name,
        "channel": channel,
        "level": level,
        "data": json.loads(data),
        "trace": trace,
        "span": span,
        "parent": parent,
        "duration_ms": None if duration_us is None else duration_us / 1000,
        "status": status,
        "uid": uid,
        "pid": pid,
        "sender_pid": sender,
        "program": program,
        "environment": environment,
        "run": run,
        "seq": seq,
    }


def totals(db: apsw.Connection, uid: int | None) -> Mapping[str, Any]:
    """What the events add up to, by source, by channel and by level; JSON-ready."""
    mine, values = ("1", ()) if uid is None else ("event.uid = ?", (uid,))
    sources = db.execute(
        "SELECT agent, event.uid, count(*), count(DISTINCT event.run), sum(level IN ('ERROR', 'CRITICAL')),"
        f" min(time_us), max(time_us) FROM event JOIN run ON run.id = event.run WHERE {mine}"
        f" GROUP BY agent, event.uid ORDER BY count(*) DESC LIMIT {_MOST_SOURCES}",
        values,
    )
    names = ("agent", "uid", "events", "runs", "errors", "first", "last")
    found = [dict(zip(names, (*row[:5], _time(row[5]), _time(row[6])), strict=True)) for row in sources]
    return {
        "events": int(db.execute(f"SELECT count(*) FROM event WHERE {mine}", values).get),
        "sources": found,
        "channels": _counted(db, "channel", mine, values),
        "levels": _counted(db, "level", mine, values),
    }


def _counted(db: apsw.Connection, column: str, mine: str, values: tuple[Any, ...]) -> dict[str, int]:
    rows = db.execute(
        f"SELECT {column}, count(*) FROM event WHERE {mine} GROUP BY 1 ORDER BY 2 DESC LIMIT {_MOST_SOURCES}", values
    )
    return {str(name): int(count) for name, count in rows}


def _time(time_us: int) -> str | None:
    """As RFC 3339 in UTC; None where a program's clock said what no calendar has."""
    try:
        return (
            datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        )
    except (OverflowError, ValueError, OSError):
        return None
