"""A backup of the running daemon: a copy of its journal, verified, then everything as one stream of bytes."""

from __future__ import annotations

import errno
import logging
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.events import utc_now
from skill_actors.store import JournalClosed, SqliteJournal, StorageFull, StoreError
from skill_actors.store.archive import Manifest, write_archive
from skill_actors.store.copying import check_copy
from skilld.slot import Slot

__all__ = ["Backups", "remove_left_behind"]

_log = logging.getLogger(__name__)
_PREFIX: Final = "backup-"  # which archives leave out
_PIECE_BYTES: Final = 256 << 10
_SPARE_BYTES: Final = 64 << 20  # of the disk, beyond the copy: a backup must not be what fills it


class Backups:
    """Makes backups of one state directory, one at a time."""

    def __init__(self, state: Path, journal: Slot[SqliteJournal], version: str) -> None:
        self._state = state
        self._journal = journal
        self._version = version
        self._busy = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """The archive's bytes. The journal is copied and verified when the block begins; the copy goes with the block.

        Raises:
            Refused: conflict, while another backup is made; storage_full, draining; internal, if the journal itself
                cannot be copied.

        """
        if self._busy:
            raise Refused("conflict", "a backup is being made; wait for it")
        self._busy = True
        try:
            await trio.to_thread.run_sync(remove_left_behind, self._state)
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._state))
        except BaseException:
            self._busy = False
            raise
        try:
            manifest = await self._prepare(folder / "journal.db")
            async with aclosing(_pieces(write_archive(self._state, folder / "journal.db", manifest))) as pieces:
                yield pieces
        finally:
            self._busy = False
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(shutil.rmtree, folder, True)

    async def clean(self) -> None:
        """Remove what killed backups left, unless one is being made."""
        if not self._busy:
            self._busy = True
            try:
                await trio.to_thread.run_sync(remove_left_behind, self._state)
            finally:
                self._busy = False

    async def _prepare(self, copy: Path) -> Manifest:
        journal = self._journal.peek()
        if journal is None:
            raise Refused("draining", "the journal is being opened again; try again in a moment", retry_after_s=2)
        try:
            self._check_room(journal)
            await journal.copy_to(copy)
            schema, damaged = await trio.to_thread.run_sync(check_copy, copy, abandon_on_cancel=True)
        except StorageFull as error:
            raise Refused("storage_full", f"there is no room for a copy of the journal: {error}") from error
        except JournalClosed as error:
            raise Refused("draining", "the daemon is stopping", retry_after_s=5) from error
        except StoreError as error:
            _log.error("a backup failed: %s", error)
            raise Refused("internal", f"the journal cannot be copied: {error}") from error
        if damaged:
            _log.warning("the backup holds damaged sessions: %s", ", ".join(damaged))
        return Manifest(version=self._version, schema=schema, created=utc_now(), damaged=list(damaged))

    def _check_room(self, journal: SqliteJournal) -> None:
        stats = journal.stats()
        needed = stats.db_bytes + stats.wal_bytes + _SPARE_BYTES
        free = shutil.disk_usage(self._state).free
        if free < needed:
            raise StorageFull(f"{needed} bytes are needed in {self._state}, {free} are free")


async def _pieces(parts: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    while piece := await trio.to_thread.run_sync(_gather, parts):
        yield piece


def _gather(parts: Iterator[bytes]) -> bytes:
    """The next piece of a size worth sending; empty at the end."""
    found: list[bytes] = []
    size = 0
    try:
        for part in parts:
            found.append(part)
            size += len(part)
            if size >= _PIECE_BYTES:
                break
    except OSError as error:
        _log.error("a backup ended too early: %s", error.strerror or errno.errorcode.get(error.errno or 0, "?"))
        raise
    return b"".join(found)


def remove_left_behind(state: Path) -> int:
    """Remove the copies that killed processes left; how many. Not while a backup is made. Blocks."""
    found = sorted(state.glob(f"{_PREFIX}*"))
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    return len(found)
