"""Where reported events are kept: a SQLite file of its own, which has nothing to do with the journal's.

A batch is acknowledged when its transaction is on the disk (WAL, synchronous=FULL): neither the end of the daemon nor a
power cut loses what a program was told is kept. Batches that wait for the file share one transaction, so that many
programs wait for the disk together.

An event is known by user, run and number, so that a batch that is sent twice is kept once. When the file has grown to
its bound, the oldest events of whoever has most of it go.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from skilld.monitor.batch import Batch, MonitorEvent, as_json, as_name, storable
from skilld.monitor.database import DAMAGE, WrittenFile
from skilld.monitor.inspected import Found, Inspected, Origin
from skilld.monitor.prices import COST
from skilld.monitor.readers import Away, Readers
from skilld.monitor.schema import PER_EVENT_BYTES, STEPS
from skilld.monitor.usage import CallUse, call_use

__all__ = ["MOST_READERS", "EventStore", "SlowQuestion", "Written"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
Row = tuple[Any, ...]

MOST_READERS: Final = 6
"""Questions that are answered at once; one more waits for the first that is."""

_PRUNE_EVENTS: Final = 1_000  # at once: about 20 ms
_STEPS: Final = 20_000  # of SQLite's machine between two looks at the clock: about 1 ms
_NUMBERED: Final = ("event", "finding")
_COLUMNS: Final = (
    "seq, time_us, name, channel, level, trace, span, parent, duration_us, status, data, session, user, tags, agent,"
    " masked, model, input_tokens, output_tokens, cost_usd, id, run, uid, received_us"
)
_EVENT: Final = f"INSERT INTO event ({_COLUMNS}) VALUES ({', '.join('?' * 24)})"
_WORDS: Final = "INSERT INTO event_text (rowid, name, data) VALUES (?, ?, ?)"
_BY_NUMBER: Final = "SELECT 1 FROM event WHERE run = ? AND seq = ?"
_BY_SPAN: Final = (
    "SELECT 1 FROM event WHERE span = ? AND trace = ? AND uid = ? AND span IS NOT NULL AND duration_us IS NOT NULL"
    " LIMIT 1"
)
_FINDING: Final = (
    "INSERT INTO finding (event, rule, category, severity, alert, confidence, direction, masked_sample, time_us)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch's events.

    Args:
        kept: places in the batch of those that were stored; None for all of them.
        unstorable: places of those that no file can hold.

    """

    stored: int
    duplicates: int
    quarantined: int = 0
    kept: frozenset[int] | None = field(default=None, compare=False)
    unstorable: frozenset[int] = field(default=frozenset(), compare=False)


class SlowQuestion(Exception):
    """A question took longer than it may."""


