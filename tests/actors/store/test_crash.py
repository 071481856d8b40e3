"""What a killed process acknowledged is there afterwards; what the disk refused was never acknowledged."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio

from skill_actors.store import SqliteJournal
from store_kit import acknowledged, check, start
from support import run

KILLS = int(os.environ.get("STORE_KILLS", "20"))


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(db_path: Path) -> None:
    """One state directory lives through all the kills, so that each start also recovers what the last one left."""
    acks: dict[str, int] = {}
    chance = random.Random(4)
    for _ in range(KILLS):
        with start(db_path) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(chance.randint(2, 150))]
            process.kill()
            lines += process.stdout.read().splitlines(keepends=True)
        assert lines.pop(0) == b"open\n"
        acks |= acknowledged([line.decode() for line in lines if line.endswith(b"\n")])
    assert len(acks) >= KILLS
    assert run(check, db_path, acks) >= sum(acks.values())


def test_a_failed_fsync_ends_the_process_before_it_acknowledges(db_path: Path, tmp_path: Path) -> None:
    switch = tmp_path / "fail"
    with start(db_path, FAIL_SYNC=str(switch)) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(50)]
        switch.touch()
        lines += process.stdout.read().splitlines(keepends=True)
        assert process.wait(20) == 74
    acks = acknowledged([line.decode() for line in lines[1:]])
    assert run(check, db_path, acks) >= sum(acks.values())


def test_a_journal_whose_process_was_killed_needs_no_help_to_open(db_path: Path) -> None:
    with start(db_path) as process:
        assert process.stdout is not None
        for _ in range(100):
            process.stdout.readline()
        process.kill()

    async def main() -> None:
        started_s = trio.current_time()
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            assert await journal.count_sessions() >= 1
        assert trio.current_time() - started_s < 5

    run(main)


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.deep), 9], ids=["each", "every-ninth"])
@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_process_that_dies_at_whichever_operation_on_the_disk_lost_nothing_it_acknowledged(
    tmp_path: Path, kind: str, stride: int
) -> None:
    """Before the n-th write or flush, from the first start on; each in a state of its own."""
    for number in range(1, {"write": 90, "sync": 30}[kind], stride):
        path = tmp_path / str(number) / "journal.db"
        with start(path, KILL_AT=f"{kind} {number}") as process:
            assert process.stdout is not None
            lines = process.stdout.read().splitlines(keepends=True)
            assert process.wait(20) == -9
        acks = acknowledged([line.decode() for line in lines[1:] if line.endswith(b"\n")])
        assert run(check, path, acks) >= sum(acks.values())
