"""The journal on SQLite: one file, one writer thread, a few readers."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar, TypeVarTuple

import apsw
import trio

from skill_actors.durable import sync_directory
from skill_actors.sessions.events import Event, utc_now
from skill_actors.store.base import (
    Append,
    ApprovalPage,
    ApprovalRecord,
    Journal,
    JournalClosed,
    Page,
    SessionRecord,
    StorageFull,
    StoreError,
    TurnRecord,
)
from skill_actors.store.changes import NO_BOUNDS, AppendWrite, Bounds, CreateWrite, DeleteWrite, Write
from skill_actors.store.choice import SessionChoice
from skill_actors.store.commit import Committer, JournalStats
from skill_actors.store.copying import JournalCopy
from skill_actors.store.documents.sqlite import SqliteDocuments
from skill_actors.store.faults import NO_ROOM, Fault, fault_of
from skill_actors.store.founding import FoundWrite
from skill_actors.store.ledger.sqlite import SqliteLedger
from skill_actors.store.ledger.writes import close_lost
from skill_actors.store.lock import StateLock
from skill_actors.store.logtail import unread_commits
from skill_actors.store.quarantine import Damage, Quarantine
from skill_actors.store.reads import MAX_PAGE, Readers, parse_cursor
from skill_actors.store.reserve import Reserve
from skill_actors.store.schema import migrate
from skill_actors.store.writer import Writer

__all__ = ["RESERVE_BYTES", "SqliteJournal"]

RESERVE_BYTES: Final = 8 * 1024 * 1024

_log = logging.getLogger(__name__)
_READERS: Final = 2
_SMALLEST_BYTES: Final = 512  # what is smaller holds not even SQLite's header page
_T = TypeVar("_T")
_A = TypeVarTuple("_A")

_SETTINGS: Final = """
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = 16777216;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
"""


class SqliteJournal(Journal):
    """Made by `open`, ended by `aclose` (or by `async with`). Belongs to the trio run that opened it."""

    def __init__(
        self,
        path: Path,
        files: _Files,
        *,
        die: Callable[[int], object],
        clock: Callable[[], str],
        bounds: Bounds = NO_BOUNDS,
    ) -> None:
        self._path = path
        self._bounds = bounds
        self._readers = files.readers
        self._lock = files.lock
        self._limiter = trio.CapacityLimiter(_READERS)
        self._quarantine = files.quarantine
        self._failure: BaseException | None = None
        self._closing = False
        self._writer_ended = trio.Event()
        self._closed = trio.Event()
        committer = Committer(files.db, path, files.reserve, die=die, clock=clock)
        self._writer = Writer(committer, str(path), self._on_writer_end)
        self._writer.start()
        self.ledger = SqliteLedger(self._write, self._ask)
        self.documents = SqliteDocuments(self._write_then, self._ask)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        lock: StateLock | None = None,
        reserve_bytes: int = RESERVE_BYTES,
        die: Callable[[int], object] = os._exit,
        clock: Callable[[], str] = utc_now,
        vfs: str | None = None,
        bounds: Bounds = NO_BOUNDS,
    ) -> SqliteJournal:
        """Open the journal in the file `path`, creating it and its directory where missing.

        Args:
            lock: the held lock of the file's directory; without one, the journal takes it, and gives it up at its end.
            reserve_bytes: disk space kept in the file `reserve` beside `path` for when the disk is full.
            die: called with status 74 on the writer thread when an fsync or another write fails for good.
            clock: the time as stored in `SessionRecord.updated`.
            bounds: sessions that have reached them take no more messages.
            vfs: name of a registered SQLite VFS to use for the file; to inject faults.

        Raises:
            StateLocked: another process has the directory.
            StateTooNew: a newer program wrote the file.
            StorageFull: there is no room even to open it.
            StoreError: the file is not a journal, is damaged, or cannot be opened.

        """
        work = partial(_open_files, path, lock is None, reserve_bytes, vfs, clock)
        files = await trio.to_thread.run_sync(work, limiter=trio.CapacityLimiter(1))
        return cls(path, files, die=die, clock=clock, bounds=bounds)

    async def aclose(self) -> None:
        """Finish what is queued, fold the log into the file, and let go of it. Closing twice is allowed.

        Shielded from cancellation: it takes as long as the disk needs for what was accepted.
        """
        with trio.CancelScope(shield=True):
            if self._closing:
                await self._closed.wait()
                return
            self._closing = True
            self._writer.close()
            await self._writer_ended.wait()
            for reader in range(_READERS):  # first in, first out: reads asked for before are done
                await self._limiter.acquire_on_behalf_of((self, reader))
            await trio.to_thread.run_sync(self._release, limiter=trio.CapacityLimiter(1))
            self._closed.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def wait_ended(self) -> BaseException | None:
        """Wait until the writer thread has ended; why, or None if it was asked to by `aclose`."""
        await self._writer_ended.wait()
        return self._failure

    def stats(self) -> JournalStats:
        return self._writer.stats(damaged=len(self._quarantine.findings()))

    async def create_session(
        self, record: SessionRecord, *, events: Sequence[Event] = (), turns: Sequence[TurnRecord] = ()
    ) -> None:
        if events:
            await self._write(await trio.to_thread.run_sync(FoundWrite, record, events, turns))
        else:
            await self._write(CreateWrite.of(record))

    async def append(self, change: Append) -> None:
        await self._write(AppendWrite(change).bound(self._bounds))

    async def delete_session(self, session: str) -> bool:
        deleted = await self._write(DeleteWrite(session))
        self._quarantine.forget(session)
        return deleted

    async def get_session(self, session: str) -> SessionRecord | None:
        return await self._read(self._readers.get_session, session)

    async def open_session(self, session: str) -> SessionRecord | None:
        return await self._read(self._readers.open_session, session)

    async def verify_session(self, session: str) -> None:
        """Read all of a session's rows and check them. Raises DamagedRow; a session that is gone by now is fine."""
        await self._read(self._readers.verify_session, session)

    async def session_ids(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Ids in their own order, also of sessions whose head is damaged or missing; from behind `after` on."""
        return await self._read(self._readers.session_ids, after, limit)

    async def oldest_sessions(self, *, skip: int = 0, limit: int = 1000) -> tuple[Sequence[tuple[str, str, int]], int]:
        """Id, time of the last change and bytes of events of sessions, oldest first; and the bytes of all of them."""
        return await self._read(self._readers.oldest_sessions, skip, limit)

    async def copy_to(self, target: Path) -> None:
        """Copy the whole journal into the new file `target` while appends go on.

        What was acknowledged before the call is in it. Cancelled, it leaves an unfinished file.

        Raises: StorageFull, JournalClosed; StoreError if `target` exists or cannot be written.
        """
        ended, token = trio.Event(), trio.lowlevel.current_trio_token()
        failures: list[StoreError] = []

        def end(error: StoreError | None) -> None:
            failures.extend([error] if error is not None else [])
            with contextlib.suppress(trio.RunFinishedError):  # then nobody waits any more
                token.run_sync_soon(ended.set)

        copy = JournalCopy(target, end)
        self._writer.put_copy(copy)
        try:
            await ended.wait()
        finally:
            copy.abandoned = True
        if failures:
            raise failures[0]

    def damage(self) -> Sequence[Damage]:
        """What reads have found damaged since the journal was opened; `STATE/quarantine` holds the evidence."""
        return self._quarantine.findings()

    async def list_sessions(
        self,
        *,
        owner_uid: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
        choice: SessionChoice | None = None,
    ) -> Page:
        _check_limit(limit)
        if cursor is not None:
            parse_cursor(cursor)
        if choice is None:
            return await self._read(self._readers.list_sessions, owner_uid, limit, cursor)
        return await self._read(self._readers.choose_sessions, owner_uid, limit, cursor, choice)

    async def count_sessions(self) -> int:
        return await self._read(self._readers.count_sessions)

    async def get_turn(self, turn: str) -> TurnRecord | None:
        return await self._read(self._readers.get_turn, turn)

    async def find_turn(self, session: str, idempotency_key: str) -> TurnRecord | None:
        return await self._read(self._readers.find_turn, session, idempotency_key)

    async def list_turns(self, session: str) -> Sequence[TurnRecord]:
        return await self._read(self._readers.list_turns, session)

    async def unfinished_turns(self) -> Sequence[TurnRecord]:
        return await self._read(self._readers.unfinished_turns)

    async def read_events(
        self, session: str, *, after: int = 0, through: int | None = None, limit: int = 1000
    ) -> Sequence[Event]:
        _check_limit(limit)
        return await self._read(self._readers.read_events, session, after, through, limit)

    async def get_approval(self, id: str) -> ApprovalRecord | None:
        return await self._read(self._readers.get_approval, id)

    async def list_approvals(
        self,
        *,
        status: str | None = "pending",
        session: str | None = None,
        turn: str | None = None,
        owner_uid: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> ApprovalPage:
        _check_limit(limit)
        if cursor is not None:
            parse_cursor(cursor)
        columns = {"status": status, "session": session, "turn": turn, "owner_uid": owner_uid}
        chosen = [(column, value) for column, value in columns.items() if value is not None]
        return await self._read(self._readers.list_approvals, chosen, limit, cursor)

    async def _write(self, write: Write) -> bool:
        await trio.lowlevel.checkpoint_if_cancelled()  # who is cancelled already leaves nothing in the queue
        return await self._writer.put(write).wait()

    async def _write_then(self, write: Write, then: Callable[[], None]) -> bool:
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self._writer.put(write, then).wait()

    async def _ask(self, query: Callable[[apsw.Connection], Any]) -> Any:
        return await self._read(self._readers.ask, query)

    async def _read(self, query: Callable[[*_A], _T], *args: *_A) -> _T:
        if self._closing:
            raise JournalClosed(f"journal {self._path} is closed")
        return await trio.to_thread.run_sync(self._readers.run, query, *args, limiter=self._limiter)

    def _on_writer_end(self, failure: BaseException | None) -> None:
        self._failure = failure
        self._writer_ended.set()

    def _release(self) -> None:
        self._writer.join()
        self._readers.close()
        if self._lock is not None:
            self._lock.release()


@dataclass(frozen=True, slots=True)
class _Files:
    """What an open journal holds on disk."""

    db: apsw.Connection
    readers: Readers
    reserve: Reserve
    lock: StateLock | None
    quarantine: Quarantine


def _open_files(path: Path, take_lock: bool, reserve_bytes: int, vfs: str | None, clock: Callable[[], str]) -> _Files:
    with ExitStack() as undo:
        lock = undo.enter_context(StateLock.take(path.parent)) if take_lock else None
        reserve = Reserve(path.with_name("reserve"), reserve_bytes)
        try:
            db = _connect(path, vfs)
        except StorageFull:
            # Opening needs some room of its own, and reads are worth more than the reserve.
            if not reserve.release():
                raise
            db = _connect(path, vfs)
        undo.callback(db.close)
        quarantine = Quarantine(path.with_name("quarantine"), clock)
        _look_at_log(db, path, quarantine)
        reserve.fill()
        _close_lost_holds(db, path, clock())
        readers = Readers(path, _READERS, vfs, quarantine)
        undo.pop_all()
        return _Files(db, readers, reserve, lock, quarantine)


def _connect(path: Path, vfs: str | None) -> apsw.Connection:
    _make_file(path)
    try:
        db = apsw.Connection(str(path), vfs=vfs)
    except apsw.Error as error:
        raise StoreError(f"journal {path} cannot be opened: {error}") from error
    try:
        db.set_busy_timeout(5_000)
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # the writer does it, where a failure can be seen
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        migrate(db, path)
        if db.pragma("journal_mode", "wal") != "wal":
            raise StoreError(f"journal {path}: its file system does not offer what a write-ahead log needs")
        db.execute(_SETTINGS)
        # The first write makes the log and its index, so that a disk too full for them is known before READY.
        db.execute("BEGIN IMMEDIATE; COMMIT")
    except apsw.Error as error:
        fault = fault_of(error, db.system_errno)
        db.close()
        raise _opening_error(path, fault, error) from error
    except BaseException:
        db.close()
        raise
    return db


def _look_at_log(db: apsw.Connection, path: Path, quarantine: Quarantine) -> None:
    """Keep a copy of a log of which SQLite could read only a part, before the first write overwrites the rest."""
    frames, _ = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    log = path.with_name(path.name + "-wal")
    unread = unread_commits(log, max(frames, 0))
    if unread:
        quarantine.keep_log(log, frames, unread)


def _close_lost_holds(db: apsw.Connection, path: Path, now: str) -> None:
    """What an earlier process had reserved and did not settle is charged in full: it may have been used in full."""
    try:
        with db:
            lost = close_lost(db, now)
    except apsw.Error as error:
        # They stay open, and so are counted by every cap as well.
        _log.error("journal %s: reservations of an earlier process stay open: %s", path, error)
        return
    if lost:
        _log.warning("journal %s: %d reservations of an earlier process are charged in full", path, lost)


def _make_file(path: Path) -> None:
    """Create the file 0600 and make its name durable; refuse what only looks like a new journal."""
    log = path.with_name(path.name + "-wal")
    try:
        size_bytes = path.stat().st_size if path.exists() else 0
        if size_bytes == 0 and log.exists() and log.stat().st_size > 0:
            # SQLite would take this for a new database and throw the log away.
            raise StoreError(f"journal {path} is missing or empty but its log {log.name} is not: restore a backup")
        if size_bytes == 0 and path.with_name("restoring").exists():
            raise StoreError(f"a restore into {path.parent} did not end: run skillctl restore again, with --force")
        if 0 < size_bytes < _SMALLEST_BYTES:
            # And this for an empty one.
            raise StoreError(f"journal {path} is cut to {size_bytes} bytes: keep the file and restore a backup")
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sync_directory(path.parent)
    except OSError as error:
        kind = StorageFull if error.errno in NO_ROOM else StoreError
        raise kind(f"journal {path} cannot be made: {error.strerror}") from error


def _opening_error(path: Path, fault: Fault, error: apsw.Error) -> StoreError:
    match fault:
        case Fault.FULL:
            return StorageFull(f"no room to open the journal {path}: {error}; free some space and try again")
        case Fault.DAMAGE:
            return StoreError(f"journal {path} is damaged: {error}; keep the file and restore a backup")
        case _:
            return StoreError(f"journal {path} cannot be opened: {error}")


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit {limit} is outside 1..{MAX_PAGE}")
