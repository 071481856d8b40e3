"""One session's log: numbers without holes, and readers who see everything once, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from skill_actors.sessions.events import Event, Position
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.store import Append, SessionRecord, SqliteJournal, StorageFull
from support import run

SESSION = "ses_" + "a" * 26
TURN = "trn_" + "a" * 26


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[SqliteJournal, SessionLog]]:
    async with await SqliteJournal.open(folder / "journal.db") as journal:
        record = SessionRecord(id=SESSION, owner_uid=1, created="2026-01-01T00:00:00.000Z", updated="2026")
        await journal.create_session(record)
        yield journal, SessionLog(journal, record)


async def take(log: SessionLog, count: int, after: Position | None = None) -> list[Event]:
    async with log.follow(after or Position()) as events:
        taken = []
        async for event in events:
            taken.append(event)
            if len(taken) == count:
                break
        return taken


async def all_stored(log: SessionLog, after: str = "0") -> list[Event]:
    async with log.follow(Position.parse(after), live=False) as events:
        return [event async for event in events]


def seqs(events: Sequence[Event]) -> list[int]:
    return [event.seq for event in events]


def test_a_reader_sees_what_was_stored_and_then_what_comes(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (_, log):
            await log.append([Draft("turn.queued", TURN, {"text": "a"}), Draft("turn.started", TURN)])
            got: list[Event] = []

            async def read() -> None:
                got.extend(await take(log, 4))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked(0.05)
                await log.append([Draft("model.message", TURN)])
                await log.append([Draft("turn.finished", TURN)])
            assert seqs(got) == [1, 2, 3, 4]

    run(main)


def test_deltas_come_live_and_the_merged_block_is_what_is_stored(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (_, log):
            await log.append([Draft("turn.started", TURN)])
            await log.open_block(TURN, {"block": 0, "kind": "text"})
            got: list[Event] = []

            async def read() -> None:
                async with log.follow(Position(1)) as events:
                    async for event in events:
                        got.append(event)
                        if event.type == "turn.finished":
                            return

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                for text in ("Hel", "lo \N{GRINNING FACE}", "!"):
                    log.delta(text)
                    await trio.testing.wait_all_tasks_blocked(0.02)
                await log.close_block()
                await log.append([Draft("turn.finished", TURN)])
            assert [str(event.position) for event in got] == ["2.3", "2.7", "2.8", "3"]
            assert "".join(event.data["text"] for event in got[:3]) == "Hello \N{GRINNING FACE}!"
            assert next(event.data.get("text") for event in await all_stored(log, "1")) == "Hello \N{GRINNING FACE}!"

    run(main)


@pytest.mark.parametrize("offset", range(9))
def test_a_reader_goes_on_from_any_code_point_of_a_block(tmp_path: Path, offset: int) -> None:
    text = "Hello \N{GRINNING FACE}!"

    async def main() -> None:
        async with opened(tmp_path) as (_, log):
            await log.open_block(TURN, {"block": 0, "kind": "text"})
            log.delta(text[:3])
            log.delta(text[3:])
            if offset % 2:  # still open, or closed
                await log.close_block()
            rest = "".join(e.data["text"] for e in await all_stored(log, f"1.{offset}"))
            assert rest == text[offset:]

    run(main)


def test_events_behind_an_open_block_are_shown_after_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (journal, log):
            await log.open_block(TURN, {"block": 0, "kind": "text"})
            log.delta("abc")
            await log.append([Draft("turn.queued", "trn_other", {"text": "later"})])
            stored = await journal.read_events(SESSION)
            assert seqs(stored) == [2]  # acknowledged at once
            assert [str(event.position) for event in await all_stored(log)] == ["1.3"]
            await log.close_block()
            assert seqs(await all_stored(log)) == [1, 2]

    run(main)


def test_a_number_that_was_reserved_before_a_crash_is_passed_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (journal, log):
            await log.append([Draft("turn.started", TURN)])
            await log.open_block(TURN, {"block": 0, "kind": "text"})
            log.delta("lost")
            record = await journal.get_session(SESSION)
            assert record is not None
            reborn = SessionLog(journal, record)
            assert seqs(await all_stored(reborn)) == [1]
            await reborn.append([Draft("turn.interrupted", TURN)])
            assert seqs(await take(reborn, 2)) == [1, 3]

    run(main)


def test_a_failed_append_takes_its_numbers_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (journal, log):
            real = journal.append
            failures = iter([StorageFull("no room")])

            async def append(change: Append) -> None:
                for failure in failures:
                    raise failure
                await real(change)

            journal.append = append  # type: ignore[method-assign]
            with pytest.raises(StorageFull):
                await log.append([Draft("turn.started", TURN)])
            await log.append([Draft("turn.started", TURN)])
            assert seqs(await all_stored(log)) == [1]

    run(main)


def test_many_writers_and_slow_and_fast_readers_all_agree(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (_, log):
            total = 200
            seen: list[list[int]] = []

            async def write(number: int) -> None:
                for _ in range(total // 4):
                    await log.append([Draft("tool.output", TURN, {"n": number})])

            async def read(pause_s: float) -> None:
                got: list[int] = []
                async with log.follow(Position()) as events:
                    async for event in events:
                        got.append(event.seq)
                        if len(got) == total:
                            break
                        if pause_s and len(got) % 20 == 0:
                            await trio.sleep(pause_s)
                seen.append(got)

            async with trio.open_nursery() as nursery:
                for pause_s in (0.0, 0.0, 0.02):
                    nursery.start_soon(read, pause_s)
                for number in range(4):
                    nursery.start_soon(write, number)
            assert seen == [list(range(1, total + 1))] * 3

    run(main)


def test_a_deleted_session_ends_its_readers(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (_, log), trio.open_nursery() as nursery:

            async def read() -> None:
                async with log.follow(Position()) as events:
                    assert [event async for event in events] == []

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked(0.02)
            log.mark_deleted()

    run(main)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.", ".5", "1.2.3", "1e3", "9" * 40, "\N{SUPERSCRIPT TWO}", "1 "])
def test_a_position_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        Position.parse(text)


def test_events_of_other_turns_are_never_counted_as_ready_for_a_reader_of_one(tmp_path: Path) -> None:
    """Whoever sends what is ready before it waits would otherwise wait with something in its hand."""
    other = "trn_" + "b" * 26

    async def main() -> None:
        async with opened(tmp_path) as (_, log):
            await log.append([Draft("tool.output", turn, {"text": "x"}) for turn in (other, TURN, other, TURN, other)])
            counts: list[tuple[int, int]] = []

            async def read() -> None:
                async with log.follow(Position(), turn=TURN) as events:
                    async for event in events:
                        counts.append((event.seq, events.buffered))  # type: ignore[attr-defined]

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                with trio.fail_after(20):
                    while len(counts) < 2:  # noqa: ASYNC110  # the store is read in a thread
                        await trio.sleep(0.005)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert counts == [(2, 1), (4, 0)]
                last = [("tool.output", other), ("turn.finished", TURN), ("turn.queued", other)]
                await log.append([Draft(type, turn) for type, turn in last])
            assert counts[2:] == [(7, 0)]

    run(main)
