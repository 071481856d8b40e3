"""Bits that flip, pages and files that are cut: what is read is what was stored, or an error that names the session."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from skill_actors.ids import id_of
from skill_actors.store import Append, DamagedRow, SessionRecord, SqliteJournal, StoreError, TurnRecord
from support import run

New = Callable[..., SessionRecord]
Step = Callable[..., Append]
NewTurn = Callable[..., TurnRecord]

SESSIONS, EVENTS = 3, 60
NOON = "2026-01-01T12:00:00.000Z"
PAGE, HEADER = 4096, 100
INTERIOR = 2  # the first byte of a page of keys that lead to others; all tables of sessions are kept in such trees


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
    """Three conversations; `folded`: all of it is in the file and the log is empty.

    The file is the same in every run, so that what a flipped bit does can be looked at again.
    """
    records = [new_session(id=id_of("ses", number)) for number in range(SESSIONS)]
    texts: dict[str, list[str]] = {record.id: [] for record in records}
    async with await SqliteJournal.open(path, reserve_bytes=0, clock=lambda: NOON) as journal:
        for record in records:
            await journal.create_session(record)
        for seq in range(1, EVENTS + 1):
            for record in records:
                text = f"{record.id}-{seq}-" + "x" * (seq * 7 % 300)
                turn = new_turn(record.id, seq, id=id_of("trn", record.id, seq), idempotency_key=f"k{seq}")
                turns = (turn,) if seq % 10 == 1 else ()
                await journal.append(step(record.id, seq, text, turns=turns))
                texts[record.id].append(text)
        left = contents(path)
    return Stored(*(contents(path) if folded else left), texts)


def contents(path: Path) -> tuple[bytes, bytes]:
    log = path.with_name("journal.db-wal")
    return path.read_bytes(), log.read_bytes() if log.exists() else b""


async def read(journal: SqliteJournal, session: str, texts: list[str]) -> int:
    """How many events the session gives. Whatever is read before the look at all of it is right by itself."""
    record = await journal.open_session(session)
    last = 0 if record is None else record.last_seq
    events = await journal.read_events(session, limit=10_000)
    assert [event.data["text"] for event in events] == texts[:last]
    some = await journal.read_events(session, after=EVENTS // 3, limit=7)
    assert [event.data["text"] for event in some] == texts[:last][EVENTS // 3 :][:7]
    turns = [seq for seq in range(1, last + 1) if seq % 10 == 1]
    assert [turn.seq for turn in await journal.list_turns(session)] == turns
    for seq in turns[-1:]:
        found = await journal.find_turn(session, f"k{seq}")
        assert found is not None
        assert found.seq == seq
    await journal.verify_session(session)
    return last


async def read_all(path: Path, stored: Stored) -> tuple[dict[str, int], set[str]]:
    """How many events each session gives, each checked against what was stored; and which sessions are refused.

    Raises StoreError if the journal does not open.
    """
    counts: dict[str, int] = {}
    refused: set[str] = set()
    async with await SqliteJournal.open(path, reserve_bytes=0) as journal:
        for session, texts in stored.texts.items():
            try:
                counts[session] = await read(journal, session, texts)
            except DamagedRow as error:
                refused.add(error.session)
        assert len(journal.damage()) >= len(refused)
    assert refused <= set(stored.texts)
    return counts, refused


async def flip(stored: Stored, folder: Path, place: int, bit: int) -> bool:
    """Whether it was noticed; what is read without an error is all that was stored."""
    data = bytearray(stored.base)
    data[place] ^= 1 << bit
    try:
        counts, refused = await read_all(stored.place(folder, base=bytes(data)), stored)
    except StoreError:
        return True
    assert set(counts.values()) <= {EVENTS}, f"bit {bit} of {place}: {counts}"
    assert len(counts) + len(refused) == SESSIONS, f"bit {bit} of {place}"
    return bool(refused)


def places_that_matter(stored: Stored) -> list[int]:
    """The heads of pages, and keys that lead to others: a few in a hundred of the file, where most can go wrong."""
    places: list[int] = []
    for page in range(PAGE, len(stored.base), PAGE):
        places += range(page, page + 32)
        if stored.base[page] == INTERIOR:
            places += keys_in(stored.base, page)
    return places


def keys_in(base: bytes, page: int) -> list[int]:
    """Where the ids of sessions stand in a page."""
    begins = [page + found.start() for found in re.finditer(rb"ses_[a-z2-7]{26}", base[page : page + PAGE])]
    return [place for begin in begins for place in range(begin, begin + 30)]


async def flip_many(stored: Stored, folder: Path, seed: int, rounds: int) -> int:
    """How many of so many flips were noticed."""
    chance = random.Random(seed)
    matter = places_that_matter(stored)
    noticed = 0
    for round in range(rounds):
        place = chance.choice(matter) if round % 5 == 0 else chance.randrange(HEADER, len(stored.base))
        noticed += await flip(stored, folder, place, chance.randrange(8))
    return noticed


def test_a_flipped_bit_anywhere_in_the_file_is_noticed_or_harmless(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, new_turn: NewTurn
) -> None:
    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=True)
        assert await flip_many(stored, tmp_path / "copy", 11, 300) > 60

    run(main)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(80))
def test_many_flipped_bits_are_noticed_or_harmless(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, new_turn: NewTurn, seed: int
) -> None:
    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=True)
        assert await flip_many(stored, tmp_path / "copy", seed, 250) > 50

    run(main)


@pytest.mark.parametrize("bits", [range(4), range(4, 8)], ids=["low", "high"])
def test_a_flipped_bit_of_the_files_header_is_noticed_or_harmless(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, new_turn: NewTurn, bits: range
) -> None:
    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=True)
        noticed = [
            (place, bit) for place in range(HEADER) for bit in bits if await flip(stored, tmp_path / "copy", place, bit)
        ]
        version = {(place, bit) for place in range(60, 64) for bit in bits}
        assert version <= set(noticed)  # also the one that makes it negative

    run(main)


@pytest.mark.parametrize("half", [0, 1])
def test_a_flipped_bit_in_the_key_of_an_event_hides_none(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, new_turn: NewTurn, half: int
) -> None:
    """It leads a search past what is there: SQLite then finds less than was stored, and no fault."""

    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=True)
        places: list[int] = []
        for session in stored.texts:
            for seq in (1, 2, EVENTS // 2, EVENTS):
                text = stored.base.index(f'"{session}-{seq}-'.encode())
                key = stored.base.rindex(session.encode(), 0, text)
                places += range(key + 4, key + len(session), 2)
        for page in range(PAGE, len(stored.base), PAGE):
            if stored.base[page] == INTERIOR:
                places += keys_in(stored.base, page)[::4]
        assert len(places) > 200
        for place in places[half::2]:
            await flip(stored, tmp_path / "copy", place, place // 2 % 5)

    run(main)


def test_a_page_that_is_lost_is_noticed(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, new_turn: NewTurn
) -> None:
    """Zeroed, or replaced by another page of the same file: SQLite itself may find nothing wrong with the second."""

    async def main() -> None:
        stored = await make(db_path, new_session, step, new_turn, folded=True)
        pages = len(stored.base) // PAGE
        chance = random.Random(12)
        for page in range(pages):
            for other in (bytes(PAGE), stored.base[(at := chance.randrange(1, pages) * PAGE) : at + PAGE]):
                data = stored.base[: page * PAGE] + other + stored.base[(page + 1) * PAGE :]
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
