"""What was found in events is stored with them, once, and followed; and how programs' events are kept once each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from monitor_event_kit import ME, Rule, batch, keep, span
from skilld.monitor.batch import Batch
from skilld.monitor.findings import FindingsWanted, find_findings
from skilld.monitor.inspected import Found, Inspected, NoInspection, Origin
from skilld.monitor.monitor import Monitor
from skilld.monitor.questions import Wanted, find_events, lost_before
from skilld.monitor.store import EventStore, Written


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    made = EventStore(tmp_path / "events.db")
    yield made
    made.close()


def findings(store: EventStore, uid: int | None = None, **wanted: Any) -> list[dict[str, Any]]:
    return store.ask(lambda db: find_findings(db, FindingsWanted(uid=uid, **wanted)))


def test_a_finding_is_told_with_its_event(store: EventStore) -> None:
    made = batch(1, {}, span("cd", name="chat", channel="LLM", session="s1", user="u1", agent="clerk"))
    keep(store, made, ME, [Found(1, Rule(), "a card ****")])
    (found,) = findings(store)
    assert {
        name: found[name] for name in ("event", "agent", "name", "channel", "trace", "span", "session", "user")
    } == {
        "event": 2,
        "agent": "clerk",
        "name": "chat",
        "channel": "LLM",
        "trace": "ab",
        "span": "cd",
        "session": "s1",
        "user": "u1",
    }
    names = ("rule", "category", "severity", "alert", "confidence", "direction", "sample")
    assert [found[name] for name in names] == [
        *("card", "sensitive_data", "medium", "suspicious", 0.9, "event", "a card ****"),
    ]


def test_a_finding_that_a_program_named_is_kept_whatever_it_is_called(store: EventStore) -> None:
    assert keep(store, batch(1, {}), ME, [Found(0, Rule(rule="a\ud800\x1b"), "b\ud800")]) == Written(1, 0)
    assert [(found["rule"], found["sample"]) for found in findings(store)] == [("a??", "b?")]


def test_findings_are_found_by_what_they_are(store: EventStore) -> None:
    keep(store, batch(1, {}, {}), ME, [Found(0, Rule()), Found(1, Rule(rule="rm", category="dangerous_commands"))])
    keep(store, batch(2, {}, agent="stall"), Origin(2, 1), [Found(0, Rule(severity="high"))])
    assert [one["id"] for one in findings(store)] == [3, 2, 1]
    assert [one["id"] for one in findings(store, uid=1, after=0)] == [1, 2]
    assert [one["id"] for one in findings(store, agent="stall")] == [3]
    assert [one["id"] for one in findings(store, rule="rm")] == [2]
    assert [one["id"] for one in findings(store, category="sensitive_data", severity="medium")] == [1]
    assert [one["id"] for one in findings(store, event=2)] == [2]
    assert [one["id"] for one in findings(store, before=3, limit=1)] == [2]


def test_what_comes_twice_is_found_once(store: EventStore) -> None:
    made = batch(1, {}, {})
    assert keep(store, made, ME, [Found(0, Rule())]) == Written(1 + 1, 0)
    assert keep(store, made, ME, [Found(0, Rule()), Found(1, Rule())]) == Written(0, 2)
    assert len(findings(store)) == 1


def test_of_a_batch_that_is_known_in_part_the_rest_is_kept(store: EventStore) -> None:
    keep(store, batch(1, {}, {}))
    more = batch(1, {}, {}, {"name": "new"}, {"seq": 2, "name": "again"})
    assert keep(store, more, ME, [Found(2, Rule()), Found(3, Rule())]) == Written(1, 3)
    assert [one["event"] for one in findings(store)] == [3]


def test_a_span_is_kept_once_whichever_way_it_comes(store: EventStore) -> None:
    assert keep(store, batch(1, span("cd"), span("ce"))) == Written(2, 0)
    assert keep(store, batch(2, span("cd"), span("cf"), span("cf"))) == Written(1, 2), "of another run"
    inside = {"trace": "ab", "span": "cd"}
    assert keep(store, batch(3, inside, inside)) == Written(2, 0), "events in a span are no spans"
    assert keep(store, batch(4, span("cd", trace="ac"))) == Written(1, 0), "of another trace"
    assert keep(store, batch(5, span("cd")), Origin(2, 1)) == Written(1, 0), "of another user"


def test_numbers_have_no_gaps_but_for_what_was_removed(store: EventStore) -> None:
    """Who follows knows by them what it has missed."""
    keep(store, batch(1, {}, {}))
    keep(store, batch(1, {}, {}, {}))
    keep(store, batch(2, span("cd")))
    keep(store, batch(3, span("cd"), {}))
    page = store.ask(lambda db: find_events(db, Wanted(uid=None, after=0)))
    assert [event["id"] for event in page] == [1, 2, 3, 4, 5]
    assert lost_before(page, 0) == 0
    with store._db:
        store._db.execute("DELETE FROM event WHERE id IN (2, 3)")
    assert lost_before(store.ask(lambda db: find_events(db, Wanted(uid=None, after=1))), 1) == 2
    assert lost_before([], 5) == 0


def test_a_follower_goes_on_where_it_was(store: EventStore) -> None:
    async def main() -> None:
        monitor = Monitor(store=store)
        assert await monitor.cursor("log") is None
        await monitor.write(batch(1, {}, {}), ME)
        assert (await monitor.newest(), await monitor.newest("finding")) == (2, 0)
        await monitor.set_cursor("log", 1)
        await monitor.set_cursor("log", 2)
        assert await monitor.cursor("log") == 2
        assert await monitor.cursor("other") is None

    trio.run(main)


class _Finds(NoInspection):
    """A card in every event that is a card, which is masked."""

    def inspect(self, batch: Batch, origin: Origin) -> Inspected:
        cards = [index for index, event in enumerate(batch.events) if event.name == "card"]
        return Inspected(batch, tuple(Found(index, Rule()) for index in cards))


def test_findings_are_waited_for(store: EventStore) -> None:
    async def main() -> list[dict[str, Any]]:
        monitor = Monitor(store=store, inspection=_Finds())
        found: list[dict[str, Any]] = []
        waiting = trio.Event()

        async def follow() -> None:
            waiting.set()
            found.extend(await monitor.findings(FindingsWanted(uid=None, after=0), 10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await waiting.wait()
            await monitor.write(batch(1, {}), ME)
            await monitor.write(batch(2, {"name": "card"}), ME)
        assert await monitor.findings(FindingsWanted(uid=None, after=1), 0.01) == []
        return found

    assert [one["event"] for one in trio.run(main)] == [2]
