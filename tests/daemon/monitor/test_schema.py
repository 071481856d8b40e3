"""A file of reported events that an older skilld wrote is brought up to date, and nothing in it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from monitor_event_kit import Rule, batch, keep
from skilld.monitor.findings import FindingsWanted, find_findings
from skilld.monitor.inspected import Found, Origin
from skilld.monitor.questions import Wanted, find_events
from skilld.monitor.schema import STEPS
from skilld.monitor.store import EventStore, Written
from skilld.monitor.totals import TotalsWanted, totals

FIRST = (Path(__file__).parent / "version_1.sql").read_text()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """Over a file of version 1."""
    db = apsw.Connection(str(tmp_path / "events.db"))
    db.execute(FIRST)
    db.close()
    made = EventStore(tmp_path / "events.db")
    yield made
    made.close()


def test_what_was_stored_is_found_as_before(store: EventStore) -> None:
    assert store.ask(lambda db: db.pragma("user_version")) == len(STEPS)
    events = store.ask(lambda db: find_events(db, Wanted(uid=1000, after=0)))
    assert [(event["id"], event["name"], event["agent"]) for event in events] == [
        (1, "order", "shop"),
        (2, "chat", "shop"),
        (3, "odd", "shop"),
    ]
    assert (events[0]["session"], events[0]["tags"], events[0]["cost_usd"]) == (None, [], None)
    found = store.ask(lambda db: find_events(db, Wanted(uid=1000, text="declined")))
    assert [event["id"] for event in found] == [1]


def test_what_models_used_is_taken_out_of_old_events(store: EventStore) -> None:
    found = store.ask(lambda db: totals(db, TotalsWanted(uid=None)))
    assert [(one["model"], one["input_tokens"], one["output_tokens"]) for one in found["models"]] == [("m", 10, 20)]
    assert (found["cost_usd"], found["unpriced"]) == (None, 1), "what it cost then nobody knows now"


@pytest.mark.parametrize(
    "data",
    [
        '{"gen_ai.request.model":"n","gen_ai.usage.input_tokens":99999999999999999999,"gen_ai.usage.output_tokens":1e99}',
        '{"gen_ai.request.model":["n"],"gen_ai.usage.input_tokens":[7],"gen_ai.usage.output_tokens":"7"}',
        '{"gen_ai.request.model":{},"gen_ai.usage.input_tokens":{},"gen_ai.usage.output_tokens":null}',
        '{"gen_ai.usage.input_tokens":true,"gen_ai.usage.output_tokens":false}',
        '"gen_ai.request.model"',
        '{"cut off',
    ],
)
def test_what_an_old_event_says_keeps_no_file_from_being_brought_up_to_date(tmp_path: Path, data: str) -> None:
    db = apsw.Connection(str(tmp_path / "events.db"))
    db.execute(FIRST)
    db.execute("UPDATE event SET data = ? WHERE name = 'chat'", (data,))
    db.close()
    made = EventStore(tmp_path / "events.db")
    used = "SELECT input_tokens, output_tokens FROM event WHERE name = 'chat'"
    assert made.ask(lambda db: db.execute(used).fetchall()) == [(None, None)]
    made.close()


def test_what_comes_is_added_to_it_and_old_events_go(store: EventStore) -> None:
    assert keep(store, batch(9, {"name": "new", "session": "s"}), Origin(1000, 1), [Found(0, Rule())]) == Written(1, 0)
    assert store.ask(lambda db: [one["event"] for one in find_findings(db, FindingsWanted(uid=1000))]) == [4]
    assert store.prune(-1, 1 << 30) == 4
    assert store.ask(lambda db: db.execute("SELECT count(*) FROM finding").get) == 0
    assert store.ask(lambda db: find_events(db, Wanted(uid=None, text="declined"))) == []


def test_a_file_that_is_up_to_date_is_left_as_it_is(store: EventStore, tmp_path: Path) -> None:
    schema = "SELECT sql FROM sqlite_schema ORDER BY name"
    before = store.ask(lambda db: db.execute(schema).fetchall())
    again = EventStore(tmp_path / "events.db")
    assert again.ask(lambda db: db.execute(schema).fetchall()) == before
    again.close()


def test_a_new_file_and_one_that_was_brought_up_to_date_are_the_same(store: EventStore, tmp_path: Path) -> None:
    new = EventStore(tmp_path / "new.db")
    names = "SELECT type, name FROM sqlite_schema ORDER BY name"
    assert new.ask(lambda db: db.execute(names).fetchall()) == store.ask(lambda db: db.execute(names).fetchall())
    new.close()
