"""A full disk refuses new work with a clear error; reads and endings go on; room makes it well again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from skill_actors.store import Append, SessionRecord, SqliteJournal, StorageFull, TurnRecord
from skill_actors.store.reserve import Reserve
from support import run

RESERVE_BYTES = 512 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for chunk in (65_536, 4_096):
            try:
                while True:
                    file.write(bytes(chunk))
            except OSError:
                continue
    return ballast


async def append_until_full(journal: SqliteJournal, step: Callable[..., Append], session: str, seq: int) -> int:
    """The last number that was acknowledged."""
    try:
        while True:
            await journal.append(step(session, seq + 1, "x" * 20_000))
            seq += 1
    except StorageFull:
        return seq


def test_a_full_disk_refuses_appends_serves_reads_and_recovers_by_itself(
    small_disk: Path, new_session: Callable[..., SessionRecord], step: Callable[..., Append]
) -> None:
    async def main() -> None:
        record = new_session()
        path = small_disk / "journal.db"
        async with await SqliteJournal.open(path, reserve_bytes=RESERVE_BYTES) as journal:
            await journal.create_session(record)
            await journal.append(step(record.id, 1))
            ballast = fill(small_disk)
            seq = await append_until_full(journal, step, record.id, 1)
            assert journal.stats().full
            assert [event.seq for event in await journal.read_events(record.id)] == list(range(1, seq + 1))
            stored = await journal.get_session(record.id)
            assert stored is not None
            assert stored.last_seq == seq
            with pytest.raises(StorageFull, match="free some space"):
                await journal.create_session(new_session())

            ballast.unlink()
            await journal.append(step(record.id, seq + 1))
            await journal.create_session(new_session())
            assert not journal.stats().full
        async with await SqliteJournal.open(path, reserve_bytes=RESERVE_BYTES) as journal:
            assert [event.seq for event in await journal.read_events(record.id)] == list(range(1, seq + 2))

    run(main)


def test_the_reserve_lets_running_turns_end_while_new_ones_are_refused(
    small_disk: Path,
    new_session: Callable[..., SessionRecord],
    new_turn: Callable[..., TurnRecord],
    step: Callable[..., Append],
) -> None:
    async def main() -> None:
        record = new_session()
        turn = new_turn(record.id, 1, status="running")
        ended = new_turn(record.id, 1, id=turn.id, status="finished")
        async with await SqliteJournal.open(small_disk / "journal.db", reserve_bytes=RESERVE_BYTES) as journal:
            await journal.create_session(record)
            await journal.append(step(record.id, 1, turns=(turn,)))
            fill(small_disk)
            seq = 1
            while not journal.stats().full:
                seq += 1
                await journal.append(step(record.id, seq, "x" * 20_000))
            with pytest.raises(StorageFull):
                await journal.append(step(record.id, seq + 1, turns=(new_turn(record.id, seq + 1),)))
            await journal.append(step(record.id, seq + 1, turns=(ended,)))
            assert await journal.get_turn(turn.id) == ended
            assert await journal.unfinished_turns() == ()

    run(main)


def test_many_appenders_on_a_full_disk_are_all_answered(
    small_disk: Path, new_session: Callable[..., SessionRecord], step: Callable[..., Append]
) -> None:
    async def main() -> None:
        records = [new_session() for _ in range(64)]
        reached: dict[str, int] = {}

        async def append(journal: SqliteJournal, session: str) -> None:
            reached[session] = await append_until_full(journal, step, session, 0)

        path = small_disk / "journal.db"
        async with await SqliteJournal.open(path, reserve_bytes=RESERVE_BYTES) as journal:
            for record in records:
                await journal.create_session(record)
            async with trio.open_nursery() as nursery:
                for record in records:
                    nursery.start_soon(append, journal, record.id)
            for record in records:
                events = await journal.read_events(record.id)
                assert [event.seq for event in events] == list(range(1, reached[record.id] + 1))

    run(main)


def test_a_session_can_be_deleted_on_a_full_disk_and_makes_room(
    small_disk: Path, new_session: Callable[..., SessionRecord], step: Callable[..., Append]
) -> None:
    async def main() -> None:
        old, record = new_session(), new_session()
        async with await SqliteJournal.open(small_disk / "journal.db", reserve_bytes=RESERVE_BYTES) as journal:
            await journal.create_session(old)
            await journal.create_session(record)
            for seq in range(1, 51):
                await journal.append(step(old.id, seq, "x" * 20_000))
            fill(small_disk)
            seq = 0
            while not journal.stats().full:
                seq += 1
                await journal.append(step(record.id, seq, "x" * 20_000))
            assert await journal.delete_session(old.id)
            assert await journal.get_session(old.id) is None
            for _ in range(20):
                seq += 1
                await journal.append(step(record.id, seq, "x" * 20_000))

    run(main)


def test_a_journal_opens_on_a_full_disk_for_reading(
    small_disk: Path, new_session: Callable[..., SessionRecord], step: Callable[..., Append]
) -> None:
    async def main() -> None:
        record = new_session()
        path = small_disk / "journal.db"
        async with await SqliteJournal.open(path, reserve_bytes=RESERVE_BYTES) as journal:
            await journal.create_session(record)
            await journal.append(step(record.id, 1))
        for leftover in (path.with_name("journal.db-shm"), path.with_name("journal.db-wal")):
            leftover.unlink(missing_ok=True)
        fill(small_disk)
        async with await SqliteJournal.open(path, reserve_bytes=RESERVE_BYTES) as journal:
            assert [event.seq for event in await journal.read_events(record.id)] == [1]
            with pytest.raises(StorageFull):
                await journal.create_session(new_session())

    run(main)


def test_a_reserve_holds_its_room_until_it_is_released(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 1_000_000)
    assert reserve.fill()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 1_000_000
    assert Reserve(tmp_path / "reserve", 1_000_000).fill()
    assert reserve.release()
    assert (tmp_path / "reserve").stat().st_blocks == 0
    assert not reserve.release()


def test_a_reserve_larger_than_the_disk_is_not_taken(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 1 << 60)
    assert not reserve.fill()
    assert not reserve.release()
