"""Bits that flip, pages and files that are cut: what is read is what was stored, or an error that names the session."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from skill_actors.store import Append, DamagedRow, SessionRecord, SqliteJournal, StoreError, TurnRecord
from support import run

New = Callable[..., SessionRecord]
Step = Callable[..., Append]
NewTurn = Callable[..., TurnRecord]

SESSIONS, EVENTS = 3, 60


@dataclass(frozen=True)
class Stored:
    """A journal as a killed process leaves it: `base` is the file, `log` what came after the last checkpoint."""

    base: bytes
    log: bytes
    texts: dict[str, list[str]]

    def place(self, folder: Path, base: bytes | None = None, log: bytes | None = None) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "journal.db").write_bytes(self.base if base is None else base)
        (folder / "journal.db-wal").write_bytes(self.log if log is None else log)
        return folder / "journal.db"


async def make(path: Path, new_session: New, step: Step, new_turn: NewTurn, *, folded: bool) -> Stored:
    """Three conversations; `folded`: all of it is in the file and the log is empty."""
    records = [new_session() for _ in range(SESSIONS)]
    texts: dict[str, list[str]] = {record.id: [] for record in records}
    async with await SqliteJournal.open(path, reserve_bytes=0) as journal:
        for record in records:
            await journal.create_session(record)
        for seq in range(1, EVENTS + 1):
            for record in records:
                text = f"{record.id}-{seq}-" + "x" * (seq * 7 % 300)
                turns = (new_turn(record.id, seq, idempotency_key=f"k{seq}"),) if seq % 10 == 1 else ()
                await journal.append(step(record.id, seq, text, turns=turns))
                texts[record.id].append(text)
        left = contents(path)
    return Stored(*(contents(path) if folded else left), texts)


def contents(path: Path) -> tuple[bytes, bytes]:
    log = path.with_name("journal.db-wal")
    return path.read_bytes(), log.read_bytes() if log.exists() else b""


async def read_all(path: Path, stored: Stored) -> tuple[dict[str, int], set[str]]:
    """How many events each session gives, each checked against what was stored; and which sessions are refused.

    Raises StoreError if the journal does not open.
    """
    counts: dict[str, int] = {}
    refused: set[str] = set()
    async with await SqliteJournal.open(path, reserve_bytes=0) as journal:
        for session, texts in stored.texts.items():
            try:
                record = await journal.open_session(session)
                await journal.verify_session(session)
                events = await journal.read_events(session, limit=10_000)
            except DamagedRow as error:
                refused.add(error.session)
                continue
            assert [event.data["text"] for event in events] == texts[: len(events)]
            assert (record.last_seq if record else 0) == len(events)
            counts[session] = len(events)
        assert len(journal.damage()) >= len(refused)
    assert refused <= set(stored.texts)
    return counts, refused


def test_a_flipped_bit_anywhere_in_the_file_is_noticed_or_harmless(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, new_turn: NewTurn
) -> None:
    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=True)
        chance = random.Random(11)
        noticed = 0
        for round in range(250):
            data = bytearray(stored.base)
            place = chance.randrange(100, len(data)) if round % 10 else chance.randrange(100)
            data[place] ^= 1 << chance.randrange(8)
            path = stored.place(tmp_path / "copy", base=bytes(data))
            try:
                counts, refused = await read_all(path, stored)
            except StoreError:
                noticed += 1
                continue
            noticed += bool(refused)
            assert set(counts.values()) <= {EVENTS}, f"bit {place}: {counts}"
            assert len(counts) + len(refused) == SESSIONS
        assert noticed > 50

    run(main)


def test_a_page_that_is_lost_is_noticed(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, new_turn: NewTurn
) -> None:
    """Zeroed, or replaced by another page of the same file: SQLite itself may find nothing wrong with the second."""

    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=True)
        pages = len(stored.base) // 4096
        chance = random.Random(12)
        for page in range(pages):
            for other in (bytes(4096), stored.base[(at := chance.randrange(1, pages) * 4096) : at + 4096]):
                data = stored.base[: page * 4096] + other + stored.base[(page + 1) * 4096 :]
                try:
                    counts, _ = await read_all(stored.place(tmp_path / "copy", base=data), stored)
                except StoreError:
                    continue
                assert set(counts.values()) <= {EVENTS}, f"page {page}: {counts}"

    run(main)


def test_a_truncated_file_is_refused_or_named(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, new_turn: NewTurn
) -> None:
    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=True)
        for cut in range(1, len(stored.base), len(stored.base) // 23 + 13):
            try:
                counts, _ = await read_all(stored.place(tmp_path / "copy", base=stored.base[:cut]), stored)
            except StoreError:
                continue
            assert set(counts.values()) <= {EVENTS}

    run(main)


def test_a_log_that_is_cut_flipped_or_ends_in_zeros_opens_to_a_prefix_and_says_what_it_left(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, new_turn: NewTurn
) -> None:
    """The appends were one after the other over all sessions, so a prefix is a prefix of that order."""

    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=False)
        assert len(stored.log) > 100_000
        chance = random.Random(13)
        for round in range(90):
            place = chance.randrange(len(stored.log)) if round % 9 else chance.randrange(32)
            log = bytearray(stored.log)
            match round % 3:
                case 0:
                    log[place] ^= 1 << chance.randrange(8)
                case 1:
                    del log[place:]
                case _:
                    log[place:] = bytes(len(log) - place)
            path = stored.place(tmp_path / "copy", log=bytes(log))
            counts, refused = await read_all(path, stored)
            assert not refused
            reached = list(counts.values())
            assert reached == sorted(reached, reverse=True)
            assert reached[0] - reached[-1] <= 1
            if round % 3 == 0 and sum(reached) < SESSIONS * EVENTS and place < len(stored.log) - 3 * 4120:
                (folder,) = (path.parent / "quarantine").iterdir()
                assert (folder / "journal.db-wal").read_bytes() == bytes(log)
                assert "cannot be read" in json.loads((folder / "report.json").read_bytes())["cause"]

    run(main)


def test_a_sound_log_of_a_killed_process_leaves_no_report(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, new_turn: NewTurn
) -> None:
    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=False)
        path = stored.place(tmp_path / "copy")
        counts, refused = await read_all(path, stored)
        assert (set(counts.values()), refused) == ({EVENTS}, set())
        assert not (path.parent / "quarantine").exists()

    run(main)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("DELETE FROM event WHERE session = ?1 AND seq = 7", "event"),
        ("DELETE FROM event WHERE session = ?1", "event"),
        ("UPDATE event SET seq = 1000 WHERE session = ?1 AND seq = 60", "event"),
        ("DELETE FROM turn WHERE session = ?1 AND seq = 11", "turn"),
        ("DELETE FROM session WHERE id = ?1", "session"),
        ("UPDATE session SET events = 0 WHERE id = ?1", "event"),
        ("UPDATE session SET turns_sum = 0 WHERE id = ?1", "turn"),
    ],
)
def test_what_is_missing_is_damage_and_not_an_empty_conversation(
    db_path: Path, new_session: New, step: Step, new_turn: NewTurn, change: str, what: str
) -> None:
    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=True)
        hurt, *sound = stored.texts
        db = apsw.Connection(str(db_path))
        db.execute(change, (hurt,))
        db.close()
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            with pytest.raises(DamagedRow, match=what) as caught:
                await journal.verify_session(hurt)
            assert caught.value.what == what
            assert hurt in await journal.session_ids()
            for session in sound:
                await journal.verify_session(session)
                assert await journal.open_session(session) is not None

    run(main)


def test_evidence_of_damage_is_kept_once_and_readable(
    db_path: Path, new_session: New, step: Step, new_turn: NewTurn
) -> None:
    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=True)
        hurt = next(iter(stored.texts))
        stored.place(
            db_path.parent, base=stored.base.replace(f"{hurt}-7-".encode(), b"\xff" + hurt[1:].encode() + b"-7-")
        )
        for _ in range(2):  # also by the next process
            async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
                for _ in range(2):
                    with pytest.raises(DamagedRow):
                        await journal.read_events(hurt)
                (damage,) = journal.damage()
                assert (damage.session, damage.what, damage.seq) == (hurt, "event", 7)
        (folder,) = (db_path.parent / "quarantine").iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        report = json.loads((folder / "report.json").read_bytes())
        assert (report["session"], report["seq"]) == (hurt, 7)
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_bytes().splitlines()]
        events = [row["row"] for row in rows if row["table"] == "event"]
        assert len(events) == EVENTS
        assert f"{hurt}-8-" in events[7][5]
        assert "base64" in events[6][5]
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            with pytest.raises(DamagedRow):
                await journal.read_events(hurt)
            assert await journal.delete_session(hurt)
            assert journal.damage() == ()
        assert folder.exists()

    run(main)
