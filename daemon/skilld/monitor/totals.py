"""What reported events add up to: by source, name, channel and level; what models did, by model, session and user."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import apsw

from skilld.monitor.questions import AGENT, OF_USER, OF_USER_IN_FEW, asked, time_text

__all__ = ["TotalsWanted", "find_sessions", "totals"]

_MOST: Final = 200  # of each kind; those with the most
_FROM: Final = "FROM event JOIN run ON run.id = event.run"
_ERRORS: Final = "count(*) FILTER (WHERE level IN ('ERROR', 'CRITICAL'))"
_USAGE: Final = "coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), sum(cost_usd)"
_USAGE_NAMES: Final = ("input_tokens", "output_tokens", "cost_usd")
_UNPRICED: Final = "count(*) FILTER (WHERE cost_usd IS NULL AND (input_tokens > 0 OR output_tokens > 0))"


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsWanted:
    """Which events are added up.

    Args:
        uid: whose; None for everybody's.
        since_us: microseconds since 1970, by the programs' clocks.

    """

    uid: int | None
    agent: str | None = None
    session: str | None = None
    since_us: int | None = None
    until_us: int | None = None


def totals(db: apsw.Connection, wanted: TotalsWanted) -> Mapping[str, Any]:
    """What the events add up to; JSON-ready. A cost is that of the calls whose price is known; None without any."""
    where, values = _conditions(wanted)
    return {
        "events": int(db.execute(f"SELECT count(*) {_FROM} WHERE {where}", values).get),
        "sources": _sources(db, where, values),
        **{
            name: _counted(db, column, where, values)
            for name, column in (("channels", "channel"), ("levels", "level"), ("names", "name"))
        },
        "models": _used(db, "model", where, values),
        "users": _used_apart(db, "user", where, values),
        "sessions": _used_apart(db, "session", where, values),
        "findings": _findings(db, where, values),
        **dict(zip(_USAGE_NAMES, _one(db, f"SELECT {_USAGE} {_FROM} WHERE {where}", values), strict=True)),
        "unpriced": int(db.execute(f"SELECT {_UNPRICED} {_FROM} WHERE {where}", values).get),
    }


def find_sessions(db: apsw.Connection, wanted: TotalsWanted, limit: int) -> list[dict[str, Any]]:
    """The programs' conversations, the latest first; JSON-ready."""
    where, values = _conditions(wanted)
    rows = db.execute(
        f"SELECT session, event.uid, json_group_array(DISTINCT {AGENT}), max(user), count(*), count(model), {_ERRORS},"
        f" {_USAGE}, min(time_us), max(time_us) {_FROM} WHERE session IS NOT NULL AND {where}"
        " GROUP BY session, event.uid ORDER BY max(event.id) DESC LIMIT ?",
        (*values, limit),
    )
    return [
        {
            **dict(zip(("session", "uid", "agents", "user", "events", "calls", "errors"), row, strict=False)),
            "agents": json.loads(row[2]),
            **dict(zip(_USAGE_NAMES, row[7:10], strict=True)),
            "first": time_text(row[10]),
            "last": time_text(row[11]),
        }
        for row in rows
    ]


def _conditions(wanted: TotalsWanted) -> tuple[str, tuple[Any, ...]]:
    conditions = (
        (OF_USER if wanted.session is None else OF_USER_IN_FEW, wanted.uid),
        (f"{AGENT} = ?", wanted.agent),
        ("session = ?", wanted.session),
        ("event.time_us >= ?", wanted.since_us),
        ("event.time_us < ?", wanted.until_us),
    )
    where, values = asked(conditions)
    return " AND ".join(where), tuple(values)


def _sources(db: apsw.Connection, where: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    rows = db.execute(
        f"SELECT {AGENT}, event.uid, count(*), count(DISTINCT event.run), {_ERRORS}, min(time_us), max(time_us),"
        f" {_USAGE} {_FROM} WHERE {where} GROUP BY 1, event.uid ORDER BY count(*) DESC LIMIT {_MOST}",
        values,
    )
    names = ("agent", "uid", "events", "runs", "errors", "first", "last", *_USAGE_NAMES)
    return [dict(zip(names, (*row[:5], time_text(row[5]), time_text(row[6]), *row[7:]), strict=True)) for row in rows]


def _used(db: apsw.Connection, column: str, where: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Calls of models by what the column says, the dearest first."""
    return _used_by((column,), (column,), db, where, values)


def _used_apart(db: apsw.Connection, column: str, where: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    """As `_used`; what programs of several users of this host call by the same name is not the same."""
    return _used_by((column, "event.uid"), (column, "uid"), db, where, values)


def _used_by(
    columns: tuple[str, ...], names: tuple[str, ...], db: apsw.Connection, where: str, values: tuple[Any, ...]
) -> list[dict[str, Any]]:
    by = ", ".join(columns)
    rows = db.execute(
        f"SELECT {by}, count(*) FILTER (WHERE model IS NOT NULL) AS calls, {_ERRORS}, {_USAGE}, {_UNPRICED} {_FROM}"
        f" WHERE {columns[0]} IS NOT NULL AND {where} GROUP BY {by} ORDER BY sum(cost_usd) DESC, calls DESC"
        f" LIMIT {_MOST}",
        values,
    )
    names = (*names, "calls", "errors", *_USAGE_NAMES, "unpriced")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _counted(db: apsw.Connection, column: str, where: str, values: tuple[Any, ...]) -> dict[str, int]:
    rows = db.execute(
        f"SELECT {column}, count(*) {_FROM} WHERE {where} GROUP BY 1 ORDER BY 2 DESC LIMIT {_MOST}", values
    )
    return {str(name): int(count) for name, count in rows}


def _findings(db: apsw.Connection, where: str, values: tuple[Any, ...]) -> dict[str, dict[str, int]]:
    """How many, by category and severity."""
    found: dict[str, dict[str, int]] = {}
    for category, severity, count in db.execute(
        "SELECT category, severity, count(*) FROM finding JOIN event ON event.id = finding.event"
        f" JOIN run ON run.id = event.run WHERE {where} GROUP BY 1, 2",
        values,
    ):
        found.setdefault(str(category), {})[str(severity)] = int(count)
    return found


def _one(db: apsw.Connection, question: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    (row,) = db.execute(question, values)
    return tuple(row)
