"""Where reported events are kept: a SQLite file of its own, which has nothing to do with the journal's.

A batch is acknowledged when its transaction is on the disk (WAL, synchronous=FULL): neither the end of the daemon nor a
power cut loses what a program was told is kept. Batches that wait for the file share one transaction, so that many
programs wait for the disk together.

An event is known by user, run and number, so that a batch that is sent twice is kept once. When the file has grown to
its bound, the oldest events of whoever has most of it go.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import apsw

from skilld.monitor.batch import Batch

__all__ = ["EventStore", "Origin", "Written"]

T = TypeVar("T")

_VERSION: Final = 1
_PRUNE_EVENTS: Final = 1_000  # at once: about 20 ms
_BUSY_MS: Final = 5_000
_PER_EVENT_BYTES: Final = 256  # what an event takes of the file besides its name and data, about
_SCHEMA: Final = f"""
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    uid INTEGER NOT NULL,
    run TEXT NOT NULL,
    agent TEXT NOT NULL,
    pid INTEGER NOT NULL,
    sender_pid INTEGER NOT NULL,
    program TEXT NOT NULL,
    environment TEXT NOT NULL,
    UNIQUE (uid, run)
) STRICT;
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    name TEXT NOT NULL,
    channel TEXT NOT NULL,
    level TEXT NOT NULL,
    trace TEXT,
    span TEXT,
    parent TEXT,
    duration_us INTEGER,
    status TEXT,
    data TEXT NOT NULL,
    UNIQUE (run, seq)
) STRICT;
CREATE INDEX event_by_uid ON event (uid, id);
CREATE INDEX event_by_time ON event (time_us);
CREATE INDEX event_by_trace ON event (trace) WHERE trace IS NOT NULL;
CREATE TABLE used (uid INTEGER PRIMARY KEY, events INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE VIRTUAL TABLE event_text USING fts5(name, data, content='event', content_rowid='id');
CREATE TRIGGER event_added AFTER INSERT ON event BEGIN
    INSERT INTO event_text (rowid, name, data) VALUES (new.id, new.name, new.data);
END;
CREATE TRIGGER event_removed AFTER DELETE ON event BEGIN
    INSERT INTO event_text (event_text, rowid, name, data) VALUES ('delete', old.id, old.name, old.data);
    UPDATE used SET events = events - 1, bytes = bytes - length(old.name) - length(old.data) - {_PER_EVENT_BYTES}
        WHERE uid = old.uid;
END;
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent it, by the kernel's word."""

    uid: int
    pid: int


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch's events."""

    stored: int
    duplicates: int


class EventStore:
    """The file, and the only one who writes it. Every method blocks and may be called in any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._db = self._open(path)
        self._reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        self._reader.set_busy_timeout(_BUSY_MS)

    @staticmethod
    def _open(path: Path) -> apsw.Connection:
        """The file, made if it is missing. One that is damaged is moved aside: no program's reports are worth a daemon.

        Raises:
            OSError: if the folder cannot be made.
            apsw.Error: if the file cannot be used.

        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return _connect(path)
        except (apsw.NotADBError, apsw.CorruptError):
            os.replace(path, path.with_name(f"{path.name}.damaged-{time.time_ns()}"))
            for ending in ("-wal", "-shm"):
                path.with_name(path.name + ending).unlink(missing_ok=True)
            return _connect(path)

    def write(self, batches: Sequence[tuple[Batch, Origin]]) -> list[Written]:
        """Keep the events of batches that are not kept yet. Raises apsw.Error, and nothing of any is kept then."""
        now_us = time.time_ns() // 1000
        with self._lock, self._db:
            found = [self._write_one(batch, origin, now_us) for batch, origin in batches]
        return found

    def _write_one(self, batch: Batch, origin: Origin, now_us: int) -> Written:
        if not batch.events:  # a run without events would be nobody's to remove
            return Written(0, 0)
        run = self._run_of(batch, origin)
        stored = size = 0
        for event in batch.events:
            self._db.execute(
                "INSERT OR IGNORE INTO event (run, uid, seq, time_us, received_us, name, channel, level, trace,"
                " span, parent, duration_us, status, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(run, origin.uid, event.seq, event.time_us, now_us, event.name, event.channel, event.level),
                    *(event.trace, event.span, event.parent, event.duration_us, event.status, event.data),
                ),
            )
            if self._db.changes():
                stored += 1
                size += len(event.name) + len(event.data) + _PER_EVENT_BYTES
        if stored:
            self._db.execute(
                "INSERT INTO used VALUES (?1, ?2, ?3) ON CONFLICT (uid) DO UPDATE SET"
                " events = events + ?2, bytes = bytes + ?3",
                (origin.uid, stored, size),
            )
        return Written(stored, len(batch.events) - stored)

    def _run_of(self, batch: Batch, origin: Origin) -> int:
        self._db.execute(
            "INSERT OR IGNORE INTO run (uid, run, agent, pid, sender_pid, program, environment) VALUES (?,?,?,?,?,?,?)",
            (origin.uid, batch.run, batch.agent, batch.pid, origin.pid, batch.program, batch.environment),
        )
        return int(self._db.execute("SELECT id FROM run WHERE uid = ? AND run = ?", (origin.uid, batch.run)).get)

    def prune(self, keep_s: float, max_bytes: int) -> int:
        """Remove some of what is too old, or too much; how many events. To be called until it says 0."""
        before_us = int((time.time() - keep_s) * 1_000_000)
        with self._lock, self._db:
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
            for (run,) in set(runs):
                db.execute(
                    "DELETE FROM run WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM event WHERE event.run = ?1)", (run,)
                )
            if runs:
                db.execute("DELETE FROM used WHERE events <= 0")
        return len(runs)

    def size_bytes(self) -> int:
        """What of the file is in use."""
        pages = int(self._db.pragma("page_count")) - int(self._db.pragma("freelist_count"))
        return pages * int(self._db.pragma("page_size"))

    def newest_id(self) -> int:
        """Of all events that were ever stored; 0 before the first."""
        return self.ask(lambda db: int(db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").get))

    def ask(self, question: Callable[[apsw.Connection], T]) -> T:
        """What a question finds in one consistent view, beside the writer."""
        with self._reading:
            with self._reader:
                found = question(self._reader)
            return found

    def close(self) -> None:
        """Close the file, when who uses it is done. May be called twice."""
        with self._reading:
            self._reader.close()
        with self._lock:
            self._db.close()


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
