"""Where alerts are kept: a SQLite file of its own, beside that of the events.

How far the findings have been seen is written in the same transaction as the alerts that came of them, so that a crash
neither loses one nor makes one twice. What is still to be told to a sink is a row as well, which goes when it was told.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, cast

import apsw

from skilld.monitor.alerts.alert import SEVERITIES, TOO_MANY, Alert, AlertRules, Seen

__all__ = ["MAX_PAGE", "AlertStore", "NoSuchAlert", "Taken", "WantedAlerts"]

MAX_PAGE: Final = 1_000
_VERSION: Final = 1
_BUSY_MS: Final = 5_000
_PRUNE_AT_ONCE: Final = 1_000
_MAX_NOTE_CHARS: Final = 2_000
_NAMES: Final = tuple(field.name for field in fields(Alert))
_COLUMNS: Final = ", ".join(_NAMES)
_SCHEMA: Final = """
CREATE TABLE alert (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    rule TEXT NOT NULL,
    category TEXT NOT NULL,
    severity TEXT NOT NULL,
    confidence REAL NOT NULL,
    direction TEXT NOT NULL,
    sample TEXT NOT NULL,
    event INTEGER NOT NULL,
    trace TEXT,
    span TEXT,
    action TEXT NOT NULL,
    first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    count INTEGER NOT NULL,
    state TEXT NOT NULL,
    by_uid INTEGER,
    acknowledged_us INTEGER,
    note TEXT NOT NULL
) STRICT;
CREATE INDEX alert_by_key ON alert (uid, rule, agent, session, id);
CREATE INDEX alert_by_uid ON alert (uid, id);
CREATE INDEX alert_by_state ON alert (state, id);
CREATE TABLE untold (sink TEXT NOT NULL, alert INTEGER NOT NULL, PRIMARY KEY (sink, alert)) STRICT, WITHOUT ROWID;
CREATE TABLE place (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TRIGGER alert_removed AFTER DELETE ON alert BEGIN
    DELETE FROM untold WHERE alert = old.id;
END;
"""


class NoSuchAlert(Exception):
    """There is none of this id that the asker may see."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of findings: alerts that are new, findings of alerts that there were, and findings of no alert."""

    new: tuple[Alert, ...]
    folded: int
    suppressed: int
    ignored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedAlerts:
    """Which alerts.

    Args:
        uid: whose; None for everybody's.
        severity: this or a worse one.
        after: only those with a larger id, the oldest first; otherwise the newest come first.

    """

    uid: int | None
    state: str | None = None
    severity: str | None = None
    category: str | None = None
    rule: str | None = None
    agent: str | None = None
    session: str | None = None
    after: int | None = None
    before: int | None = None
    limit: int = 100


class AlertStore:
    """The file. Every method blocks and may be called in any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._allowances: dict[int, tuple[float, float]] = {}  # by uid: alerts left, and as of when
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._db = _connect(path)
        except (apsw.NotADBError, apsw.CorruptError):
            os.replace(path, path.with_name(f"{path.name}.damaged-{time.time_ns()}"))
            for ending in ("-wal", "-shm"):
                path.with_name(path.name + ending).unlink(missing_ok=True)
            self._db = _connect(path)

    def place(self, name: str) -> int:
        """How far whoever has this name has come; 0 before the beginning."""
        with self._lock:
            return self._place(name)

    def _place(self, name: str) -> int:
        return int(self._db.execute("SELECT coalesce(max(value), 0) FROM place WHERE name = ?", (name,)).get)

    def set_place(self, name: str, value: int) -> None:
        """Keep how far whoever has this name has come."""
        with self._lock, self._db:
            self._set_place(name, value)

    def _set_place(self, name: str, value: int) -> None:
        self._db.execute("INSERT INTO place VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", (name, value))

    def take_in(self, seen: Sequence[Seen], rules: AlertRules, now_us: int, *, follower: str = "findings") -> Taken:
        """Make alerts of findings, and keep that these were seen. Those that were seen before change nothing.

        Raises:
            apsw.Error: and nothing was changed.

        """
        new: list[int] = []
        folded = suppressed = ignored = 0
        least = SEVERITIES.index(rules.min_severity)
        with self._lock, self._db:
            last = self._place(follower)
            for one in seen:
                if one.id <= last:
                    continue
                last = one.id
                if SEVERITIES.index(one.severity) < least:
                    ignored += 1
                    continue
                made, is_own = self._take_one(one, rules, now_us)
                folded += made is None and is_own
                suppressed += not is_own
                if made is not None:
                    new.append(made)
            self._set_place(follower, last)
            found = tuple(self._get(id) for id in new)
        return Taken(found, folded, suppressed, ignored)

    def _take_one(self, one: Seen, rules: AlertRules, now_us: int) -> tuple[int | None, bool]:
        """The new alert's id, if there is one, and whether the finding has an alert of its own kind."""
        key = (one.uid, one.rule, one.agent, one.session)
        if self._fold(key, one, rules, now_us):
            return None, True
        if self._may_cause(one.uid, rules.per_minute, now_us):
            return self._add(one, rules, now_us), True
        together = (one.uid, TOO_MANY, "", "")
        if self._fold(together, one, rules, now_us):
            return None, False
        return self._add(one, rules, now_us, together=True), False

    def _fold(self, key: tuple[int, str, str, str], one: Seen, rules: AlertRules, now_us: int) -> bool:
        """Count it to the alert of this key that is young enough. False if there is none."""
        self._db.execute(
            "UPDATE alert SET count = count + 1, last_us = ?5, severity = CASE WHEN ?6 = 'high' OR severity = 'low'"
            " THEN ?6 ELSE severity END WHERE id = (SELECT max(id) FROM alert WHERE uid = ?1 AND rule = ?2"
            " AND agent = ?3 AND session = ?4) AND first_us > ?7",
            (*key, now_us, one.severity, now_us - int(rules.dedup_s * 1_000_000)),
        )
        return bool(self._db.changes())

    def _add(self, one: Seen, rules: AlertRules, now_us: int, *, together: bool = False) -> int:
        agent, session, rule = ("", "", TOO_MANY) if together else (one.agent, one.session, one.rule)
        self._db.execute(
            "INSERT INTO alert (uid, agent, session, rule, category, severity, confidence, direction, sample, event,"
            " trace, span, action, first_us, last_us, count, state, note)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 'open', '')",
            (
                *(one.uid, agent, session, rule, one.category, one.severity, one.confidence, one.direction),
                *(one.sample, one.event, one.trace, one.span, one.action, now_us, now_us),
            ),
        )
        id = self._db.last_insert_rowid()
        if one.told:
            self._db.executemany("INSERT INTO untold VALUES (?, ?)", [(sink, id) for sink in rules.sinks])
        return id

    def _may_cause(self, uid: int, per_minute: int, now_us: int) -> bool:
        """Whether this user may cause another alert now."""
        left, as_of_us = self._allowances.get(uid, (float(per_minute), float(now_us)))
        left = min(float(per_minute), left + max(0.0, now_us - as_of_us) / 60e6 * per_minute)
        may = left >= 1
        self._allowances[uid] = (left - may, float(now_us))
        return may

    def find(self, wanted: WantedAlerts) -> list[Alert]:
        """A page of alerts."""
        where, values = _conditions(wanted)
        order = "ASC" if wanted.after is not None else "DESC"
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM alert WHERE {' AND '.join(where)} ORDER BY id {order} LIMIT ?",
                (*values, min(wanted.limit, MAX_PAGE)),
            ).fetchall()
        return [_alert(row) for row in rows]

    def get(self, id: int, uid: int | None) -> Alert:
        """One alert; of this user, unless that is None. Raises NoSuchAlert."""
        with self._lock:
            found = self._get(id)
        if uid is not None and found.uid != uid:
            raise NoSuchAlert(id)
        return found

    def _get(self, id: int) -> Alert:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM alert WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NoSuchAlert(id)
        return _alert(row)

    def acknowledge(self, id: int, uid: int | None, by_uid: int, note: str, now_us: int) -> tuple[Alert, bool]:
        """Note who has seen it, and what that one says. The first one stays: the alert, and whether it is this one.

        Args:
            uid: whose alert it has to be; None: anybody's.

        Raises:
            NoSuchAlert: there is none of this id and user.

        """
        with self._lock, self._db:
            self._db.execute(
                "UPDATE alert SET state = 'acknowledged', by_uid = ?3, acknowledged_us = ?4, note = ?5"
                " WHERE id = ?1 AND (?2 IS NULL OR uid = ?2) AND state = 'open'",
                (id, uid, by_uid, now_us, note[:_MAX_NOTE_CHARS]),
            )
            done = bool(self._db.changes())
            found = self._get(id)
        if uid is not None and found.uid != uid:
            raise NoSuchAlert(id)
        return found, done

    def untold(self, sink: str) -> Alert | None:
        """The oldest alert that this sink was not told of."""
        with self._lock:
            row = self._db.execute("SELECT alert FROM untold WHERE sink = ? ORDER BY alert LIMIT 1", (sink,)).fetchone()
            return None if row is None else self._get(row[0])

    def tell_done(self, sink: str, id: int) -> None:
        """It was told, or is given up."""
        with self._lock, self._db:
            self._db.execute("DELETE FROM untold WHERE sink = ? AND alert = ?", (sink, id))

    def counts(self) -> dict[str, int]:
        """How many alerts are open, and how many of all are still to be told, by sink."""
        with self._lock:
            counted = self._db.execute("SELECT sink, count(*) FROM untold GROUP BY sink").fetchall()
            open_now = int(self._db.execute("SELECT count(*) FROM alert WHERE state = 'open'").get)
        return {"open": open_now, **{f"untold_{sink}": cast("int", count) for sink, count in counted}}

    def prune(self, rules: AlertRules, now_us: int) -> int:
        """Remove some of what is too old or too many; how many. To be called until it says 0."""
        db = self._db
        with self._lock, db:
            db.execute(
                "DELETE FROM alert WHERE id IN (SELECT id FROM alert ORDER BY id LIMIT ?) AND last_us < ?",
                (_PRUNE_AT_ONCE, now_us - int(rules.keep_s * 1_000_000)),
            )
            removed = db.changes()
            surplus = min(int(db.execute("SELECT count(*) FROM alert").get) - rules.max_alerts, _PRUNE_AT_ONCE)
            if surplus > 0:
                db.execute(
                    "DELETE FROM alert WHERE id IN (SELECT id FROM alert ORDER BY state = 'open', id LIMIT ?)",
                    (surplus,),
                )
                removed += surplus
        return removed

    def close(self) -> None:
        """Close the file, when who uses it is done. May be called twice."""
        with self._lock:
            self._db.close()


