"""What is stored can be asked for, is bounded, and survives what happens to files."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from skilld.monitor.batch import Batch, read_batch
from skilld.monitor.inspected import Inspected, Origin
from skilld.monitor.monitor import Monitor
from skilld.monitor.questions import Wanted, find_events
from skilld.monitor.store import EventStore, Written
from skilld.monitor.totals import TotalsWanted, totals
from skilld.monitor.writing import write_together

NOW_US = 1_700_000_000_000_000


def batch(run: int, *events: dict[str, Any], agent: str = "shop") -> Batch:
    made = [
        {"seq": n, "time_us": NOW_US + n * 1_000_000, "name": "x", "level": "INFO", "data": {}, **given}
        for n, given in enumerate(events)
    ]
    return read_batch(json.dumps({"batch": 1, "run": f"{run:032x}", "agent": agent, "events": made}).encode())


def keep(store: EventStore, batch: Batch, origin: Origin) -> Written:
    (written,) = store.write([(Inspected(batch), origin)])
    return written


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    made = EventStore(tmp_path / "monitor" / "events.db")
    yield made
    made.close()


def names(store: EventStore, uid: int | None = None, **wanted: Any) -> list[str]:
    found = store.ask(lambda db: find_events(db, Wanted(uid=uid, **wanted)))
    return [event["name"] for event in found]


def test_events_are_found_by_what_they_are(store: EventStore) -> None:
    keep(
        store,
        batch(
            1,
            {"name": "one", "level": "DEBUG", "channel": "A"},
            {"name": "two", "level": "ERROR", "trace": "ab", "data": {"text": "the card was declined"}},
            {"name": "three", "level": "CRITICAL", "data": {"card": 'said "no" -- OR name:x'}},
        ),
        Origin(1, 1),
    )
    keep(store, batch(2, {"name": "theirs"}, agent="stall"), Origin(2, 1))
    assert names(store) == ["theirs", "three", "two", "one"]
    assert names(store, uid=1) == ["three", "two", "one"]
    assert names(store, limit=2) == ["theirs", "three"]
    assert names(store, before=3) == ["two", "one"]
    assert names(store, after=2) == ["three", "theirs"]
    assert names(store, agent="stall") == ["theirs"]
    assert names(store, name="two") == names(store, trace="ab") == ["two"]
    assert names(store, channel="A") == ["one"]
    assert names(store, level="ERROR") == ["three", "two"]
    assert names(store, text="card declined") == ["two"]
    assert names(store, text="CARD") == ["three", "two"]
    assert names(store, since_us=NOW_US + 1_000_000, until_us=NOW_US + 2_000_000) == ["two"]


@pytest.mark.parametrize("text", ['"', "a OR b", "name:", "NEAR(", "*", "-x", "'; DROP TABLE event; --", "\0", "^"])
def test_no_text_is_a_language(store: EventStore, text: str) -> None:
    keep(store, batch(1, {"name": "one"}), Origin(1, 1))
    assert names(store, text=text) == (["one"] if text in ('"', "\0") else []), "without a word all are meant"
    assert names(store) == ["one"]


def test_totals_are_those_of_the_viewer(store: EventStore) -> None:
    keep(store, batch(1, {"level": "ERROR"}, {}), Origin(1, 1))
    keep(store, batch(2, {}), Origin(2, 1))
    everybody = store.ask(lambda db: totals(db, TotalsWanted(uid=None)))
    assert (everybody["events"], everybody["levels"]) == (3, {"INFO": 2, "ERROR": 1})
    mine = store.ask(lambda db: totals(db, TotalsWanted(uid=1)))
    assert mine["events"] == 2
    (source,) = mine["sources"]
    assert (source["agent"], source["events"], source["runs"], source["errors"]) == ("shop", 2, 1, 1)


def test_a_time_that_no_calendar_has_is_null(store: EventStore) -> None:
    keep(store, batch(1, {"time_us": 1 << 61}), Origin(1, 1))
    (event,) = store.ask(lambda db: find_events(db, Wanted(uid=None)))
    assert event["time"] is None


def test_what_is_too_old_goes(store: EventStore) -> None:
    keep(store, batch(1, {}, {}), Origin(1, 1))
    assert store.prune(3600, 1 << 30) == 0
    assert store.prune(-1, 1 << 30) == 2
    assert store.prune(-1, 1 << 30) == 0
    assert names(store) == []
    assert names(store, text="x") == []


def test_beyond_the_bound_the_oldest_of_whoever_has_the_most_go(store: EventStore) -> None:
    for run in range(40):
        keep(store, batch(run, *[{"data": {"text": "x" * 500}}] * 100), Origin(1, 1))
    keep(store, batch(99, {"name": "theirs"}), Origin(2, 1))
    bound = store.size_bytes() // 2
    while store.prune(3600, bound):
        pass
    assert store.size_bytes() <= bound
    assert names(store, uid=2) == ["theirs"]
    kept = store.ask(lambda db: [id for (id,) in db.execute("SELECT id FROM event WHERE uid = 1 ORDER BY id")])
    assert 0 < len(kept) < 4000
    assert kept == list(range(kept[0], 4001)), "the newest stay"


def test_numbers_of_events_go_on_after_all_were_removed(store: EventStore) -> None:
    """Who follows asks for what comes after the last number it saw."""
    keep(store, batch(1, {}), Origin(1, 1))
    store.prune(-1, 1 << 30)
    keep(store, batch(2, {}), Origin(1, 1))
    assert store.ask(lambda db: find_events(db, Wanted(uid=None)))[0]["id"] == 2


def test_the_file_is_private_and_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "monitor" / "events.db"
    store = EventStore(path)
    keep(store, batch(1, {"name": "one"}), Origin(1, 1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()
    store.close()
    store = EventStore(path)
    assert names(store) == ["one"]
    store.close()


def test_a_damaged_file_is_put_aside_and_another_begun(tmp_path: Path) -> None:
    path = tmp_path / "monitor" / "events.db"
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 1000)
    store = EventStore(path)
    keep(store, batch(1, {"name": "one"}), Origin(1, 1))
    assert names(store) == ["one"]
    store.close()
    assert len(list(path.parent.glob("events.db.damaged-*"))) == 1


def test_a_file_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    EventStore(path).close()
    db = apsw.Connection(str(path))
    db.pragma("user_version", 99)
    db.close()
    with pytest.raises(apsw.Error, match="newer skilld"):
        EventStore(path)


def test_runs_without_events_leave_nothing_behind(store: EventStore) -> None:
    for run in range(5):
        assert keep(store, batch(run), Origin(1, 1)) == Written(0, 0)
    keep(store, batch(9, {}), Origin(1, 1))
    keep(store, batch(10, {}), Origin(1, 1))
    assert store.ask(lambda db: db.execute("SELECT count(*) FROM run").get) == 2
    assert store.prune(-1, 1 << 30) == 2
    assert store.ask(lambda db: db.execute("SELECT count(*) FROM run").get) == 0


def test_many_small_events_count_for_what_they_take(store: EventStore) -> None:
    """Or whoever reports many of them would have the larger events of others removed first."""
    keep(store, batch(1, *[{}] * 2000), Origin(1, 1))
    keep(store, batch(2, *[{"name": "theirs", "data": {"text": "x" * 2000}}] * 20), Origin(2, 1))
    assert store.prune(3600, store.size_bytes() - 1) == 1000
    assert len(names(store, uid=2)) == 20


def test_what_is_acknowledged_is_on_the_disk(store: EventStore) -> None:
    assert store._db.pragma("synchronous") == 2, "FULL"


def test_batches_that_wait_share_a_transaction_and_each_is_told_its_own(tmp_path: Path) -> None:
    made = EventStore(tmp_path / "events.db")
    groups: list[int] = []
    write = made.write

    def counted(batches: Sequence[tuple[Inspected, Origin]]) -> list[Written]:
        groups.append(len(batches))
        return write(batches)

    async def main() -> list[Written]:
        monitor = Monitor(store=made)
        found: dict[int, Written] = {}

        async def one(run: int) -> None:
            found[run] = await monitor.write(batch(run, *[{}] * (run + 1)), Origin(1, 1))

        async def cancelled() -> None:
            with trio.CancelScope() as scope:
                scope.cancel()
                await monitor.write(batch(99, {}), Origin(1, 1))

        async with trio.open_nursery() as nursery:
            for run in range(20):
                nursery.start_soon(one, run)
            nursery.start_soon(cancelled)
        return [found[run] for run in range(20)]

    made.write = counted  # type: ignore[method-assign]
    assert trio.run(main) == [Written(run + 1, 0) for run in range(20)]
    assert len(groups) < 20
    made.close()


def test_a_transaction_that_fails_is_told_to_all_who_share_it(tmp_path: Path) -> None:
    made = EventStore(tmp_path / "events.db")
    made.close()

    async def main() -> None:
        monitor = Monitor(store=made)

        async def one(run: int) -> None:
            with pytest.raises(apsw.Error):
                await monitor.write(batch(run, {}), Origin(1, 1))

        async with trio.open_nursery() as nursery:
            for run in range(5):
                nursery.start_soon(one, run)

    trio.run(main)


def test_where_no_thread_can_be_had_all_who_wait_are_told_and_the_next_are_kept(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at a bound of processes of the system."""
    run_sync = trio.to_thread.run_sync
    outcomes: list[str] = []
    monitors: list[Monitor] = []

    async def short(work: Any, *args: Any, **kwargs: Any) -> Any:
        if work is write_together and args[1]:
            while not outcomes and len(args[1]) + len(monitors[0]._waiting) < 4:  # noqa: ASYNC110 - until the others wait for the first
                await trio.sleep(0.001)
            raise RuntimeError("can't start new thread")
        return await run_sync(work, *args, **kwargs)

    async def main() -> Written:
        monitor = Monitor(store=store)
        monitors.append(monitor)

        async def one(run: int) -> None:
            try:
                await monitor.write(batch(run, {}), Origin(1, 1))
            except RuntimeError as error:
                outcomes.append(str(error))

        with monkeypatch.context() as patched, trio.fail_after(30):
            patched.setattr("trio.to_thread.run_sync", short)
            async with trio.open_nursery() as nursery:
                for run in range(4):
                    nursery.start_soon(one, run)
        return await monitor.write(batch(9, {}), Origin(1, 1))

    assert trio.run(main) == Written(1, 0)
    assert outcomes == ["can't start new thread"] * 4


def test_who_follows_does_not_read_again_what_did_not_fit(store: EventStore) -> None:
    asked: list[int | None] = []
    first_look = threading.Event()
    ask = store.ask

    async def main() -> list[dict[str, Any]]:
        monitor = Monitor(store=store)
        found: list[dict[str, Any]] = []

        async def follow() -> None:
            found.extend(await monitor.events(Wanted(uid=None, after=0, name="wanted"), 10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            assert await trio.to_thread.run_sync(first_look.wait, 10)
            await monitor.write(batch(2, {"name": "wanted"}), Origin(1, 1))
        return found

    def noted(question: Any, limit_s: float | None = None) -> Any:
        found = ask(question, limit_s)
        if isinstance(question, partial):
            asked.append(question.keywords["wanted"].after)
            first_look.set()
        return found

    keep(store, batch(1, {}, {}, {}), Origin(1, 1))
    store.ask = noted  # type: ignore[method-assign]
    assert [event["name"] for event in trio.run(main)] == ["wanted"]
    assert asked == [0, 3]
