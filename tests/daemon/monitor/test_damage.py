"""A file that is damaged while it is used, and events that cannot be kept: reports go on."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from monitor_event_kit import ME, Rule, batch, chat, keep
from otlp_kit import in_trio
from skill_actors.models.prices import PriceTable
from skilld.monitor.batch import Batch, MonitorEvent
from skilld.monitor.inspected import NO_POLICY, Found, Inspected, NoInspection, Origin, policy_line
from skilld.monitor.monitor import Monitor
from skilld.monitor.preparing import Spoiled
from skilld.monitor.quarantine import Quarantine
from skilld.monitor.questions import Wanted, find_events
from skilld.monitor.sinks.log_files import CURRENT
from skilld.monitor.store import EventStore, Written
from tree_kit import open_tree


def lay_waste(store: EventStore) -> None:
    """Overwrite the file where it lies, under whoever has it open, and nobody remembers what was in it."""
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    store._db.execute("PRAGMA shrink_memory")
    for reader in store._readers._idle:
        reader.execute("PRAGMA shrink_memory")
    with store.path.open("r+b") as file:
        file.write(os.urandom(store.path.stat().st_size))


async def until_logged(folder: Path, count: int) -> None:
    """Until there are so many lines in the event log."""
    path = folder / CURRENT
    with trio.fail_after(20):
        while not path.exists() or len(path.read_bytes().splitlines()) < count:  # noqa: ASYNC110  # a file tells nobody
            await trio.sleep(0.02)


def ids(store: EventStore) -> list[int]:
    return store.ask(lambda db: [event["id"] for event in find_events(db, Wanted(uid=None, after=0))])


@pytest.fixture
def damaged(tmp_path: Path) -> EventStore:
    """With three events, and a file that is none any more."""
    made = EventStore(tmp_path / "events.db")
    keep(made, batch(1, {}, {}, {}), ME, [Found(0, Rule())])
    lay_waste(made)
    return made


def test_a_file_that_is_damaged_while_it_is_written_is_moved_aside_and_reports_go_on(
    damaged: EventStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert keep(damaged, batch(2, {}, {})) == Written(2, 0)
    assert ids(damaged) == [4, 5], "who follows goes on with numbers that are greater"
    assert len(list(tmp_path.glob("events.db.damaged-*"))) == 1
    assert "damaged" in caplog.text
    damaged.close()


def test_one_that_is_damaged_while_it_is_read_is_too(damaged: EventStore, tmp_path: Path) -> None:
    assert ids(damaged) == []
    assert keep(damaged, batch(2, {}), ME, [Found(0, Rule())]) == Written(1, 0)
    assert (ids(damaged), damaged.newest_id("finding")) == ([4], 2)
    assert len(list(tmp_path.glob("events.db.damaged-*"))) == 1
    damaged.close()


def test_one_that_is_damaged_when_old_events_go_is_too(damaged: EventStore, tmp_path: Path) -> None:
    assert damaged.prune(-1, 1 << 30) == 0
    assert len(list(tmp_path.glob("events.db.damaged-*"))) == 1
    damaged.set_cursor("log", 3)
    assert damaged.cursor("log") == 3
    damaged.close()


def test_one_that_is_damaged_when_it_is_to_be_made_smaller_is_too(damaged: EventStore, tmp_path: Path) -> None:
    before, after = damaged.optimize()
    assert before == after, "there was nothing in the new one"
    assert len(list(tmp_path.glob("events.db.damaged-*"))) == 1
    assert keep(damaged, batch(2, {})) == Written(1, 0)
    damaged.close()


def test_a_file_that_cannot_be_begun_anew_yet_is_begun_as_soon_as_it_can(
    damaged: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that is full at that moment: whether somebody writes first or asks first."""

    def full(_path: Path, _steps: Sequence[str]) -> apsw.Connection:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("skilld.monitor.database.open_database", full)
        for _ in range(2):
            with pytest.raises(apsw.FullError):
                keep(damaged, batch(2, {}))
            with pytest.raises(apsw.FullError):
                ids(damaged)
    assert ids(damaged) == []
    assert keep(damaged, batch(2, {}, {})) == Written(2, 0)
    assert ids(damaged) == [4, 5]
    damaged.close()
    with pytest.raises(apsw.ConnectionClosedError):
        ids(damaged)


