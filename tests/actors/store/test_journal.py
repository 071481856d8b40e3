"""The contract of store/base.py, kept by SqliteJournal."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from skill_actors.ids import new_id
from skill_actors.sessions.events import Event
from skill_actors.store import (
    Append,
    Fenced,
    JournalClosed,
    SequenceConflict,
    SessionMissing,
    SessionRecord,
    SqliteJournal,
    TurnRecord,
)
from support import run

New = Callable[..., SessionRecord]
Step = Callable[..., Append]
NewTurn = Callable[..., TurnRecord]


def opened(path: Path, **options: Any) -> Any:
    @asynccontextmanager
    async def journal() -> Any:
        async with await SqliteJournal.open(path, reserve_bytes=0, **options) as store:
            yield store

    return journal()


def test_a_session_is_read_as_it_was_written(db_path: Path, new_session: New) -> None:
    record = new_session(
        settings={"title": "Grüße 👋", "system": "x" * 100_000, "nested": {"a": [1, 2.5, None, True]}},
        totals={"turns": 0, "cost_usd": None},
    )

    async def main() -> None:
        async with opened(db_path) as journal:
            await journal.create_session(record)
            assert await journal.get_session(record.id) == record
        async with opened(db_path) as journal:
            assert await journal.get_session(record.id) == record

    run(main)


def test_text_that_utf8_cannot_carry_comes_back_unchanged(db_path: Path, new_session: New, step: Step) -> None:
    text = "lone \ud800 surrogate, NUL \x00, separator \u2028, bell \x07, emoji 👋"

    async def main() -> None:
        record = new_session()
        async with opened(db_path) as journal:
            await journal.create_session(record)
            await journal.append(step(record.id, 1, text))
            (event,) = await journal.read_events(record.id)
            assert event.data == {"text": text}

    run(main)


def test_a_second_session_of_the_same_id_is_refused(db_path: Path, new_session: New) -> None:
    async def main() -> None:
        record = new_session()
        async with opened(db_path) as journal:
            await journal.create_session(record)
            with pytest.raises(ValueError, match=record.id):
                await journal.create_session(record)

    run(main)


def test_an_append_moves_the_session_and_stores_its_events(db_path: Path, new_session: New, step: Step) -> None:
    async def main() -> None:
        record = new_session()
        async with opened(db_path, clock=lambda: "2026-01-02T00:00:00.000Z") as journal:
            await journal.create_session(record)
            await journal.append(step(record.id, 1, settings={"title": "new"}, totals={"turns": 1}))
            stored = await journal.get_session(record.id)
            assert stored is not None
            assert (stored.last_seq, stored.updated) == (1, "2026-01-02T00:00:00.000Z")
            assert (stored.settings, stored.totals) == ({"title": "new"}, {"turns": 1})
            assert (stored.owner_uid, stored.created) == (record.owner_uid, record.created)
            assert [event.to_dict() for event in await journal.read_events(record.id)] == [
                {
                    "seq": 1,
                    "type": "model.message",
                    "time": "2026-01-01T12:00:00.000Z",
                    "session": record.id,
                    "turn": None,
                    "data": {"text": "hello"},
                }
            ]

    run(main)


def test_reserved_numbers_are_kept_and_can_be_filled_later(db_path: Path, new_session: New, step: Step) -> None:
    async def main() -> None:
        record = new_session()
        async with opened(db_path) as journal:
            await journal.create_session(record)
            await journal.append(Append(session=record.id, expected_last_seq=0, last_seq=3))
            assert await journal.read_events(record.id) == ()
            await journal.append(step(record.id, 2, expected_last_seq=3, last_seq=3))
            assert [event.seq for event in await journal.read_events(record.id)] == [2]
            stored = await journal.get_session(record.id)
            assert stored is not None
            assert stored.last_seq == 3

    run(main)


def test_wrong_appends_say_what_is_wrong_and_change_nothing(db_path: Path, new_session: New, step: Step) -> None:
    async def main() -> None:
        record = new_session()
        async with opened(db_path) as journal:
            await journal.create_session(record)
            await journal.append(step(record.id, 1, fence=5))
            with pytest.raises(SequenceConflict, match="is at 1, not at 0"):
                await journal.append(step(record.id, 1, fence=5))
            with pytest.raises(SequenceConflict):
                await journal.append(step(record.id, 3, fence=5))
            with pytest.raises(Fenced, match="token 5"):
                await journal.append(step(record.id, 2, fence=4))
            with pytest.raises(SessionMissing):
                await journal.append(step(new_id("ses"), 1))
            await journal.append(step(record.id, 2, fence=6))
            assert [event.seq for event in await journal.read_events(record.id)] == [1, 2]
            stored = await journal.get_session(record.id)
            assert stored is not None
            assert (stored.last_seq, stored.fence) == (2, 6)

    run(main)


def _event(session: str, seq: int, data: dict[str, Any]) -> Event:
    return Event(seq=seq, type="tool.output", time="2026-01-01T12:00:00.000Z", session=session, turn=None, data=data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"last_seq": 0, "expected_last_seq": 1},
        {"fence": -1},
        {"events": (_event("ses_other", 1, {}),)},
        {"events": (_event("", 9, {}),)},
        {"events": (_event("", 1, {"n": float("nan")}),)},
        {"settings": {"odd": float("inf")}},
    ],
)
def test_an_append_that_contradicts_itself_is_refused_at_once(
    db_path: Path, new_session: New, wrong: dict[str, Any]
) -> None:
    async def main() -> None:
        record = new_session()
        events = tuple(
            _event(event.session or record.id, event.seq, dict(event.data)) for event in wrong.get("events", ())
        )
        values = {"expected_last_seq": 0, "last_seq": 1} | wrong | {"events": events}
        async with opened(db_path) as journal:
            await journal.create_session(record)
            with pytest.raises(ValueError, match=r"append|event|JSON"):
                await journal.append(Append(session=record.id, **values))
            assert await journal.get_session(record.id) == record

    run(main)


def test_one_bad_append_in_a_batch_fails_alone(db_path: Path, new_session: New, new_turn: NewTurn, step: Step) -> None:
    async def main() -> None:
        sessions = [new_session() for _ in range(20)]
        key = {"idempotency_key": "k1"}
        outcomes: dict[str, Exception] = {}
        async with opened(db_path) as journal:
            for record in sessions:
                await journal.create_session(record)
            await journal.append(step(sessions[3].id, 1, turns=(new_turn(sessions[3].id, 1, **key),)))

            async def append(change: Append) -> None:
                try:
                    await journal.append(change)
                except (SequenceConflict, SessionMissing, ValueError) as error:
                    outcomes[change.session] = error

            async with trio.open_nursery() as nursery:
                for index, record in enumerate(sessions):
                    if index == 3:  # the same key again: only the database notices
                        change = step(record.id, 2, turns=(new_turn(record.id, 2, **key),))
                    else:
                        change = step(record.id, 5 if index == 7 else 1)
                    nursery.start_soon(append, change)
                nursery.start_soon(append, step("ses_none", 1))
            assert journal.stats().max_batch > 1
            assert {name: type(error) for name, error in outcomes.items()} == {
                sessions[3].id: ValueError,
                sessions[7].id: SequenceConflict,
                "ses_none": SessionMissing,
            }
            for index, record in enumerate(sessions):
                assert len(await journal.read_events(record.id)) == (0 if index == 7 else 1)
            stored = await journal.get_session(sessions[3].id)
            assert stored is not None
            assert stored.last_seq == 1

    run(main)


@pytest.mark.parametrize("value", [2**63, "text", 1.5, b"bytes", [1]])
def test_a_value_of_the_wrong_kind_fails_its_append_and_leaves_the_journal_at_work(
    db_path: Path, new_session: New, new_turn: NewTurn, step: Step, value: Any
) -> None:
    async def main() -> None:
        record, other = new_session(), new_session()
        async with opened(db_path) as journal:
            await journal.create_session(record)
            await journal.create_session(other)
            bad = Event(seq=1, type="model.delta", time="t", session=record.id, turn=None, data={}, offset=value)
            with pytest.raises(ValueError, match="stored"):
                await journal.append(step(record.id, 1, events=(bad,)))
            await journal.append(step(other.id, 1))
            await journal.append(step(record.id, 1))
            assert [event.seq for event in await journal.read_events(record.id)] == [1]

    run(main)


def test_turns_are_replaced_by_id_and_found_by_key(
    db_path: Path, new_session: New, new_turn: NewTurn, step: Step
) -> None:
    async def main() -> None:
        record = new_session()
        queued = new_turn(record.id, 1, idempotency_key="key", digest="d")
        done = new_turn(record.id, 1, id=queued.id, status="finished", idempotency_key="key", result={"text": "ok"})
        async with opened(db_path) as journal:
            await journal.create_session(record)
            await journal.append(step(record.id, 1, turns=(queued,)))
            assert await journal.unfinished_turns() == (queued,)
            assert await journal.find_turn(record.id, "key") == queued
            await journal.append(step(record.id, 2, turns=(done, new_turn(record.id, 2, status="running"))))
            assert await journal.get_turn(queued.id) == done
            assert [turn.status for turn in await journal.list_turns(record.id)] == ["finished", "running"]
            assert [turn.seq for turn in await journal.unfinished_turns()] == [2]
            assert await journal.find_turn(record.id, "other") is None
            assert await journal.get_turn(new_id("trn")) is None

    run(main)


def test_a_turn_cannot_be_moved_to_another_session(
    db_path: Path, new_session: New, new_turn: NewTurn, step: Step
) -> None:
    async def main() -> None:
        mine, other = new_session(), new_session()
        turn = new_turn(mine.id, 1)
        async with opened(db_path) as journal:
            await journal.create_session(mine)
            await journal.create_session(other)
            await journal.append(step(mine.id, 1, turns=(turn,)))
            with pytest.raises(ValueError, match=turn.id):
                await journal.append(step(other.id, 1, turns=(new_turn(other.id, 1, id=turn.id),)))
            assert await journal.list_turns(other.id) == ()
            assert await journal.read_events(other.id) == ()

    run(main)


def test_events_are_paged_by_number(db_path: Path, new_session: New, step: Step) -> None:
    async def main() -> None:
        record = new_session()
        async with opened(db_path) as journal:
            await journal.create_session(record)
            for seq in range(1, 11):
                await journal.append(step(record.id, seq))

            async def seqs(**bounds: int) -> list[int]:
                return [event.seq for event in await journal.read_events(record.id, **bounds)]

            assert await seqs(after=7) == [8, 9, 10]
            assert await seqs(after=2, through=4) == [3, 4]
            assert await seqs(limit=2) == [1, 2]
            assert await seqs(after=10) == []
            with pytest.raises(ValueError, match="limit 0"):
                await seqs(limit=0)

    run(main)


def test_sessions_are_listed_newest_first_a_page_at_a_time(db_path: Path, new_session: New) -> None:
    async def main() -> None:
        records = [new_session(owner_uid=i % 2, updated=f"2026-01-01T00:00:{i // 2:02}.000Z") for i in range(25)]
        async with opened(db_path) as journal:
            for record in records:
                await journal.create_session(record)
            assert await journal.count_sessions() == 25
            for owner in (None, 0, 1):
                expected = [r for r in records if owner is None or r.owner_uid == owner]
                expected.sort(key=lambda record: (record.updated, record.id), reverse=True)
                found: list[SessionRecord] = []
                cursor = None
                while True:
                    page = await journal.list_sessions(owner_uid=owner, limit=4, cursor=cursor)
                    found += page.items
                    if (cursor := page.next) is None:
                        break
                assert found == expected

    run(main)


@pytest.mark.parametrize("cursor", ["", "x", "%%%", "bm9uc2Vuc2U=", "ü", "AAAA" * 1000])
def test_a_foreign_cursor_is_refused(db_path: Path, cursor: str) -> None:
    async def main() -> None:
        async with opened(db_path) as journal:
            with pytest.raises(ValueError, match="cursor"):
                await journal.list_sessions(cursor=cursor)

    run(main)


def test_a_deleted_session_is_gone_with_turns_and_events(
    db_path: Path, new_session: New, new_turn: NewTurn, step: Step
) -> None:
    async def main() -> None:
        record, other = new_session(), new_session()
        turn = new_turn(record.id, 1, idempotency_key="k")
        events = tuple(_event(record.id, seq, {}) for seq in range(1, 1301))
        async with opened(db_path) as journal:
            await journal.create_session(record)
            await journal.create_session(other)
            await journal.append(
                Append(session=record.id, expected_last_seq=0, last_seq=1300, events=events, turns=(turn,))
            )
            await journal.append(step(other.id, 1))
            assert await journal.delete_session(record.id)
            assert not await journal.delete_session(record.id)
            assert await journal.get_session(record.id) is None
            assert await journal.read_events(record.id) == ()
            assert await journal.get_turn(turn.id) is None
            assert await journal.find_turn(record.id, "k") is None
            assert await journal.unfinished_turns() == ()
            with pytest.raises(SessionMissing):
                await journal.append(step(record.id, 1301))
            assert await journal.count_sessions() == 1
            assert len(await journal.read_events(other.id)) == 1
        async with opened(db_path) as journal:
            while await _rows(db_path, "SELECT count(*) FROM event") > 1:  # noqa: ASYNC110 - the writer thread sweeps
                await trio.sleep(0.01)
            await journal.create_session(record)  # the id is free again once nothing is left of the first
            assert await journal.read_events(record.id) == ()

    run(main)


async def _rows(path: Path, sql: str) -> int:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(db.execute(sql).get)
    finally:
        db.close()


def test_128_appenders_each_get_their_own_order_and_all_of_it_is_durable(
    db_path: Path, tmp_path: Path, new_session: New, step: Step
) -> None:
    """The copy is taken while the journal is open: what was acknowledged is in the files, not in memory."""
    copy = tmp_path / "copy"

    async def main() -> None:
        records = [new_session() for _ in range(128)]

        async def appender(journal: SqliteJournal, session: str) -> None:
            for seq in range(1, 11):
                await journal.append(step(session, seq, f"{session} {seq}"))

        async with opened(db_path) as journal:
            async with trio.open_nursery() as nursery:
                for record in records:
                    nursery.start_soon(journal.create_session, record)
            async with trio.open_nursery() as nursery:
                for record in records:
                    nursery.start_soon(appender, journal, record.id)
            assert journal.stats().max_batch > 16
            assert journal.stats().writes == 128 * 11
            shutil.copytree(db_path.parent, copy)
        async with opened(copy / db_path.name) as journal:
            for record in records:
                events = await journal.read_events(record.id)
                assert [event.seq for event in events] == list(range(1, 11))
                assert [event.data["text"] for event in events] == [f"{record.id} {seq}" for seq in range(1, 11)]

    run(main)


def test_appends_of_one_session_are_applied_in_the_order_of_the_calls(
    db_path: Path, new_session: New, step: Step
) -> None:
    """Nobody waits for the one before, so any other order would be a SequenceConflict."""

    async def main() -> None:
        record = new_session()
        async with opened(db_path) as journal:
            await journal.create_session(record)
            async with trio.open_nursery() as nursery:
                for seq in range(1, 201):
                    nursery.start_soon(journal.append, step(record.id, seq))
                    await trio.lowlevel.checkpoint()  # trio runs the tasks of one tick in any order
            assert [event.seq for event in await journal.read_events(record.id)] == list(range(1, 201))

    run(main)


def test_an_append_cancelled_while_it_waits_keeps_its_place(db_path: Path, new_session: New, step: Step) -> None:
    async def main() -> None:
        record = new_session()
        async with opened(db_path) as journal:
            await journal.create_session(record)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(journal.append, step(record.id, 1))
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            await journal.append(step(record.id, 2))
            assert [event.seq for event in await journal.read_events(record.id)] == [1, 2]

    run(main)


def test_an_append_that_was_cancelled_before_leaves_nothing(db_path: Path, new_session: New, step: Step) -> None:
    async def main() -> None:
        record = new_session()
        async with opened(db_path) as journal:
            await journal.create_session(record)
            with trio.CancelScope() as scope:
                scope.cancel()
                await journal.append(step(record.id, 1))
            assert scope.cancelled_caught
            assert await journal.get_session(record.id) == record

    run(main)


def test_closing_writes_what_was_accepted_and_then_takes_no_more(db_path: Path, new_session: New, step: Step) -> None:
    async def main() -> None:
        record = new_session()
        journal = await SqliteJournal.open(db_path, reserve_bytes=0)
        await journal.create_session(record)
        async with trio.open_nursery() as nursery:
            for seq in range(1, 51):
                nursery.start_soon(journal.append, step(record.id, seq))
                await trio.lowlevel.checkpoint()
            nursery.start_soon(journal.aclose)
            nursery.start_soon(journal.aclose)
        with pytest.raises(JournalClosed):
            await journal.append(step(record.id, 51))
        with pytest.raises(JournalClosed):
            await journal.get_session(record.id)
        await journal.aclose()
        async with opened(db_path) as journal:
            assert len(await journal.read_events(record.id)) == 50

    run(main)


def test_reads_do_not_wait_for_writes_and_see_what_was_acknowledged(
    db_path: Path, new_session: New, step: Step
) -> None:
    async def main() -> None:
        records = [new_session() for _ in range(8)]

        async def write_and_read(journal: SqliteJournal, session: str) -> None:
            for seq in range(1, 21):
                await journal.append(step(session, seq))
                assert [event.seq for event in await journal.read_events(session, after=seq - 1)] == [seq]

        async with opened(db_path) as journal:
            for record in records:
                await journal.create_session(record)
            async with trio.open_nursery() as nursery:
                for record in records:
                    nursery.start_soon(write_and_read, journal, record.id)

    run(main)


def test_the_log_is_folded_into_the_file_as_it_grows(db_path: Path, new_session: New, step: Step) -> None:
    async def main() -> None:
        record = new_session()
        async with opened(db_path) as journal:
            await journal.create_session(record)
            for seq in range(1, 31):
                await journal.append(step(record.id, seq, "x" * 400_000))
            stats = journal.stats()
            assert stats.checkpoints >= 2
            assert stats.wal_bytes < 8_000_000
            assert stats.db_bytes > 8_000_000
            assert stats.queue_depth == 0
            assert stats.last_commit_ms > 0
        assert db_path.with_name("journal.db-wal").stat().st_size == 0

    run(main)


def test_opening_ten_thousand_sessions_takes_no_longer_than_opening_ten(
    db_path: Path, new_session: New, new_turn: NewTurn, step: Step
) -> None:
    async def main() -> None:
        async with opened(db_path) as journal:
            async with trio.open_nursery() as nursery:
                for _ in range(10_000):
                    nursery.start_soon(journal.create_session, new_session())
            last = new_session()
            await journal.create_session(last)
            await journal.append(step(last.id, 1, turns=(new_turn(last.id, 1),)))
        best_s, ends_s = 9.0, trio.current_time() + 15
        while best_s >= 0.1 and trio.current_time() < ends_s:  # again where something else had the machine or the disk
            started_s = trio.current_time()
            async with opened(db_path) as journal:
                assert len(await journal.unfinished_turns()) == 1
                best_s = min(best_s, trio.current_time() - started_s)
        assert best_s < 0.1

    run(main)


def test_files_are_for_the_owner_only(db_path: Path, new_session: New) -> None:
    async def main() -> None:
        async with opened(db_path) as journal:
            await journal.create_session(new_session())
            for file in db_path.parent.iterdir():
                assert file.stat().st_mode & 0o077 == 0, file.name
            assert db_path.parent.stat().st_mode & 0o077 == 0

    run(main)
