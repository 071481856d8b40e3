"""Where alerts are kept: a SQLite file of its own, beside that of the events.

How far the findings have been seen is written in the same transaction as the alerts that came of them, so that a crash
neither loses one nor makes one twice. What is still to be told to a sink is a row as well, which goes when it was told.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import apsw

from skilld.monitor.alerts.alert import SEVERITIES, TOO_MANY, Alert, AlertRules, Seen
from skilld.monitor.alerts.schema import STEPS
from skilld.monitor.database import WrittenFile
from skilld.monitor.questions import asked

__all__ = ["MAX_PAGE", "AlertStore", "NoSuchAlert", "Pruned", "Taken", "WantedAlerts"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_PAGE: Final = 1_000
_PRUNE_AT_ONCE: Final = 1_000
_MAX_NOTE_CHARS: Final = 2_000
_NAMES: Final = tuple(field.name for field in fields(Alert))
_COLUMNS: Final = ", ".join(_NAMES)
_STRENGTHS: Final = ("allow", "modify", "block")


class NoSuchAlert(Exception):
    """There is none of this id that the asker may see."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of findings: alerts that are new, findings of alerts that there were, and findings of no alert."""

    new: tuple[Alert, ...]
    folded: int
    suppressed: int
    ignored: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many alerts were removed, and of how many of them a sink was not told, by sink."""

    removed: int
    given_up: Mapping[str, int]


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
        self._allowances: dict[int, tuple[float, float]] = {}  # by uid: alerts left, and as of when
        self._file = WrittenFile(path, STEPS, ("alert",), "alerts")
        self._transact = self._file.transact
        self._secret = self._transact(lambda: str(self._db.execute("SELECT value FROM secret").get))

    @property
    def _db(self) -> apsw.Connection:
        return self._file.db

    def secret(self) -> str:
        """What only this daemon knows: the same for as long as it runs, and after that while the file is kept."""
        return self._secret

    def place(self, name: str) -> int:
        """How far whoever has this name has come; 0 before the beginning."""
        return self._transact(lambda: self._place(name))

    def _place(self, name: str) -> int:
        return int(self._db.execute("SELECT coalesce(max(value), 0) FROM place WHERE name = ?", (name,)).get)

    def set_place(self, name: str, value: int) -> None:
        """Keep how far whoever has this name has come."""
        self._transact(lambda: self._set_place(name, value))

    def _set_place(self, name: str, value: int) -> None:
        self._db.execute("INSERT INTO place VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", (name, value))

    def forget_place(self, name: str) -> None:
        """Nobody will go on from there."""
        self._transact(lambda: self._db.execute("DELETE FROM place WHERE name = ?", (name,)))

    def take_in(self, seen: Sequence[Seen], rules: AlertRules, now_us: int, *, follower: str = "findings") -> Taken:
        """Make alerts of findings, and keep that these were seen. Those that were seen before change nothing.

        Raises:
            apsw.Error: and nothing was changed.

        """
        return self._transact(lambda: self._take_in(seen, rules, now_us, follower))

    def _take_in(self, seen: Sequence[Seen], rules: AlertRules, now_us: int, follower: str) -> Taken:
        new: list[int] = []
        folded = suppressed = ignored = 0
        least = SEVERITIES.index(rules.min_severity)
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
        return Taken(tuple(self._get(id) for id in new), folded, suppressed, ignored)

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
        """Count it to the alert of this key that is young enough. False if there is none.

        What is worse than all before it opens the alert again; of that, and of the first that sinks are to hear of,
        they are told.
        """
        row = self._db.execute(
            "SELECT id, severity, action, told FROM alert WHERE id = (SELECT max(id) FROM alert WHERE uid = ?1"
            " AND rule = ?2 AND agent = ?3 AND session = ?4) AND first_us > ?5",
            (*key, now_us - int(rules.dedup_s * 1_000_000)),
        ).fetchone()
        if row is None:
            return False
        id, severity, action, told = cast("tuple[int, str, str, int]", row)
        self._db.execute(
            "UPDATE alert SET count = count + 1, last_us = ?2, severity = ?3, action = ?4, told = ?5 WHERE id = ?1",
            (
                *(id, now_us, max(severity, one.severity, key=SEVERITIES.index)),
                *(max(action, one.action, key=_STRENGTHS.index), told or one.told),
            ),
        )
        is_worse = SEVERITIES.index(one.severity) > SEVERITIES.index(severity)
        if is_worse:
            self._db.execute(
                "UPDATE alert SET state = 'open', by_uid = NULL, acknowledged_us = NULL, note = '' WHERE id = ?", (id,)
            )
        if one.told and (is_worse or not told):
            self._have_told(id, rules)
        return True

    def _have_told(self, id: int, rules: AlertRules) -> None:
        self._db.executemany("INSERT OR IGNORE INTO untold VALUES (?, ?)", [(sink, id) for sink in rules.sinks])

    def _add(self, one: Seen, rules: AlertRules, now_us: int, *, together: bool = False) -> int:
        agent, session, rule = ("", "", TOO_MANY) if together else (one.agent, one.session, one.rule)
        self._db.execute(
            "INSERT INTO alert (uid, agent, session, rule, category, severity, confidence, direction, sample, event,"
            " trace, span, action, first_us, last_us, told, count, state, note)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 'open', '')",
            (
                *(one.uid, agent, session, rule, one.category, one.severity, one.confidence, one.direction),
                *(one.sample, one.event, one.trace, one.span, one.action, now_us, now_us, one.told),
            ),
        )
        id = self._file.newest["alert"] = self._db.last_insert_rowid()
        if one.told:
            self._have_told(id, rules)
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
        question = f"SELECT {_COLUMNS} FROM alert WHERE {' AND '.join(where)} ORDER BY id {order} LIMIT ?"
        rows = self._transact(lambda: self._db.execute(question, (*values, min(wanted.limit, MAX_PAGE))).fetchall())
        return [_alert(row) for row in rows]

    def get(self, id: int, uid: int | None) -> Alert:
        """One alert; of this user, unless that is None. Raises NoSuchAlert."""
        found = self._transact(lambda: self._get(id))
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

        def note_it() -> tuple[bool, Alert]:
            self._db.execute(
                "UPDATE alert SET state = 'acknowledged', by_uid = ?3, acknowledged_us = ?4, note = ?5"
                " WHERE id = ?1 AND (?2 IS NULL OR uid = ?2) AND state = 'open'",
                (id, uid, by_uid, now_us, note[:_MAX_NOTE_CHARS]),
            )
            return bool(self._db.changes()), self._get(id)

        done, found = self._transact(note_it)
        if uid is not None and found.uid != uid:
            raise NoSuchAlert(id)
        return found, done

    def untold(self, sink: str, after: int = 0) -> Alert | None:
        """The oldest alert after this one that this sink was not told of; if there is none, the oldest of all."""

        def oldest() -> Alert | None:
            question = (
                "SELECT coalesce((SELECT min(alert) FROM untold WHERE sink = ?1 AND alert > ?2),"
                " (SELECT min(alert) FROM untold WHERE sink = ?1))"
            )
            id = self._db.execute(question, (sink, after)).get
            return None if id is None else self._get(id)

        return self._transact(oldest)

    def tell_done(self, sink: str, id: int, severity: str) -> None:
        """It was told, or is given up, as one of this severity: if it is worse by now, it is still to be told."""
        self._transact(
            lambda: self._db.execute(
                "DELETE FROM untold WHERE sink = ?1 AND alert = ?2"
                " AND NOT EXISTS (SELECT 1 FROM alert WHERE id = ?2 AND severity <> ?3)",
                (sink, id, severity),
            )
        )

    def prune(self, rules: AlertRules, now_us: int) -> Pruned:
        """Remove some of what is too old or too many. To be called until it removes nothing."""

        def prune() -> Pruned:
            before = self._untold_counts()
            removed = self._prune(rules, now_us)
            after = self._untold_counts()
            return Pruned(removed, {sink: count - after[sink] for sink, count in before.items()})

        return self._transact(prune)

    def _untold_counts(self) -> Counter[str]:
        rows = self._db.execute("SELECT sink, count(*) FROM untold GROUP BY sink").fetchall()
        return Counter(dict(cast("list[tuple[str, int]]", rows)))

    def _prune(self, rules: AlertRules, now_us: int) -> int:
        db = self._db
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
        self._file.close()


def _conditions(wanted: WantedAlerts) -> tuple[list[str], list[Any]]:
    conditions = (
        *((f"{name} = ?", getattr(wanted, name)) for name in ("uid", "state", "category", "rule", "agent", "session")),
        ("id > ?", wanted.after),
        ("id < ?", wanted.before),
    )
    where, values = asked(conditions)
    if wanted.severity is not None:
        worse = SEVERITIES[SEVERITIES.index(wanted.severity) :]
        where.append(f"severity IN ({', '.join('?' for _ in worse)})")
        values.extend(worse)
    return where, values


def _alert(row: Sequence[Any]) -> Alert:
    return Alert(**dict(zip(_NAMES, row, strict=True)))