class EventStore:
    """The file, and the only one who writes it. Every method blocks and may be called in any thread."""

    def __init__(self, path: Path) -> None:
        self._readers = readers = Readers(path, MOST_READERS)
        self._file = WrittenFile(path, STEPS, _NUMBERED, "reported events", readers.leave, readers.begin)
        self._transact = self._file.transact

    @property
    def _db(self) -> apsw.Connection:
        return self._file.db

    def write(self, batches: Sequence[tuple[Inspected, Origin]]) -> list[Written]:
        """Keep the events of batches that are not kept yet, and what was found in those.

        Raises apsw.Error, or ValueError and the like for content that no file holds; nothing of any is kept then.
        """
        now_us = time.time_ns() // 1000
        ready = [
            (inspected, origin, [_row(event) for event in inspected.batch.events]) for inspected, origin in batches
        ]
        return self._transact(
            lambda: [self._write_one(inspected, origin, rows, now_us) for inspected, origin, rows in ready]
        )

    def _write_one(self, inspected: Inspected, origin: Origin, rows: list[Row], now_us: int) -> Written:
        if not rows:  # a run without events would be nobody's to remove
            return Written(0, 0)
        run = self._run_of(inspected.batch, origin)
        ids = self._insert(rows, (run, origin.uid, now_us))
        if ids:
            size = sum(len(rows[index][2]) + len(rows[index][10]) for index in ids) + len(ids) * PER_EVENT_BYTES
            self._db.executemany(_WORDS, [(id, rows[index][2], rows[index][10]) for index, id in ids.items()])
            self._db.execute(
                "INSERT INTO used VALUES (?1, ?2, ?3) ON CONFLICT (uid) DO UPDATE SET"
                " events = events + ?2, bytes = bytes + ?3",
                (origin.uid, len(ids), size),
            )
            if findings := _findings(inspected.findings, ids, now_us):
                self._db.executemany(_FINDING, findings)
                self._file.newest["finding"] = self._db.last_insert_rowid()
        kept = None if len(ids) == len(rows) else frozenset(ids)
        return Written(len(ids), len(rows) - len(ids), kept=kept)

    def _insert(self, rows: list[Row], ending: Row) -> dict[int, int]:
        """Store those of the rows that are not stored yet; their ids, by their places in `rows`.

        The ids of events have no gaps, so that who follows them knows what was removed before it came.
        """
        fresh = self._fresh(rows, *ending[:2])
        question = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'"
        ids = dict(zip(fresh, itertools.count(1 + int(self._db.execute(question).get)), strict=False))
        self._db.executemany(_EVENT, [(*rows[index], id, *ending) for index, id in ids.items()])
        if ids:
            self._file.newest["event"] = max(ids.values())
        return ids

    def _fresh(self, rows: list[Row], run: int, uid: int) -> Iterable[int]:
        """The places of the rows that are not stored yet, each number once, and each span by whichever way it came."""
        newest = int(self._db.execute("SELECT coalesce(max(seq), -1) FROM event WHERE run = ?", (run,)).get)
        fresh: dict[int, int] = {}
        spans: set[tuple[str, str]] = set()
        for index, row in enumerate(rows):
            if row[0] in fresh or (row[0] <= newest and self._has(_BY_NUMBER, (run, row[0]))):
                continue
            trace, span, duration_us = row[5], row[6], row[8]
            if trace is not None and span is not None and duration_us is not None:
                if (trace, span) in spans or self._has(_BY_SPAN, (span, trace, uid)):
                    continue
                spans.add((trace, span))
            fresh[row[0]] = index
        return fresh.values()

    def _has(self, question: str, values: Row) -> bool:
        return self._db.execute(question, values).get is not None

    def _run_of(self, batch: Batch, origin: Origin) -> int:
        self._db.execute(
            "INSERT OR IGNORE INTO run (uid, run, agent, pid, sender_pid, program, environment) VALUES (?,?,?,?,?,?,?)",
            (origin.uid, batch.run, batch.agent, batch.pid, origin.pid, batch.program, batch.environment),
        )
        return int(self._db.execute("SELECT id FROM run WHERE uid = ? AND run = ?", (origin.uid, batch.run)).get)

    def prune(self, keep_s: float, max_bytes: int) -> int:
        """Remove some of what is too old, or too much; how many events. To be called until it says 0."""
        before_us = int((time.time() - keep_s) * 1_000_000)
        return self._transact(lambda: self._prune(before_us, max_bytes))

    def _prune(self, before_us: int, max_bytes: int) -> int:
        db = self._db
        # The first that came are the oldest: looking at no more of them than may go spares reading the whole file.
        runs = db.execute(
            "DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY id LIMIT ?) AND received_us < ?"
            " RETURNING run",
            (_PRUNE_EVENTS, before_us),
        ).fetchall()
        if not runs and self.size_bytes() > max_bytes:
            runs = db.execute(
                "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE uid ="
                " (SELECT uid FROM used ORDER BY bytes DESC LIMIT 1) ORDER BY id LIMIT ?) RETURNING run",
                (_PRUNE_EVENTS,),
            ).fetchall()
        self._forget(runs)
        return len(runs)

    def remove_before(self, uid: int | None, before_us: int) -> int:
        """Remove some of what is older by the programs' clocks, of one user or all. To be called until it says 0."""
        mine, values = ("", ()) if uid is None else (" AND uid = ?", (uid,))

        def remove() -> int:
            runs = self._db.execute(
                f"DELETE FROM event WHERE id IN (SELECT id FROM event WHERE time_us < ?{mine} LIMIT ?) RETURNING run",
                (before_us, *values, _PRUNE_EVENTS),
            ).fetchall()
            self._forget(runs)
            return len(runs)

        return self._transact(remove)

    def _forget(self, runs: Sequence[Row]) -> None:
        """Remove what is left of runs of which events were removed, where it is nothing."""
        for (run,) in set(runs):
            self._db.execute(
                "DELETE FROM run WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM event WHERE event.run = ?1)", (run,)
            )
        if runs:
            self._db.execute("DELETE FROM used WHERE events <= 0")

    def optimize(self) -> tuple[int, int]:
        """Make the file as small and quick as it can be; its bytes before and after. Nothing is written meanwhile."""
        with self._file.held():
            try:
                before = self._file_bytes()
                self._db.execute("INSERT INTO event_text (event_text) VALUES ('optimize')")
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA optimize")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except DAMAGE as error:
                self._file.begin_again(error)
                before = self._file_bytes()
            return before, self._file_bytes()

    def _file_bytes(self) -> int:
        return int(self._db.pragma("page_count")) * int(self._db.pragma("page_size"))

    @property
    def path(self) -> Path:
        """Of the file."""
        return self._file.path

    def size_bytes(self) -> int:
        """What of the file is in use."""
        pages = int(self._db.pragma("page_count")) - int(self._db.pragma("freelist_count"))
        return pages * int(self._db.pragma("page_size"))

    def newest_id(self, table: str = "event") -> int:
        """Of all events, or findings, that were ever stored; 0 before the first."""
        question = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?"
        return self.ask(lambda db: int(db.execute(question, (table,)).get))

    def cursor(self, name: str) -> int | None:
        """How far a follower has come; None for one that never was."""
        found = self.ask(lambda db: db.execute("SELECT at FROM follower WHERE name = ?", (name,)).get)
        return None if found is None else int(found)

    def set_cursor(self, name: str, id: int) -> None:
        """A follower has seen to everything up to this id."""
        statement = "INSERT INTO follower VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET at = ?2"
        self._transact(lambda: self._db.execute(statement, (name, id)))

    def ask(self, question: Callable[[apsw.Connection], T], limit_s: float | None = None) -> T:
        """What a question finds in one consistent view, beside the writer and other questions.

        Args:
            limit_s: how long it may look, once it has begun; None for as long as it takes.

        Raises what the question does, and SlowQuestion; of a file that is damaged nothing, but for what is asked of the
        one begun anew, and apsw.Error while none can be.
        """
        damage: tuple[int, apsw.Error] | None = None
        try:
            with self._readers.lend() as reader:
                try:
                    return _ask(reader.db, question, limit_s)
                except DAMAGE as error:
                    damage = reader.file, error
        except Away:
            pass
        with self._file.held():
            if damage is not None and damage[0] == self._readers.file:  # else somebody has seen to it
                self._file.begin_again(damage[1])
        try:
            with self._readers.lend() as reader:
                return _ask(reader.db, question, limit_s)
        except Away as error:  # somebody has found that one damaged too
            raise apsw.BusyError("the file is damaged, and another is not begun yet") from error

    def close(self) -> None:
        """Close the file, when who uses it is done. May be called twice."""
        self._readers.close()
        self._file.close()