def test_a_file_that_cannot_be_moved_aside_yet_is_as_soon_as_it_can(
    damaged: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is begun in its place before, and whoever comes says so, whether it writes or asks."""

    def refused(_path: Path) -> None:
        raise PermissionError("not yours to move")

    with monkeypatch.context() as patched:
        patched.setattr("skilld.monitor.database._move_aside", refused)
        for _ in range(2):
            with pytest.raises(apsw.IOError, match="not yours to move"):
                ids(damaged)
            with pytest.raises(apsw.IOError, match="not yours to move"):
                keep(damaged, batch(2, {}))
    assert [path.name for path in tmp_path.glob("*damaged*")] == []
    assert ids(damaged) == []
    assert keep(damaged, batch(2, {}, {})) == Written(2, 0)
    assert ids(damaged) == [4, 5]
    assert len(list(tmp_path.glob("events.db.damaged-*"))) == 1, "what was damaged, and nothing that was begun"
    damaged.close()


def test_one_that_was_moved_aside_by_half_is_seen_to_by_who_comes_next(damaged: EventStore, tmp_path: Path) -> None:
    """What is left of it beside it would be taken for part of the next one."""
    inconvenient = tmp_path / "events.db.damaged-0"  # the oldest, which is to go, and cannot
    inconvenient.mkdir()
    (tmp_path / "events.db.damaged-1").touch()
    for _ in range(2):
        with pytest.raises(apsw.IOError):
            ids(damaged)
    assert not (tmp_path / "events.db").exists()
    inconvenient.rmdir()
    assert ids(damaged) == []
    assert keep(damaged, batch(2, {})) == Written(1, 0)
    damaged.close()


def test_who_asks_while_another_file_cannot_be_begun_gets_an_error_of_the_store(damaged: EventStore) -> None:
    """Who follows waits for those, and for nothing else. Here another thread finds the next one damaged as well."""
    begin = damaged._readers.begin

    def begin_and_leave() -> None:
        begin()
        damaged._readers.leave()

    damaged._file._begun = begin_and_leave
    with pytest.raises(apsw.BusyError):
        ids(damaged)
    damaged.close()


@in_trio
async def test_who_follows_lives_through_a_file_that_cannot_be_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followers = ("SinkFollower", "AlertKeeper", "SessionFollower")
    for place in ("sinks.follower", "alerts.keeper", "inspection.sessions"):
        monkeypatch.setattr(f"skilld.monitor.{place}._AGAIN_S", 0.05)
    log = tmp_path / "log"
    refusals = list[Path]()

    def refused(path: Path) -> None:
        refusals.append(path)
        raise PermissionError("not yours to move")

    flags: dict[str, Any] = {"monitor.event_log.folder": str(log)}
    async with open_tree(tmp_path, **flags) as tree:
        monitor = await tree.parts.monitor.wait()
        await monitor.write(batch(1, {}), ME)
        await until_logged(log, 1)
        before = [tree.find(follower) for follower in followers]
        with monkeypatch.context() as patched:
            patched.setattr("skilld.monitor.database._move_aside", refused)
            lay_waste(monitor.store)
            with pytest.raises(apsw.IOError):
                await monitor.write(batch(2, {}), ME)
            monitor.arrived.set()  # who follows looks again
            monitor.arrived = trio.Event()
            sink = tree.parts.sinks["event-log"]
            with trio.fail_after(20):
                while len(refusals) < 10 or "not yours to move" not in sink.problem:  # noqa: ASYNC110  # threads tell nobody
                    await trio.sleep(0.02)
        assert await monitor.write(batch(3, {}), ME) == Written(1, 0)
        await until_logged(log, 2)
        assert [tree.find(follower) for follower in followers] == before, "none was made again"


def test_of_files_that_were_moved_aside_only_the_latest_are_kept(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / "events.db").write_bytes(f"garbage {n}".encode() * 1000)
        EventStore(tmp_path / "events.db").close()
    kept = sorted(tmp_path.glob("events.db.damaged-*"))
    assert [path.read_bytes()[:9] for path in kept] == [b"garbage 2", b"garbage 3"]


class _Fails(NoInspection):
    """Over each event of the name `poison`; and remembers how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def inspect(self, batch: Batch, origin: Origin) -> Inspected:
        self.asked += 1
        for event in batch.events:
            if event.name == "poison":
                raise RuntimeError(f"cannot look at {event.data}")
        found = [Found(index, Rule()) for index, event in enumerate(batch.events) if event.name == "card"]
        return Inspected(batch, tuple(found))


def test_what_cannot_be_looked_into_goes_into_quarantine_without_its_content_and_the_rest_is_kept(
    tmp_path: Path,
) -> None:
    store = EventStore(tmp_path / "events.db")
    inspection = _Fails()

    async def main() -> Written:
        monitor = Monitor(store=store, inspection=inspection)
        secret = {"name": "poison", "data": {"key": "sk-secret"}, "session": "sk-secret"}
        return await monitor.write(batch(1, {}, secret, {"name": "card"}), ME)

    assert trio.run(main) == Written(2, 0, 1)
    assert ids(store) == [1, 2]
    assert store.ask(lambda db: db.execute("SELECT event FROM finding").fetchall()) == [(2,)], "of the event it is in"
    assert inspection.asked == 4, "once for all, once for each, and never again"
    path = tmp_path / "quarantine.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"secret" not in path.read_bytes()
    (noted,) = Quarantine(path).listing(1)
    assert (noted["agent"], noted["seq"], noted["uid"]) == ("shop", 1, 1)
    assert noted["why"] == "it could not be looked into: RuntimeError"
    assert Quarantine(path).listing(2) == []
    store.close()


def test_a_batch_that_is_poison_alone_is_acknowledged_as_refused(tmp_path: Path) -> None:
    store = EventStore(tmp_path / "events.db")

    async def main() -> Written:
        return await Monitor(store=store, inspection=_Fails()).write(batch(1, {"name": "poison"}), ME)

    assert trio.run(main) == Written(0, 0, 1)
    store.close()


def test_what_cannot_be_priced_is_poison_and_not_told_anew_for_ever(tmp_path: Path) -> None:
    store = EventStore(tmp_path / "events.db")

    def no_prices() -> PriceTable:
        raise KeyError("secret")

    async def main() -> Written:
        return await Monitor(store=store, prices=no_prices).write(batch(1, {}, chat("cd"), {}), ME)

    assert trio.run(main) == Written(2, 0, 1)
    (noted,) = Quarantine(tmp_path / "quarantine.jsonl").listing(1)
    assert (noted["seq"], noted["why"]) == (1, "it could not be looked into: KeyError")
    store.close()


class _Constraint:
    """Makes what a column does not take: of SQLite's errors one that says something of the content, not of the disk."""

    def inspect(self, batch: Batch, origin: Origin) -> Inspected:
        none: Any = None
        found = [Found(n, Rule(confidence=none)) for n, event in enumerate(batch.events) if event.name == "poison"]
        return Inspected(batch, tuple(found))

    def policy_for(self, agent: str) -> Mapping[str, Any]:
        return NO_POLICY

    def policy_line(self, agent: str) -> bytes:
        return policy_line(NO_POLICY)


def test_what_the_tables_do_not_take_is_not_sent_again_for_ever_and_takes_no_neighbour_along(tmp_path: Path) -> None:
    store = EventStore(tmp_path / "events.db")
    found: dict[str, Written] = {}

    async def main() -> None:
        monitor = Monitor(store=store, inspection=_Constraint())

        async def one(name: str, made: Batch) -> None:
            found[name] = await monitor.write(made, ME)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "good", batch(1, {}, {}))
            nursery.start_soon(one, "bad", batch(3, {}, {"name": "poison"}, {}))

    trio.run(main)
    assert found == {"good": Written(2, 0), "bad": Written(2, 0, 1)}, "of a batch only what is poison"
    (noted,) = Quarantine(tmp_path / "quarantine.jsonl").listing(None)
    assert (noted["seq"], noted["why"]) == (1, "no file can hold it")
    store.close()


