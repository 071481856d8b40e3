"""The journal as a supervised child."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw
import pytest
import trio

from skill_actors.runtime import ChildSpec, StartFailed, Strategy, SystemFailed, open_system
from skill_actors.store import Append, JournalClosed, SessionRecord, SqliteJournal, StateLock, StateLocked
from skill_actors.store.keeper import JournalKeeper
from support import run


class SwitchedVFS(apsw.VFS):
    """Fails every fsync while `failing` is set."""

    def __init__(self) -> None:
        self.failing = False
        super().__init__("switched", "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return SwitchedFile(self, name, flags)


class SwitchedFile(apsw.VFSFile):
    def __init__(self, vfs: SwitchedVFS, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._vfs = vfs
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:
        if self._vfs.failing:
            raise apsw.IOError("injected")
        super().xSync(flags)


def keeper(path: Path, publish: Callable[[SqliteJournal], object], **options: object) -> ChildSpec:
    open_journal = partial(SqliteJournal.open, path, reserve_bytes=0, **options)  # type: ignore[arg-type]
    return ChildSpec(id="journal", factory=lambda: JournalKeeper(open_journal, publish), shutdown_s=math.inf)


def test_the_journal_is_open_while_the_system_is_and_closed_after(
    db_path: Path, new_session: Callable[..., SessionRecord]
) -> None:
    async def main() -> None:
        published: list[SqliteJournal] = []
        async with open_system([keeper(db_path, published.append)]):
            await published[0].create_session(new_session())
        with pytest.raises(JournalClosed):
            await published[0].count_sessions()
        StateLock.take(db_path.parent).release()

    run(main)


def test_a_killed_keeper_still_closes_the_journal(db_path: Path) -> None:
    async def main() -> None:
        published: list[SqliteJournal] = []
        async with open_system([keeper(db_path, published.append)]) as system:
            system.kill()
            await system.wait_stopped()
        assert await published[0].wait_ended() is None
        StateLock.take(db_path.parent).release()

    with pytest.raises(SystemFailed, match="killed"):
        run(main)


def test_a_keeper_whose_writer_fails_crashes_and_its_successor_opens_the_journal_again(
    db_path: Path, new_session: Callable[..., SessionRecord], step: Callable[..., Append]
) -> None:
    """In production the process is gone by then; here `die` returns."""

    async def main() -> None:
        vfs, deaths, published = SwitchedVFS(), list[int](), list[SqliteJournal]()
        again = trio.Event()

        def publish(journal: SqliteJournal) -> None:
            published.append(journal)
            if len(published) == 2:
                again.set()

        spec = keeper(db_path, publish, vfs="switched", die=deaths.append)
        record = new_session()
        async with open_system([spec], strategy=Strategy.REST_FOR_ONE):
            await published[0].create_session(record)
            await published[0].append(step(record.id, 1))
            vfs.failing = True
            with pytest.raises(JournalClosed, match="failed"):
                await published[0].append(step(record.id, 2))
            vfs.failing = False
            assert deaths == [74]
            with pytest.raises(JournalClosed):
                await published[0].append(step(record.id, 2))
            await again.wait()
            stored = await published[1].get_session(record.id)
            assert stored is not None
            await published[1].append(step(record.id, stored.last_seq + 1))
        vfs.unregister()

    run(main)


def test_a_keeper_that_cannot_open_the_journal_fails_its_start(db_path: Path) -> None:
    async def main() -> None:
        with StateLock.take(db_path.parent):
            with pytest.raises(StartFailed) as caught:
                async with open_system([keeper(db_path, lambda journal: None)]):
                    pass
            assert isinstance(caught.value.__cause__, StateLocked)

    run(main)


def test_a_publisher_that_raises_leaves_no_journal_open(db_path: Path) -> None:
    def refuse(journal: SqliteJournal) -> None:
        raise RuntimeError("no")

    async def main() -> None:
        with pytest.raises(StartFailed):
            async with open_system([keeper(db_path, refuse)]):
                pass
        StateLock.take(db_path.parent).release()

    run(main)
