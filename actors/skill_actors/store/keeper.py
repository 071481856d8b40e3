"""The journal as a child of a supervisor: opened before its siblings, closed after them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from skill_actors.runtime.actor import TrioActor
from skill_actors.store.lock import StateLock
from skill_actors.store.sqlite import RESERVE_BYTES, SqliteJournal

__all__ = ["JournalKeeper"]


class JournalKeeper(TrioActor):
    """Holds a SqliteJournal open while it serves, and crashes if the journal's writer ends unasked.

    Give its ChildSpec `shutdown_s=math.inf`: what was accepted is written however long the disk takes. Where it is
    the first child under rest_for_one, whoever uses the journal is restarted with it and finds the new one.

    Args:
        path: the journal's file.
        publish: called with the open journal before `setup` returns, once for every start.
        lock: the held lock of the file's directory, if the process has taken it; it then outlives a restart.
        reserve_bytes: see `SqliteJournal.open`.

    """

    def __init__(
        self,
        path: Path,
        publish: Callable[[SqliteJournal], object],
        *,
        lock: StateLock | None = None,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        super().__init__()
        self._path = path
        self._publish = publish
        self._lock = lock
        self._reserve_bytes = reserve_bytes

    async def setup(self) -> None:
        journal = await SqliteJournal.open(self._path, lock=self._lock, reserve_bytes=self._reserve_bytes)
        try:
            self._publish(journal)
        except BaseException:
            await journal.aclose()
            raise
        # Closed by the job, not by teardown: a job's end is awaited after a kill, too.
        self.spawn(self._hold, journal)

    async def _hold(self, journal: SqliteJournal) -> None:
        async with journal:
            failure = await journal.wait_ended()
            if failure is not None:
                raise failure