def test_what_no_file_can_hold_takes_no_neighbour_along(tmp_path: Path) -> None:
    """They share a transaction; each is told its own."""
    store = EventStore(tmp_path / "events.db")
    bad = Batch(
        number=1,
        run="b" * 32,
        agent="shop",
        pid=1,
        program="",
        environment="",
        events=(MonitorEvent(1, 1, "x", "SYSTEM", "INFO", data=object()),),
        refused=0,
    )
    found: dict[str, Written] = {}

    async def main() -> None:
        monitor = Monitor(store=store)

        async def one(name: str, made: Batch) -> None:
            found[name] = await monitor.write(made, ME)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "good", batch(1, {}, {}))
            nursery.start_soon(one, "bad", bad)
            nursery.start_soon(one, "fine", batch(2, {}))

    trio.run(main)
    assert found == {"good": Written(2, 0), "bad": Written(0, 0, 1), "fine": Written(1, 0)}
    (noted,) = Quarantine(tmp_path / "quarantine.jsonl").listing(None)
    assert noted["why"] == "no file can hold it"
    store.close()


def test_the_file_of_the_quarantine_is_bounded_and_the_newest_come_first(tmp_path: Path) -> None:
    made = Quarantine(tmp_path / "quarantine.jsonl", max_file_bytes=2_000)
    events: Sequence[Any] = batch(1, *[{}] * 100).events
    for event in events:
        made.add(batch(1), ME, [Spoiled(event, "why")])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4_000
    numbers = [noted["seq"] for noted in made.listing(None)]
    assert numbers[0] == 99
    assert numbers == list(range(99, 99 - len(numbers), -1))
    (tmp_path / "quarantine.jsonl").write_bytes(b'{"seq": 1}\n{"se')
    assert made.listing(None)[0] == {"seq": 1}, "a line that is cut off is passed over"
    assert len(made.listing(None, limit=3)) == 3


def test_a_quarantine_that_cannot_be_written_is_nobodys_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    made = Quarantine(tmp_path / "file" / "quarantine.jsonl")
    made.add(batch(1), ME, [Spoiled(batch(1, {}).events[0], "why")])
    assert "could not be noted" in caplog.text
    assert made.listing(None) == []
    assert json.dumps(made.listing(None)) == "[]"
