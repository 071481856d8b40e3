"""What a killed process acknowledged is there afterwards; what the disk refused was never acknowledged."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import trio

from skill_actors.store import SqliteJournal
from support import run

APPENDER = Path(__file__).with_name("appender.py")
KILLS = int(os.environ.get("STORE_KILLS", "20"))


def start(path: Path, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", str(APPENDER), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | _import_path() | environment)


def _import_path() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def acknowledged(lines: list[str]) -> dict[str, int]:
    last: dict[str, int] = defaultdict(int)
    for line in lines:
        session, _, seq = line.partition(" ")
        last[session] = max(last[session], int(seq))
    return last


async def check(path: Path, acks: dict[str, int]) -> int:
    """Every session is gapless and holds at least what was acknowledged; how many events there are in all."""
    total = 0
    async with await SqliteJournal.open(path, reserve_bytes=0) as journal:
        for session, seq in acks.items():
            events = await journal.read_events(session, limit=10_000)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert all(event.data == {"n": event.seq * 7} for event in events)
            assert len(events) >= seq
            stored = await journal.get_session(session)
            assert stored is not None
            assert stored.last_seq == len(events)
            total += len(events)
    return total


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
