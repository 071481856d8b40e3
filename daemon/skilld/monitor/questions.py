"""What can be asked about reported events: pages of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import apsw

from skilld.monitor.batch import LEVELS

__all__ = [
    "AGENT",
    "MAX_PAGE",
    "MAX_PAGE_CHARS",
    "OF_USER",
    "OF_USER_IN_FEW",
    "Wanted",
    "asked",
    "find_events",
    "lost_before",
    "time_text",
]

MAX_PAGE: Final = 1_000
MAX_PAGE_CHARS: Final = 8 << 20  # of data: a page is read into memory as a whole
AGENT: Final = "coalesce(event.agent, run.agent)"
OF_USER: Final = "event.uid = ?"
OF_USER_IN_FEW: Final = f"+{OF_USER}"
"""The same where little is asked for, such as one trace. The plus keeps SQLite from the index by user, which has the
order of a page and may have all events there are. A model is not so little: programs of all users use the same."""

_COLUMNS: Final = (
    f"event.id, event.uid, {AGENT}, run.run, pid, sender_pid, program, environment, seq, time_us, name, channel,"
    " level, trace, span, parent, duration_us, status, event.data, session, user, tags, masked, model, input_tokens,"
    " output_tokens, cost_usd"
)
_DATA: Final = 18  # its place in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events.

    Args:
        uid: whose; None for everybody's.
        text: words that the name or the data have, all of them; not a language of its own.
        level: this or a worse one; `level_is` this alone.
        tag: one of the event's.
        run: of a program, as it numbers itself; `pid` as the program says.
        since_us: microseconds since 1970, by the programs' clocks.
        after: only those that came after this id, the oldest first; otherwise the newest come first.
        before: only those that came before this id.

    """

    uid: int | None
    agent: str | None = None
    name: str | None = None
    channel: str | None = None
    level: str | None = None
    level_is: str | None = None
    trace: str | None = None
    span: str | None = None
    session: str | None = None
    user: str | None = None
    tag: str | None = None
    model: str | None = None
    run: str | None = None
    pid: int | None = None
    status: str | None = None
    min_duration_us: int | None = None
    text: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    after: int | None = None
    before: int | None = None
    limit: int = 100


def find_events(db: apsw.Connection, wanted: Wanted) -> list[dict[str, Any]]:
    """A page of events, JSON-ready: fewer than wanted, and at least one, where their data is more than a page takes."""
    where, values = _conditions(wanted)
    order = "ASC" if wanted.after is not None else "DESC"
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM event JOIN run ON run.id = event.run WHERE {' AND '.join(where)}"
        f" ORDER BY event.id {order} LIMIT ?",
        (*values, min(wanted.limit, MAX_PAGE)),
    )
    found, size = list[dict[str, Any]](), 0
    for row in rows:
        size += len(row[_DATA])
        if found and size > MAX_PAGE_CHARS:
            break
        found.append(_event(row))
    return found


def asked(conditions: Iterable[tuple[str, Any]]) -> tuple[list[str], list[Any]]:
    """Those conditions of which the value is not None, behind one that always holds; and the values."""
    given = [(condition, value) for condition, value in conditions if value is not None]
    return ["1", *(condition for condition, _ in given)], [value for _, value in given]


def _conditions(wanted: Wanted) -> tuple[list[str], list[Any]]:
    few = (wanted.trace, wanted.session, wanted.user) != (None, None, None)
    conditions = (
        (OF_USER_IN_FEW if few else OF_USER, wanted.uid),
        (f"{AGENT} = ?", wanted.agent),
        ("name = ?", wanted.name),
        ("channel = ?", wanted.channel),
        ("trace = ?", wanted.trace),
        ("level = ?", wanted.level_is),
        ("span = ?", wanted.span),
        ("session = ?", wanted.session),
        ("user = ?", wanted.user),
        ("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)", wanted.tag),
        ("model = ?", wanted.model),
        ("run.run = ?", wanted.run),
        ("pid = ?", wanted.pid),
        ("status = ?", wanted.status),
        ("duration_us >= ?", wanted.min_duration_us),
        ("time_us >= ?", wanted.since_us),
        ("time_us < ?", wanted.until_us),
        ("event.id > ?", wanted.after),
        ("event.id < ?", wanted.before),
    )
    where, values = asked(conditions)
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
    trace, span, parent, duration_us, status, data, session, user, tags, masked = row[13:23]
    model, input_tokens, output_tokens, cost_usd = row[23:]
    return {
        "id": id,
        "time": time_text(time_us),
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
        "session": session,
        "user": user,
        "tags": json.loads(tags) if tags else [],
        "masked": json.loads(masked) if masked else [],
        "model": model,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cost_usd": cost_usd,
    }


def lost_before(events: Sequence[Mapping[str, Any]], after: int) -> int:
    """How many were removed before a follower saw them: what the ids of a page leave out that was asked for whole."""
    return events[-1]["id"] - after - len(events) if events else 0


def time_text(time_us: int) -> str | None:
    """As RFC 3339 in UTC; None where a program's clock said what no calendar has."""
    try:
        return (
            datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        )
    except (OverflowError, ValueError, OSError):
        return None
