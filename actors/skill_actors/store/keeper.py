"""The journal as a child of a supervisor: opened before its siblings, closed after them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from skill_actors.runtime import TrioActor
from skill_actors.store.sqlite import SqliteJournal

__all__ = ["JournalKeeper"]


class JournalKeeper(TrioActor):
    """Holds a SqliteJournal open while it serves, and crashes if the journal's writer ends unasked.

    Give its ChildSpec `shutdown_s=math.inf`: what was accepted is written however long the disk takes. Where it is
    the first child under rest_for_one, whoever uses the journal is restarted with it and finds the new one.

    Args:
        open_journal: opens it, for instance `partial(SqliteJournal.open, path, lock=lock)`; a lock that the process
            took itself outlives a restart.
        publish: called with the open journal before `setup` returns, once for every start.

    """

    def __init__(
        self, open_journal: Callable[[], Awaitable[SqliteJournal]], publish: Callable[[SqliteJournal], object]
    ) -> None:
        super().__init__()
        self._open_journal = open_journal
        self._publish = publish

    async def setup(self) -> None:
        journal = await self._open_journal()
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
