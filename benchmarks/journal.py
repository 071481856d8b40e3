"""Durable appends a second, beside SQLite with synchronous=FULL and the same batching, in the same run.

    python benchmarks/journal.py [--appends N] [--actors 1,16,128] [--directory DIR] [--json]

Each actor appends one event of 500 bytes at a time to a session of its own and waits until it is durable; the events
are made beforehand. Then all are read back, page by page, each row's checksum compared. The two floors are apsw alone,
one thread, a commit for every N rows: `bare` inserts the event into a table like the journal's, `same` also moves the
session's head, as every append must. DIR should be on the disk that will hold the state.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw
import trio

from skill_actors.ids import new_id
from skill_actors.sessions.events import Event, utc_now
from skill_actors.store import Append, SessionRecord, SqliteJournal

TEXT = "x" * 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the table. Latency is from the call of append to its return, in milliseconds."""

    actors: int
    appends_per_s: float
    p50_ms: float
    p99_ms: float
    mean_batch: float
    bare_per_s: float
    same_per_s: float
    replay_per_s: float

    @property
    def ratio_to_bare(self) -> float:
        return self.appends_per_s / self.bare_per_s

    @property
    def ratio_to_same(self) -> float:
        return self.appends_per_s / self.same_per_s


def floor(directory: Path, batch: int, count: int, *, move_head: bool) -> float:
    """Rows a second through apsw alone, `batch` rows to a commit, `count` in all."""
    db = apsw.Connection(str(directory / f"floor-{batch}-{move_head}.db"))
    db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384")
    db.execute(
        "CREATE TABLE event (session TEXT, seq INTEGER, type TEXT, time TEXT, data TEXT, PRIMARY KEY (session, seq))"
        " STRICT, WITHOUT ROWID;"
        "CREATE TABLE session (id TEXT PRIMARY KEY, updated TEXT, last_seq INTEGER) STRICT, WITHOUT ROWID;"
        "CREATE INDEX by_updated ON session (updated, id)"
    )
    sessions = [new_id("ses") for _ in range(batch)]
    with db:
        db.executemany("INSERT INTO session VALUES (?, ?, 0)", ((session, utc_now()) for session in sessions))
    rounds = count // batch
    started_s = time.perf_counter()
    for seq in range(1, rounds + 1):
        now = utc_now()
        db.execute("BEGIN IMMEDIATE")
        for session in sessions:
            if move_head:
                moved = (now, seq, session, seq - 1)
                db.execute("UPDATE session SET updated = ?, last_seq = ? WHERE id = ? AND last_seq = ?", moved)
            db.execute("INSERT INTO event VALUES (?, ?, 'tool.output', ?, ?)", (session, seq, now, TEXT))
        db.execute("COMMIT")
    rate = rounds * batch / (time.perf_counter() - started_s)
    db.close()
    return rate


async def journal(directory: Path, actors: int, count: int) -> tuple[float, list[float], float, float]:
    """Appends a second through the journal, each one's latency in seconds, the mean batch, and events a second read."""
    latencies_s: list[float] = []
    async with await SqliteJournal.open(directory / f"state-{actors}" / "journal.db") as store:
        sessions = [new_id("ses") for _ in range(actors)]
        async with trio.open_nursery() as nursery:
            for session in sessions:
                record = SessionRecord(id=session, owner_uid=0, created=utc_now(), updated=utc_now())
                nursery.start_soon(store.create_session, record)
        work = [_changes(session, count // actors) for session in sessions]
        before, started_s = store.stats(), time.perf_counter()
        async with trio.open_nursery() as nursery:
            for changes in work:
                nursery.start_soon(_actor, store, changes, latencies_s)
        elapsed_s, after = time.perf_counter() - started_s, store.stats()
        replay_per_s = await _replay(store, sessions)
    mean_batch = len(latencies_s) / max(1, after.commits - before.commits)
    return len(latencies_s) / elapsed_s, latencies_s, mean_batch, replay_per_s


async def _replay(store: SqliteJournal, sessions: Sequence[str]) -> float:
    """Events a second when all conversations are loaded and read from the beginning, one after the other."""
    events, started_s = 0, time.perf_counter()
    for session in sessions:
        await store.open_session(session)
        after = 0
        while page := await store.read_events(session, after=after):
            after = page[-1].seq
            events += len(page)
    return events / (time.perf_counter() - started_s)


def _changes(session: str, count: int) -> list[Append]:
    now, data = utc_now(), {"text": TEXT}
    events = (
        Event(seq=seq, type="tool.output", time=now, session=session, turn=None, data=data)
        for seq in range(1, count + 1)
    )
    return [
        Append(session=session, expected_last_seq=event.seq - 1, last_seq=event.seq, events=(event,))
        for event in events
    ]


async def _actor(store: SqliteJournal, changes: list[Append], latencies_s: list[float]) -> None:
    for change in changes:
        began_s = time.perf_counter()
        await store.append(change)
        latencies_s.append(time.perf_counter() - began_s)


def measure(directory: Path, actors: int, appends: int) -> Line:
    """One line; floors are taken before and after the journal, and averaged, since disks drift."""
    count = max(appends if actors > 1 else appends // 10, actors * 10)
    bare = [floor(directory, actors, count, move_head=False)]
    same = [floor(directory, actors, count, move_head=True)]
    rate, latencies_s, mean_batch, replay_per_s = trio.run(journal, directory, actors, count)
    with tempfile.TemporaryDirectory(dir=directory) as again:
        bare.append(floor(Path(again), actors, count, move_head=False))
        same.append(floor(Path(again), actors, count, move_head=True))
    ordered = sorted(latencies_s)
    return Line(
        actors=actors,
        appends_per_s=rate,
        p50_ms=ordered[len(ordered) // 2] * 1_000,
        p99_ms=ordered[len(ordered) * 99 // 100] * 1_000,
        mean_batch=mean_batch,
        bare_per_s=statistics.fmean(bare),
        same_per_s=statistics.fmean(same),
        replay_per_s=replay_per_s,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--appends", type=int, default=20_000)
    parser.add_argument("--actors", default="1,16,128")
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        lines = [measure(Path(directory), int(actors), options.appends) for actors in options.actors.split(",")]
    if options.json:
        rows = [
            asdict(line) | {"ratio_to_bare": line.ratio_to_bare, "ratio_to_same": line.ratio_to_same} for line in lines
        ]
        print(json.dumps(rows))
        return
    print("actors  appends/s  p50 ms  p99 ms  batch  bare/s  ratio  same/s  ratio  replay/s")
    for line in lines:
        print(
            f"{line.actors:6d}  {line.appends_per_s:9.0f}  {line.p50_ms:6.2f}  {line.p99_ms:6.2f}  "
            f"{line.mean_batch:5.1f}  {line.bare_per_s:6.0f}  {line.ratio_to_bare:5.2f}  "
            f"{line.same_per_s:6.0f}  {line.ratio_to_same:5.2f}  {line.replay_per_s:8.0f}"
        )


if __name__ == "__main__":
    main()