def _conditions(wanted: WantedAlerts) -> tuple[list[str], list[Any]]:
    where, values = ["1"], list[Any]()
    for condition, value in (
        *((f"{name} = ?", getattr(wanted, name)) for name in ("uid", "state", "category", "rule", "agent", "session")),
        ("id > ?", wanted.after),
        ("id < ?", wanted.before),
    ):
        if value is not None:
            where.append(condition)
            values.append(value)
    if wanted.severity is not None:
        worse = SEVERITIES[SEVERITIES.index(wanted.severity) :]
        where.append(f"severity IN ({', '.join('?' for _ in worse)})")
        values.extend(worse)
    return where, values


def _alert(row: Sequence[Any]) -> Alert:
    return Alert(**dict(zip(_NAMES, row, strict=True)))


def _connect(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    try:
        path.chmod(0o600)
        db.set_busy_timeout(_BUSY_MS)
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "full")
        version = int(db.pragma("user_version"))
        if version > _VERSION:
            raise apsw.Error(f"{path} was written by a newer skilld (version {version} of its tables)")
        if version == 0:
            with db:
                db.execute(_SCHEMA)
                db.pragma("user_version", _VERSION)
    except BaseException:
        with contextlib.suppress(apsw.Error):
            db.close()
        raise
    return db
