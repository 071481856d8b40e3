"""Batches of writes into transactions: blocking, on one thread, knowing nothing of who waits.

A change that is refused (wrong sequence, old token, no such session) has written nothing, so a batch normally runs
without savepoints; only when a statement fails is the batch rolled back and run again, each change in a savepoint of
its own, so that the one at fault fails alone.

Disk full: the reserve is released, the batch is tried again, and from then on new work is refused while what closes
work goes on, until the reserve can be filled again. A failed fsync or any other I/O error: `die(74)`; what the file
holds is then for a new process to find out (the kernel may have dropped the pages it failed to write).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from skill_actors.store.base import JournalClosed, StorageFull, StoreError
from skill_actors.store.changes import DeleteWrite, Write, sweep_deleted
from skill_actors.store.copying import JournalCopy
from skill_actors.store.faults import Fault, fault_of
from skill_actors.store.logtail import PAGE_BYTES
from skill_actors.store.reserve import Reserve

__all__ = ["EXIT_MEDIA", "Committer", "Job", "JournalStats"]

EXIT_MEDIA: Final = 74  # EX_IOERR

_CHECKPOINT_PAGES: Final = 1_000
_SWEEP_CHUNK: Final = 500
_FRAME_BYTES: Final = PAGE_BYTES + 24  # a page in the log, and its header

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStats:
    """What the journal did since it was opened, and how large it is.

    Args:
        commits: transactions committed; `writes` of them acknowledged, `refused` answered with an error.
        last_batch, max_batch: writes in one transaction.
        queue_depth: writes waiting for the writer thread, about.
        last_commit_ms: from the start of the last batch to its commit.
        full: whether new work is refused for want of room.
        damaged: places found damaged since then; `SqliteJournal.damage` lists them.

    """

    commits: int = 0
    writes: int = 0
    refused: int = 0
    last_batch: int = 0
    max_batch: int = 0
    queue_depth: int = 0
    last_commit_ms: float = 0.0
    checkpoints: int = 0
    wal_bytes: int = 0
    db_bytes: int = 0
    full: bool = False
    damaged: int = 0


class Job:
    """A write, and what became of it: `applied` is what its apply returned, unless there is an `error`."""

    __slots__ = ("applied", "error", "write")

    def __init__(self, write: Write) -> None:
        self.write = write
        self.applied = False
        self.error: Exception | None = None


class Committer:
    """Owns `db`. All methods but `stats` belong to one thread, and block.

    Args:
        die: ends the process with a status; must not return in production.
        clock: the time as stored in `SessionRecord.updated`.

    """

    def __init__(
        self,
        db: apsw.Connection,
        path: Path,
        reserve: Reserve,
        *,
        die: Callable[[int], object],
        clock: Callable[[], str],
    ) -> None:
        self._db = db
        self._path = path
        self._reserve = reserve
        self._die = die
        self._clock = clock
        self.sweeping = True  # until one sweep has found nothing
        self._copies: list[JournalCopy] = []
        self._full = not reserve.filled
        self._wal_pages = 0
        # Half the reserve must be room enough to fold the log into the file when the disk is full.
        half_pages = reserve.size_bytes // 2 // PAGE_BYTES
        self._checkpoint_pages = min(half_pages, _CHECKPOINT_PAGES) or _CHECKPOINT_PAGES
        self._checkpoint_at = self._checkpoint_pages
        self._commits = self._writes = self._refused = self._checkpoints = 0
        self._last_batch = self._max_batch = 0
        self._last_commit_ms = 0.0
        self._db_bytes = path.stat().st_size
        db.set_wal_hook(self._note_wal)  # replaces SQLite's automatic checkpoint
        if self._full:
            _log.error("journal %s: no room for its reserve; new work is refused until there is", path)

    def stats(self, *, queue_depth: int, damaged: int) -> JournalStats:
        """May be called from any thread; the figures are those of one moment, give or take a batch."""
        return JournalStats(
            commits=self._commits,
            writes=self._writes,
            refused=self._refused,
            last_batch=self._last_batch,
            max_batch=self._max_batch,
            queue_depth=queue_depth,
            last_commit_ms=self._last_commit_ms,
            checkpoints=self._checkpoints,
            wal_bytes=self._wal_pages * _FRAME_BYTES,
            db_bytes=self._db_bytes,
            full=self._full,
            damaged=damaged,
        )

    def commit(self, batch: Sequence[Job], before_sync: Callable[[], object]) -> None:
        """Apply the batch durably, and leave in each job what became of it.

        Args:
            before_sync: called when only the disk is left to wait for; perhaps more than once.

        Raises:
            apsw.IOError: the disk cannot be trusted, and `die` came back.

        """
        started_s = time.perf_counter()
        if self._full and self._reserve.fill():
            self._full, self.sweeping = False, True
            _log.warning("journal %s: the disk has room again; new work is accepted", self._path)
        self._settle(batch, before_sync)
        refused = sum(job.error is not None for job in batch)
        self._refused += refused
        self._writes += len(batch) - refused
        self._last_batch = len(batch)
        self._max_batch = max(self._max_batch, len(batch))
        self._last_commit_ms = (time.perf_counter() - started_s) * 1_000
        self.sweeping = self.sweeping or any(isinstance(job.write, DeleteWrite) for job in batch)

    def begin_copy(self, copy: JournalCopy) -> None:
        """Take up a copy; `tidy` makes it step by step."""
        self._copies.append(copy)

    @property
    def restless(self) -> bool:
        """Whether there is something to do also when no batch comes."""
        return self.sweeping or bool(self._copies)

    @property
    def has_chores(self) -> bool:
        """Whether `tidy` has something to do that takes the disk's time."""
        return self.restless or self._wal_pages >= (1 if self._full else self._checkpoint_at)

    def tidy(self, *, sweep: bool) -> None:
        """What follows a batch: a checkpoint if the log has grown, one chunk of deleted rows if there are any."""
        if self._wal_pages >= (1 if self._full else self._checkpoint_at):
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
        if self.sweeping and sweep:
            self._sweep()
        if self._copies and self._copies[0].step(self._db):
            del self._copies[0]

    def fold(self) -> None:
        """Bring all of the log into the file."""
        self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        """Let go of the file without another write; copies that are not finished fail."""
        copies, self._copies = self._copies, []
        for copy in copies:
            copy.end(JournalClosed(f"journal {self._path} was closed before it was copied"))
        self._db.close()

    def _settle(self, batch: Sequence[Job], before_sync: Callable[[], object]) -> None:
        guarded = False
        while True:
            try:
                self._attempt(batch, guarded)
                before_sync()
                self._db.execute("COMMIT")
                self._commits += 1
                return
            except Exception as error:  # a value that cannot be bound is no reason for the thread to end either
                fault = self._roll_back(error)
                if fault is Fault.FULL and self._make_room():
                    continue
                if fault is Fault.FULL or guarded:
                    for job in batch:
                        job.error = _refusal_of(error, fault, self._path)
                    return
                guarded = True

    def _attempt(self, batch: Sequence[Job], guarded: bool) -> None:
        now = self._clock()
        apply = self._apply_guarded if guarded else self._apply
        self._db.execute("BEGIN IMMEDIATE")
        for job in batch:
            if self._full and job.write.opens_work:
                job.error = _no_room(self._path, "it is kept for work under way")
            else:
                apply(job, now)

    def _apply(self, job: Job, now: str) -> None:
        outcome = job.write.apply(self._db, now)
        if isinstance(outcome, Exception):
            job.applied, job.error = False, outcome
        else:
            job.applied, job.error = outcome, None

    def _apply_guarded(self, job: Job, now: str) -> None:
        self._db.execute("SAVEPOINT one")
        try:
            self._apply(job, now)
        except Exception as error:
            fault = fault_of(error, self._db.system_errno)
            if fault in (Fault.FULL, Fault.MEDIA) or not self._db.in_transaction:
                raise
            self._db.execute("ROLLBACK TO one")
            job.error = _refusal_of(error, fault, self._path)
        self._db.execute("RELEASE one")

    def _roll_back(self, error: Exception) -> Fault:
        """Undo the transaction and say what went wrong; does not return if the disk cannot be trusted."""
        fault = fault_of(error, self._db.system_errno)
        if fault is Fault.MEDIA:
            self._perish(error)
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        return fault

    def _perish(self, error: Exception) -> None:
        _log.critical(
            "journal %s: %s; nothing of the last batch was acknowledged. The process ends, since only a new one may "
            "trust what is on disk",
            self._path,
            error,
        )
        self._die(EXIT_MEDIA)
        raise error

    def _make_room(self) -> bool:
        """Enter the state `full`; whether the reserve gave room to try again."""
        if not self._full:
            _log.error("journal %s: the disk is full; new work is refused, reads and endings go on", self._path)
        self._full = True
        if not self._reserve.release():
            return False
        self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
        return True

    def _checkpoint(self, mode: int) -> None:
        try:
            pages, done = self._db.wal_checkpoint(mode=mode)
        except apsw.BusyError:
            return  # a reader is in the way; the next commit tries again
        except apsw.Error as error:
            fault = fault_of(error, self._db.system_errno)
            if fault is Fault.MEDIA:
                self._perish(error)
            _log.warning("journal %s: checkpoint put off: %s", self._path, error)
            self._checkpoint_at = self._wal_pages + self._checkpoint_pages
            return
        self._checkpoints += 1
        self._db_bytes = self._path.stat().st_size
        # Whole: SQLite begins the log anew with the next commit. In part, behind a reader: look again later.
        self._wal_pages = 0 if done >= pages else pages
        self._checkpoint_at = self._wal_pages + self._checkpoint_pages

    def _sweep(self) -> None:
        try:
            with self._db:
                self.sweeping = sweep_deleted(self._db, _SWEEP_CHUNK)
        except apsw.Error as error:
            self._roll_back(error)
            self.sweeping = False  # tried again after the next deletion or start
            _log.warning("journal %s: events of a deleted session remain for now: %s", self._path, error)

    def _note_wal(self, db: apsw.Connection, name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK


def _refusal_of(error: Exception, fault: Fault, path: Path) -> Exception:
    if fault is Fault.FULL:
        return _no_room(path, str(error))
    if isinstance(error, apsw.Error) and not isinstance(error, apsw.ConstraintError):
        return StoreError(f"journal {path}: the change was not written: {error}")
    return ValueError(f"the change cannot be stored beside what is: {error}")


def _no_room(path: Path, cause: str) -> StorageFull:
    return StorageFull(f"no room in {path.parent} ({cause}): nothing was written; free some space and try again")