def _ask(reader: apsw.Connection, question: Callable[[apsw.Connection], T], limit_s: float | None) -> T:
    ends_at = float("inf") if limit_s is None else time.monotonic() + limit_s
    if limit_s is not None:
        reader.set_progress_handler(lambda: time.monotonic() >= ends_at, _STEPS)
    try:
        with reader:
            found = question(reader)
    except apsw.InterruptError as error:
        if time.monotonic() < ends_at:
            raise apsw.ConnectionClosedError("the file is closed") from error
        raise SlowQuestion(f"it took longer than {limit_s:g} s") from error
    finally:
        reader.set_progress_handler(None)
    return found


def _row(event: MonitorEvent) -> Row:
    """The event in the order of the columns, up to what only the store knows."""
    use = call_use(event)
    return (
        *event[:10],
        as_json(event.data),
        event.session,
        event.user,
        as_json(event.tags) if event.tags else None,
        event.agent,
        as_json(event.masked) if event.masked else None,
        *((None,) * 4 if use is None else _used(use, event.data.get(COST))),
    )


def _used(use: CallUse, cost: Any) -> Row:
    return as_name(use.model, 200), use.input_tokens, use.output_tokens, cost if isinstance(cost, float) else None


def _findings(findings: Iterable[Found], ids: dict[int, int], now_us: int) -> list[Row]:
    """Rows for what was found in the events that were stored; the others' are there already."""
    return [
        (
            *(ids[one.index], as_name(one.finding.rule, 200), one.finding.category, one.finding.severity),
            *(one.finding.alert, one.finding.confidence, one.finding.direction, storable(one.sample), now_us),
        )
        for one in findings
        if one.index in ids
    ]
