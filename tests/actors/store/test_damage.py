"""Damaged data is reported by session and number, and never served; what is sound is served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from skill_actors.store import Append, DamagedRow, SessionRecord, SqliteJournal, StoreError, TurnRecord
from support import run

New = Callable[..., SessionRecord]
Step = Callable[..., Append]


async def write(path: Path, sessions: list[SessionRecord], step: Step, events: int = 3) -> None:
    async with await SqliteJournal.open(path, reserve_bytes=0) as journal:
        for record in sessions:
            await journal.create_session(record)
            for seq in range(1, events + 1):
                await journal.append(step(record.id, seq, f"MARK-{record.id}-{seq}-"))


def flip(path: Path, text: str, new: bytes) -> None:
    """Overwrite the one place in the file where `text` is."""
    data = path.read_bytes()
    place = data.index(text.encode())
    assert data.count(text.encode()) == 1
    with path.open("r+b") as file:
        file.seek(place)
        file.write(new)


def clear_page(path: Path, text: str) -> None:
    """Overwrite the page that `text` is in with zeros."""
    place = path.read_bytes().index(text.encode()) // 4096 * 4096
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(4096))


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def place(path: Path, base: bytes, log: bytes) -> Path:
    """Put a database and its log where a journal is looked for."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(base)
    log_of(path).write_bytes(log)
    return path


def contents(path: Path) -> tuple[bytes, bytes]:
    return path.read_bytes(), log_of(path).read_bytes() if log_of(path).exists() else b""


@pytest.mark.parametrize("new", [b"N", b"\xff", b'"', b"\x00"])
def test_a_flipped_byte_in_an_event_names_the_event_and_hurts_no_other(
    db_path: Path, new_session: New, step: Step, new: bytes
) -> None:
    hurt, sound = new_session(), new_session()

    async def main() -> None:
        await write(db_path, [hurt, sound], step)
        flip(db_path, f"MARK-{hurt.id}-2-", new)
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            with pytest.raises(DamagedRow, match=f"event 2 of session {hurt.id} is damaged") as caught:
                await journal.read_events(hurt.id)
            assert (caught.value.session, caught.value.seq) == (hurt.id, 2)
            assert [event.seq for event in await journal.read_events(hurt.id, after=2)] == [3]
            assert [event.seq for event in await journal.read_events(hurt.id, through=1)] == [1]
            assert len(await journal.read_events(sound.id)) == 3
            await journal.append(step(sound.id, 4))
            assert await journal.delete_session(hurt.id)

    run(main)


def test_a_damaged_session_is_left_out_of_lists_and_reported_by_itself(
    db_path: Path, new_session: New, step: Step
) -> None:
    hurt, sound = new_session(settings={"title": "MARK-TITLE"}), new_session()

    async def main() -> None:
        await write(db_path, [hurt, sound], step)
        flip(db_path, "MARK-TITLE", b"m")
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            with pytest.raises(DamagedRow, match=hurt.id):
                await journal.get_session(hurt.id)
            assert [record.id for record in (await journal.list_sessions()).items] == [sound.id]
            assert journal.stats().damaged == 1

    run(main)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE session SET last_seq = 7",
        "UPDATE session SET fence = 7",
        "UPDATE session SET owner_uid = 0",
        "UPDATE session SET created = '1970'",
        "UPDATE session SET updated = '1970'",
        "UPDATE session SET totals = '[]'",
        "DELETE FROM settings",
    ],
)
def test_every_column_of_a_session_is_covered(db_path: Path, new_session: New, step: Step, change: str) -> None:
    record = new_session()

    async def main() -> None:
        await write(db_path, [record], step)
        _sql(db_path, change)
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            with pytest.raises(DamagedRow):
                await journal.get_session(record.id)

    run(main)


@pytest.mark.parametrize("column", ["status", "updated", "idempotency_key", "digest", "result"])
def test_every_column_of_a_turn_is_covered(
    db_path: Path, new_session: New, new_turn: Callable[..., TurnRecord], step: Step, column: str
) -> None:
    record = new_session()

    async def main() -> None:
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            await journal.create_session(record)
            await journal.append(step(record.id, 1, turns=(new_turn(record.id, 1),)))
        _sql(db_path, f"UPDATE turn SET {column} = 'running'")
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            with pytest.raises(DamagedRow, match=f"turn 1 of session {record.id}"):
                await journal.list_turns(record.id)
            assert await journal.unfinished_turns() == ()

    run(main)


def _sql(path: Path, change: str) -> None:
    db = apsw.Connection(str(path))
    db.execute(change)
    db.close()


def test_a_damaged_page_is_an_error_and_the_journal_goes_on(db_path: Path, new_session: New, step: Step) -> None:
    sessions = [new_session() for _ in range(3)]

    async def main() -> None:
        await write(db_path, sessions, step, events=120)
        clear_page(db_path, f"MARK-{sessions[0].id}-50-")
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            with pytest.raises(DamagedRow, match=sessions[0].id):
                await journal.read_events(sessions[0].id)
            assert len(await journal.list_turns(sessions[1].id)) == 0
            last = sessions[1]
            await journal.append(step(last.id, 121))
            assert [event.seq for event in await journal.read_events(last.id, after=120)] == [121]

    run(main)


@pytest.mark.parametrize("content", [b"not a database " * 400, b"SQLite format 3\x00" + bytes(4080)])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(db_path: Path, content: bytes) -> None:
    async def main() -> None:
        place(db_path, content, b"")
        with pytest.raises(StoreError, match=r"journal\.db"):
            await SqliteJournal.open(db_path, reserve_bytes=0)
        assert contents(db_path) == (content, b"")

    run(main)


def test_an_emptied_file_beside_its_log_is_refused_and_the_log_kept(
    db_path: Path, new_session: New, step: Step
) -> None:
    """SQLite alone would throw the log away and begin with an empty database."""

    async def main() -> None:
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            await journal.create_session(new_session())
            _, log = contents(db_path)
        assert log
        place(db_path, b"", log)
        with pytest.raises(StoreError, match="restore a backup"):
            await SqliteJournal.open(db_path, reserve_bytes=0)
        assert contents(db_path) == (b"", log)

    run(main)


def test_a_torn_log_opens_to_a_prefix(db_path: Path, tmp_path: Path, new_session: New, step: Step) -> None:
    """Cut anywhere, the log gives back the first appends without a gap, never garbage."""
    record = new_session()

    async def main() -> None:
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            await journal.create_session(record)
            for seq in range(1, 21):
                await journal.append(step(record.id, seq, "x" * 300))
            base, log = contents(db_path)
        for number, cut in enumerate(range(0, len(log), len(log) // 12 + 7)):
            copy = place(tmp_path / f"cut{number}" / "journal.db", base, log[:cut])
            async with await SqliteJournal.open(copy, reserve_bytes=0) as journal:
                events = await journal.read_events(record.id)
                assert [event.seq for event in events] == list(range(1, len(events) + 1))
                assert len(events) < 20

    run(main)
