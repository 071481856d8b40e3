"""Questions about a store with a lot in it: a slow one holds up nobody else, and is given up in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from monitor_event_kit import batch, keep
from skill_actors.errors import Refused
from skilld.monitor.monitor import Monitor
from skilld.monitor.questions import Wanted, find_events
from skilld.monitor.readers import Away, Readers
from skilld.monitor.store import MOST_READERS, EventStore, SlowQuestion
from skilld.monitor.totals import TotalsWanted, totals
from skilld.monitor.traces import find_trace

EVENTS = 4_000
ALL_OF_USER = {f"SEARCH event USING INDEX event_by_uid ({wanted})" for wanted in ("uid=?", "uid=? AND id>?")}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventStore]:
    made = EventStore(tmp_path_factory.mktemp("store") / "events.db")
    keep(made, batch(1, *({"name": f"n{n % 7}", "data": {"text": "lorem ipsum " * 20}} for n in range(EVENTS))))
    yield made
    made.close()


def endless(db: apsw.Connection) -> int:
    """Looks through all that is there, again and again."""
    question = (
        "WITH RECURSIVE round(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM round)"
        " SELECT count(*) FROM round JOIN event WHERE data LIKE '%z%' || n || '%q%'"
    )
    return int(db.execute(question).get)


async def refusal_of(monitor: Monitor) -> Refused:
    with pytest.raises(Refused) as refused:
        await monitor.ask(endless)
    return refused.value


def test_a_slow_question_holds_up_no_other_one(store: EventStore) -> None:
    ended: list[Refused] = []

    async def main() -> None:
        monitor = Monitor(store=store, question_s=8.0)

        async def slow() -> None:
            ended.append(await refusal_of(monitor))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            while not monitor.asking.borrowed_tokens:  # noqa: ASYNC110  # until it is under way
                await trio.sleep(0.01)
            found = await monitor.events(Wanted(uid=None, text="lorem", limit=10))
            assert (len(found), await monitor.newest(), ended) == (10, EVENTS, [])
        assert len(ended) == 1

    trio.run(main)


def test_one_that_takes_longer_than_it_may_is_given_up_and_says_what_to_do(store: EventStore) -> None:
    async def main() -> None:
        monitor = Monitor(store=store, question_s=0.3)
        began_s = time.monotonic()
        refused = await refusal_of(monitor)
        assert 0.3 <= time.monotonic() - began_s < 5
        assert (refused.status, refused.retryable) == (413, False), "nobody is to ask it again as it is"
        for word in ("0.3 s", "monitor.question_timeout_s", "since", "agent", "monitor cleanup"):
            assert word in refused.message
        monitor.question_s = 20.0  # a machine that is busy may take longer than that over any
        assert len(await monitor.events(Wanted(uid=None))) == 100, "who gave it up answers the next one"

    trio.run(main)


def test_who_follows_the_store_goes_on_beside_as_many_slow_questions_as_there_may_be(store: EventStore) -> None:
    async def main() -> None:
        monitor = Monitor(store=store, question_s=3.0)
        most, ended = int(monitor.asking.total_tokens), list[Refused]()

        async def slow() -> None:
            ended.append(await refusal_of(monitor))

        async with trio.open_nursery() as nursery:
            for _ in range(most + 1):
                nursery.start_soon(slow)
            while not monitor.asking.statistics().tasks_waiting:  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert monitor.asking.borrowed_tokens == most == MOST_READERS - 2
            assert len(await monitor.events(Wanted(uid=None, after=0, limit=10), ours=True)) == 10
            assert (await monitor.cursor("sink:x"), ended) == (None, [])
        assert len(ended) == most + 1

    trio.run(main)


def test_closing_the_file_waits_for_no_question(tmp_path: Path) -> None:
    made = EventStore(tmp_path / "events.db")
    keep(made, batch(1, *({} for _ in range(100))))
    under_way, ended = threading.Event(), list[Exception]()

    def question(db: apsw.Connection) -> int:
        under_way.set()
        return endless(db)

    def ask() -> None:
        with pytest.raises(apsw.ConnectionClosedError) as raised:
            made.ask(question)
        ended.append(raised.value)

    asking = threading.Thread(target=ask)
    asking.start()
    assert under_way.wait(30)
    while not ended:  # it may not have come to SQLite yet
        made.close()
        asking.join(0.1)
    asking.join()


def test_a_file_that_was_moved_aside_is_read_to_the_end_by_who_has_begun_and_by_nobody_else(tmp_path: Path) -> None:
    EventStore(tmp_path / "events.db").close()
    readers = Readers(tmp_path / "events.db", 2)
    with readers.lend() as before:
        readers.leave()
        assert before.db.execute("SELECT count(*) FROM event").get == 0
        with pytest.raises(Away), readers.lend():
            pass
        readers.begin()
        with readers.lend() as after:
            assert (before.file, after.file) == (0, 1)
            again = after.db
    with pytest.raises(apsw.ConnectionClosedError):
        before.db.execute("SELECT 1")
    with readers.lend() as reader:
        assert reader.db is again, "one that is idle is lent again"
    readers.close()
    with pytest.raises(apsw.ConnectionClosedError), readers.lend():
        pass


def test_a_limit_is_of_one_question_alone(store: EventStore) -> None:
    with pytest.raises(SlowQuestion):
        store.ask(endless, 0.1)
    rounds = "WITH RECURSIVE r(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 200000) SELECT max(n) FROM r"
    time.sleep(0.11)
    assert store.ask(lambda db: int(db.execute(rounds).get)) == 200_000


def plans_of(store: EventStore, question: Callable[[apsw.Connection], object]) -> list[str]:
    """How SQLite finds the events, in each of the statements of a question."""
    asked = list[tuple[str, Any]]()

    def remember(_cursor: object, statement: str, values: Any) -> bool:
        asked.append((statement, values))
        return True

    def ask(db: apsw.Connection) -> list[str]:
        db.exec_trace = remember
        try:
            question(db)
        finally:
            db.exec_trace = None
        explained = (db.execute(f"EXPLAIN QUERY PLAN {statement}", values) for statement, values in asked)
        return [str(row[3]) for rows in explained for row in rows if row[3].split()[1] == "event"]

    return store.ask(ask)


@pytest.mark.parametrize("uid", [None, 1])
@pytest.mark.parametrize(
    ("index", "question"),
    [
        ("trace", lambda db, uid: find_trace(db, uid, "abcd")),
        ("trace", lambda db, uid: find_trace(db, uid, "1")),
        ("trace", lambda db, uid: find_events(db, Wanted(uid=uid, trace="abcd", after=0))),
        ("session", lambda db, uid: find_events(db, Wanted(uid=uid, session="s"))),
        ("user", lambda db, uid: find_events(db, Wanted(uid=uid, user="u"))),
        ("session", lambda db, uid: totals(db, TotalsWanted(uid=uid, session="s"))),
    ],
    ids=["trace", "trace of an event", "events of a trace", "of a session", "of a user", "totals of a session"],
)
def test_what_little_is_asked_for_is_not_looked_for_in_all_that_a_user_has(
    tmp_path: Path, index: str, question: Callable[[apsw.Connection, int | None], object], uid: int | None
) -> None:
    made = EventStore(tmp_path / "events.db")
    keep(made, batch(1, *[{"trace": "abcd", "session": "s", "user": "u"}] * 3))
    plans = plans_of(made, lambda db: question(db, uid))
    made.close()
    assert any(f"event_by_{index} " in plan for plan in plans)
    assert not ALL_OF_USER & set(plans)


def test_events_of_a_model_that_all_use_are_looked_for_in_what_the_user_has(store: EventStore) -> None:
    """Else how long a user waits would go by what the others report."""
    plans = plans_of(store, lambda db: find_events(db, Wanted(uid=1, model="m")))
    assert plans == ["SEARCH event USING INDEX event_by_uid (uid=?)"]
