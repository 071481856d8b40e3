"""A process that appends until it dies, what it acknowledged, and what a journal must hold afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from skill_actors.store import SqliteJournal

APPENDER = Path(__file__).parent / "actors" / "store" / "appender.py"


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
