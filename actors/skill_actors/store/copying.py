"""A copy of the journal while it is written to: some pages at a time, on the writer thread, between its batches.

SQLite's backup works on the writer's own connection, so what is committed meanwhile goes into the copy as well, and
nothing has to begin again. A step of 512 KiB delays the batch behind it by about a millisecond.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import apsw

from skill_actors.store.base import StorageFull, StoreError
from skill_actors.store.documents.reads import faults_of as document_faults_of
from skill_actors.store.faults import NO_ROOM, DamagedRow, Fault, fault_of
from skill_actors.store.ledger.reads import faults_of
from skill_actors.store.quarantine import Quarantine
from skill_actors.store.reads import Readers

__all__ = ["JournalCopy", "check_copy"]

_log = logging.getLogger(__name__)

_STEP_PAGES: Final = 128
_IDS: Final = 1_000


class JournalCopy:
    """One copy under way; all methods belong to the writer thread.

    Args:
        target: a file that does not exist yet.
        on_end: called once, with what kept the copy from being made, or None.

    """

    def __init__(self, target: Path, on_end: Callable[[StoreError | None], object]) -> None:
        self._target = target
        self._on_end = on_end
        self._db: apsw.Connection | None = None
        self._backup: apsw.Backup | None = None
        self.abandoned = False  # nobody waits any more: the next step ends it

    def step(self, source: apsw.Connection) -> bool:
        """Copy some pages; whether the copy has ended, done or failed. The journal itself is not concerned."""
        if self.abandoned:
            self.end(StoreError(f"nobody waits for {self._target} any more"))
            return True
        try:
            if not self._advance(source):
                return False
        except (apsw.Error, OSError) as error:
            number = self._db.system_errno if self._db is not None else 0
            full = fault_of(error, number) is Fault.FULL or getattr(error, "errno", 0) in NO_ROOM
            kind = StorageFull if full else StoreError
            self.end(kind(f"the journal cannot be copied to {self._target}: {error}"))
            return True
        self.end(None)
        return True

    def end(self, error: StoreError | None) -> None:
        """Let go of the copy, and say how it ended."""
        backup, self._backup = self._backup, None
        db, self._db = self._db, None
        if backup is not None:
            backup.close(True)
        if db is not None:
            db.close(True)
        self._on_end(error)

    def _advance(self, source: apsw.Connection) -> bool:
        if self._db is None or self._backup is None:
            os.close(os.open(self._target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._db = apsw.Connection(str(self._target))
            self._db.execute("PRAGMA synchronous = OFF")
            self._backup = self._db.backup("main", source, "main")
        self._backup.step(_STEP_PAGES)
        if not self._backup.done:
            return False
        self._backup.finish()
        self._backup = None
        self._db.pragma("journal_mode", "delete")  # one file, with nothing beside it
        return True


def check_copy(path: Path) -> tuple[int, list[str]]:
    """Look at a copy as a whole: its schema version, and which sessions are damaged in it. Blocks.

    What is wrong with its ledger and its documents is logged.

    Raises:
        StoreError: if the file itself is damaged.

    """
    damaged: list[str] = []
    with closing(Readers(path, 1, None, Quarantine(path.with_name("quarantine"), str))) as readers:
        after = ""
        while ids := readers.session_ids(after, _IDS):
            for session in ids:
                try:
                    readers.verify_session(session)
                except DamagedRow:
                    damaged.append(session)
            after = ids[-1]
        for fault in (*readers.ask(faults_of), *readers.ask(document_faults_of)):
            _log.error("%s: %s", path, fault)
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        try:
            version = int(db.pragma("user_version"))
            finding = str(db.execute("PRAGMA integrity_check(1)").get)
        except apsw.Error as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
    if finding != "ok" and not damaged:
        raise StoreError(f"{path} is damaged: {finding}")
    return version, damaged
