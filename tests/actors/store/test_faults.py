"""Every write and every flush of the journal fails in turn: nothing acknowledged is lost, nothing half is there."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
import trio

from skill_actors.store import Append, SessionRecord, SqliteJournal, StoreError
from support import run

New = Callable[..., SessionRecord]
Step = Callable[..., Append]

APPENDS = 4

_numbers = itertools.count()


class FaultyVFS(apsw.VFS):
    """Lets the n-th write, flush or truncation fail, and, with `stays`, all behind it."""

    def __init__(self, kind: str, number: int, *, stays: bool) -> None:
        self.name = f"faulty{next(_numbers)}"
        self.counts: dict[str, int] = defaultdict(int)
        self.failed = False
        self._kind, self._number, self._stays = kind, number, stays
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return FaultyFile(self, name, flags)

    def pass_or_fail(self, kind: str) -> None:
        self.counts[kind] += 1
        count = self.counts[self._kind.partition("-")[0]]
        if self._kind.startswith(kind) and (count == self._number or (self._stays and count > self._number)):
            self.failed = True
            if self._kind.endswith("full"):
                raise apsw.FullError("injected: no space")
            error = apsw.IOError("injected")
            code = apsw.SQLITE_IOERR_FSYNC if kind == "sync" else apsw.SQLITE_IOERR_WRITE
            error.extendedresult = code  # type: ignore[attr-defined]
            raise error


class FaultyFile(apsw.VFSFile):
    def __init__(self, vfs: FaultyVFS, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._vfs = vfs
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._vfs.pass_or_fail("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._vfs.pass_or_fail("sync")
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:
        self._vfs.pass_or_fail("truncate")
        super().xTruncate(size)


@contextmanager
def faulty(kind: str, number: int, *, stays: bool) -> Iterator[FaultyVFS]:
    vfs = FaultyVFS(kind, number, stays=stays)
    try:
        yield vfs
    finally:
        vfs.unregister()


async def work(path: Path, vfs: str, record: SessionRecord, step: Step, deaths: list[int]) -> tuple[int, bool]:
    """A short life: the last number that was acknowledged (-1: not even the session), and whether all went well."""
    acked = -1
    try:
        async with await SqliteJournal.open(path, reserve_bytes=0, vfs=vfs, die=deaths.append) as journal:
            await journal.create_session(record)
            acked = 0
            for seq in range(1, APPENDS + 1):
                await journal.append(step(record.id, seq, "x" * 3_000))
                acked = seq
    except (StoreError, OSError):
        return acked, False
    return acked, not deaths


async def check(path: Path, record: SessionRecord, acked: int, step: Step) -> None:
    """A new process finds what was acknowledged, at most one append more, no gap, and goes on."""
    async with await SqliteJournal.open(path, reserve_bytes=0) as journal:
        stored = await journal.open_session(record.id)
        if stored is None:
            assert acked == -1
            await journal.create_session(record)
            stored = record
        events = await journal.read_events(record.id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert acked <= len(events) <= max(acked, 0) + 1
        assert stored.last_seq == len(events)
        await journal.verify_session(record.id)
        await journal.append(step(record.id, len(events) + 1))


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.deep), 3], ids=["each", "every-third"])
@pytest.mark.parametrize("stays", [False, True], ids=["once", "for-ever"])
@pytest.mark.parametrize("kind", ["write-full", "write-broken", "sync-broken", "truncate-broken"])
def test_whichever_operation_fails_nothing_acknowledged_is_lost(
    tmp_path: Path, new_session: New, step: Step, kind: str, stays: bool, stride: int
) -> None:
    async def fails_at(number: int) -> bool:
        path = tmp_path / str(number) / "journal.db"
        record, deaths = new_session(), list[int]()
        with faulty(kind, number, stays=stays) as vfs:
            acked, well = await work(path, vfs.name, record, step, deaths)
            failed = vfs.failed
        await check(path, record, acked, step)
        if not failed:
            assert (acked, well) == (APPENDS, True)
            return False
        assert set(deaths) <= {74}
        if kind == "write-full":
            assert deaths == []
        if kind == "sync-broken" and acked in range(APPENDS):
            assert deaths, "a failed flush must end the process"
        return True

    reached = 0
    for number in itertools.count(1 + stays, stride):
        if not run(fails_at, number):  # each has its own time: a slow disk needs some for all its flushes
            break
        reached = number
    assert reached >= {"w": 20, "s": 5, "t": 1}[kind[0]] - stride


def test_signals_that_interrupt_the_writers_system_calls_lose_and_refuse_nothing(
    db_path: Path, new_session: New, step: Step
) -> None:
    """EINTR: SQLite repeats a write that it cut short, Python its own calls (PEP 475)."""
    appends, arrived = 0, 0

    def count(_number: int, _frame: object) -> None:
        nonlocal arrived
        arrived += 1

    async def main() -> None:
        nonlocal appends
        record, done = new_session(), threading.Event()
        deaths: list[int] = []
        async with await SqliteJournal.open(db_path, reserve_bytes=0, die=deaths.append) as journal:
            await journal.create_session(record)
            writer = next(thread for thread in threading.enumerate() if thread.name == "journal-writer")

            def storm() -> None:
                while not done.is_set():
                    signal.pthread_kill(writer.ident or 0, signal.SIGUSR1)
                    time.sleep(0.0002)

            thread = threading.Thread(target=storm)
            thread.start()
            try:
                while appends < 200 or arrived <= 10:  # the storm's thread may be scheduled late
                    await journal.append(step(record.id, appends + 1, "x" * 5_000))
                    appends += 1
            finally:
                done.set()
                thread.join()
        assert not deaths
        assert arrived > 10
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            assert len(await journal.read_events(record.id, limit=10_000)) == appends

    before = signal.signal(signal.SIGUSR1, count)  # without SA_RESTART, as Python's handlers are
    try:
        run(main)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_slow_flush_delays_and_loses_nothing(db_path: Path, new_session: New, step: Step) -> None:
    """The trio thread goes on meanwhile: a flush that lasts until it has done so holds up nobody else."""

    class Slow(FaultyVFS):
        def pass_or_fail(self, kind: str) -> None:
            if kind == "sync" and self.failed:
                went_on.wait(20)

    went_on = threading.Event()

    async def main() -> None:
        vfs = Slow("none", 0, stays=False)
        record, ticks = new_session(), 0
        async with await SqliteJournal.open(db_path, reserve_bytes=0, vfs=vfs.name) as journal:
            await journal.create_session(record)
            vfs.failed = True

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await trio.sleep(0.001)
                    ticks += 1
                    if ticks > 20:
                        went_on.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(tick)
                await journal.append(step(record.id, 1))
                nursery.cancel_scope.cancel()
            vfs.failed = False
        vfs.unregister()
        assert ticks > 20

    run(main)


def test_a_long_reader_keeps_no_append_waiting_and_the_log_is_folded_when_it_is_gone(
    db_path: Path, new_session: New, step: Step
) -> None:
    """Somebody looks at the file with a tool, and forgets the transaction that holds its snapshot."""

    async def main() -> None:
        record = new_session()
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            await journal.create_session(record)
            reader = apsw.Connection(str(db_path), flags=apsw.SQLITE_OPEN_READONLY)
            reader.execute("BEGIN; SELECT * FROM session").fetchall()
            for seq in range(1, 241):  # few and large: each is a flush, which may be slow
                await journal.append(step(record.id, seq, "x" * 40_000))
            held = journal.stats()
            assert held.wal_bytes > 2_000 * 4_096
            reader.close()
            for seq in range(241, 500):
                await journal.append(step(record.id, seq, "x" * 40_000))
                if journal.stats().wal_bytes < held.wal_bytes:
                    break
            assert journal.stats().wal_bytes < held.wal_bytes
            assert journal.stats().checkpoints > held.checkpoints

    run(main)


def test_a_state_on_a_read_only_file_system_is_a_clear_error(tmp_path: Path, new_session: New) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")

    async def main() -> None:
        path = disk / "state" / "journal.db"
        async with await SqliteJournal.open(path, reserve_bytes=0) as journal:
            await journal.create_session(new_session())
        await trio.run_process(["mount", "-o", "remount,ro", str(disk)])
        with pytest.raises((StoreError, OSError)) as caught:
            await SqliteJournal.open(path, reserve_bytes=0)
        assert "disk/state" in str(caught.value)
        assert getattr(caught.value, "errno", errno.EROFS) == errno.EROFS

    try:
        run(main)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_missing_index_of_the_log_is_made_again(db_path: Path, tmp_path: Path, new_session: New, step: Step) -> None:
    record = new_session()
    copy = tmp_path / "copy"

    async def main() -> None:
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            await journal.create_session(record)
            await journal.append(step(record.id, 1))
            copy.mkdir()
            for name in ("journal.db", "journal.db-wal"):
                (copy / name).write_bytes((db_path.parent / name).read_bytes())
        await check(copy / "journal.db", record, 1, step)

    run(main)
