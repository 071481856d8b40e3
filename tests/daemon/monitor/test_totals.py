"""What reported events add up to, conversation by conversation, and how one is found again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor_event_kit import ME, NOW_US, Rule, batch, chat, keep, span
from skill_actors.errors import Refused
from skill_actors.models.prices import load_prices
from skilld.monitor.inspected import Found, Origin
from skilld.monitor.prices import priced
from skilld.monitor.questions import MAX_PAGE_CHARS, Wanted, find_events
from skilld.monitor.store import EventStore
from skilld.monitor.store_facts import store_facts
from skilld.monitor.totals import TotalsWanted, find_sessions, totals
from skilld.monitor.traces import MAX_TRACE_EVENTS, find_trace

PRICES = load_prices()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """Two agents of one user, in three conversations, and an agent of another user."""
    made = EventStore(tmp_path / "events.db")
    shop = batch(
        1,
        chat("c1", session="s1", user="u1", tags=["beta", "eu"]),
        chat("c2", session="s1", user="u1", status="error", level="ERROR"),
        chat("c3", None, session="s2", user="u2", model="unknown"),
        {"name": "order", "channel": "ORDERS", "session": "s2", "agent": "clerk"},
    )
    keep(made, priced(shop, lambda: PRICES), ME, [Found(0, Rule())])
    keep(made, batch(2, chat("c4", session="s1"), agent="theirs"), Origin(2, 1))
    yield made
    made.close()


def added(store: EventStore, uid: int | None = 1, **wanted: Any) -> dict[str, Any]:
    return dict(store.ask(lambda db: totals(db, TotalsWanted(uid=uid, **wanted))))


def names(store: EventStore, **wanted: Any) -> list[str]:
    found = store.ask(lambda db: find_events(db, Wanted(uid=1, after=0, **wanted)))
    return [event["span"] or event["name"] for event in found]


def test_tokens_and_costs_are_added_up_by_source_model_user_and_session(store: EventStore) -> None:
    found = added(store)
    assert (found["events"], found["input_tokens"], found["output_tokens"]) == (4, 2000, 1000)
    assert found["cost_usd"] == pytest.approx(0.014)
    assert [(one["agent"], one["events"], one["errors"], one["input_tokens"]) for one in found["sources"]] == [
        ("shop", 3, 1, 2000),
        ("clerk", 1, 0, 0),
    ]
    assert [(one["model"], one["calls"], one["errors"], one["cost_usd"]) for one in found["models"]] == [
        ("claude-sonnet-5-5", 2, 1, pytest.approx(0.014)),
        ("unknown", 1, 0, None),
    ]
    assert [(one["user"], one["calls"]) for one in found["users"]] == [("u1", 2), ("u2", 1)]
    assert {one["session"]: one["calls"] for one in found["sessions"]} == {"s1": 2, "s2": 1}
    assert found["names"] == {"chat claude-sonnet-5-5": 2, "chat unknown": 1, "order": 1}
    assert (found["channels"], found["levels"]) == ({"LLM": 3, "ORDERS": 1}, {"INFO": 3, "ERROR": 1})
    assert found["findings"] == {"sensitive_data": {"medium": 1}}


def test_what_two_users_of_the_host_call_by_one_name_is_not_the_same(store: EventStore) -> None:
    keep(store, priced(batch(4, chat("c5", user="u1", session="s1")), lambda: PRICES), Origin(2, 1))
    found = added(store, uid=None)
    assert [(one["user"], one["uid"], one["calls"], one["input_tokens"]) for one in found["users"]] == [
        ("u1", 1, 2, 2000),
        ("u1", 2, 1, 1000),
        ("u2", 1, 1, 0),
    ]
    assert sorted((one["session"], one["uid"], one["calls"]) for one in found["sessions"]) == [
        ("s1", 1, 2),
        ("s1", 2, 2),
        ("s2", 1, 1),
    ]
    assert [(one["model"], one["calls"]) for one in found["models"]] == [("claude-sonnet-5-5", 4), ("unknown", 1)]
    assert {one["uid"] for one in added(store, uid=2)["users"]} == {2}


def test_a_call_without_a_price_is_counted_as_such(store: EventStore) -> None:
    assert added(store)["unpriced"] == 0, "it did not say what it used"
    keep(store, batch(3, chat("c9", model="unknown")))
    assert added(store)["unpriced"] == 1


def test_part_of_it_is_added_up_likewise(store: EventStore) -> None:
    assert added(store, uid=None)["events"] == 5
    assert added(store, agent="clerk")["events"] == 1
    assert added(store, session="s1")["events"] == 2
    assert added(store, since_us=NOW_US + 1_000_000, until_us=NOW_US + 3_000_000)["events"] == 2
    assert added(store, agent="nobody")["cost_usd"] is None


def test_conversations_are_listed_the_latest_first_and_those_of_others_apart(store: EventStore) -> None:
    found = store.ask(lambda db: find_sessions(db, TotalsWanted(uid=1), 10))
    assert [(one["session"], sorted(one["agents"]), one["user"], one["events"], one["calls"]) for one in found] == [
        ("s2", ["clerk", "shop"], "u2", 2, 1),
        ("s1", ["shop"], "u1", 2, 2),
    ]
    everybodys = store.ask(lambda db: find_sessions(db, TotalsWanted(uid=None), 10))
    assert [(one["session"], one["uid"]) for one in everybodys] == [("s1", 2), ("s2", 1), ("s1", 1)]
    assert len(store.ask(lambda db: find_sessions(db, TotalsWanted(uid=None), 1))) == 1


def test_the_agents_of_a_conversation_are_told_apart_whatever_they_are_called(store: EventStore) -> None:
    keep(store, batch(3, {"session": "s3", "agent": 'a,"b'}, {"session": "s3", "agent": "c"}))
    (found,) = store.ask(lambda db: find_sessions(db, TotalsWanted(uid=1, session="s3"), 10))
    assert sorted(found["agents"]) == ['a,"b', "c"]


def test_events_are_found_by_what_their_programs_say_of_them(store: EventStore) -> None:
    assert names(store, session="s1") == names(store, user="u1") == ["c1", "c2"]
    assert names(store, tag="eu") == ["c1"]
    assert names(store, model="unknown") == ["c3"]
    assert names(store, status="error") == names(store, level_is="ERROR") == ["c2"]
    assert names(store, level_is="WARNING") == []
    assert names(store, min_duration_us=5000) == ["c1", "c2", "c3"]
    assert names(store, min_duration_us=5001) == []
    assert names(store, agent="clerk") == ["order"]
    assert names(store, span="c1", run=f"{1:032x}", pid=7) == ["c1"]
    assert names(store, pid=8) == []


def test_a_trace_is_found_by_its_id_its_beginning_and_its_events(store: EventStore) -> None:
    keep(store, batch(4, span("d1", trace="abcd0123"), {"trace": "abcd0123", "span": "d1"}, span("d2", trace="abcd9")))

    def spans(id: str, uid: int | None = 1) -> list[str]:
        return [event["span"] for event in store.ask(lambda db: find_trace(db, uid, id))["events"]]

    assert spans("abcd0123") == spans("abcd0") == spans("ABCD0") == ["d1", "d1"]
    assert spans("6") == spans("7") == ["d1", "d1"], "the number of an event"
    assert spans("abcd9") == ["d2"], "itself, and no beginning of another"
    assert store.ask(lambda db: find_trace(db, 1, "4")) == {
        "trace": None,
        "more": 0,
        "findings": [],
        "events": [store.ask(lambda db: find_events(db, Wanted(uid=1, name="order")))[0]],
    }


@pytest.mark.parametrize(
    ("id", "code"),
    [
        *(("ab", "bad_request"), ("x" * 32, "bad_request"), ("", "bad_request"), ("a" * 33, "bad_request")),
        *(("abcd", "conflict"), ("ffff", "not_found"), ("99999", "not_found"), ("5", "bad_request")),
    ],
)
def test_what_names_no_trace_or_several_is_refused(store: EventStore, id: str, code: str) -> None:
    keep(store, batch(4, span("d1", trace="abcd0123"), span("d2", trace="abcd9")))
    with pytest.raises(Refused) as refused:
        store.ask(lambda db: find_trace(db, 1, id))
    assert refused.value.code == code


def test_a_trace_of_thousands_is_cut_and_says_so(store: EventStore) -> None:
    keep(store, batch(5, *[{"trace": "feed"}] * MAX_TRACE_EVENTS))
    keep(store, batch(6, *[{"trace": "feed"}] * 3))
    found = store.ask(lambda db: find_trace(db, 1, "feed"))
    assert (len(found["events"]), found["more"]) == (MAX_TRACE_EVENTS, 3)


def test_a_trace_says_what_was_found_in_it_and_to_others_nothing(store: EventStore) -> None:
    made = batch(7, span("d1", trace="beef"), {"trace": "beef", "span": "d1"}, {})
    keep(store, made, ME, [Found(1, Rule(), "a card ****"), Found(2, Rule(rule="rm"))])
    keep(store, batch(8, span("d2", trace="beef")), Origin(2, 1), [Found(0, Rule(rule="theirs"))])

    def found(uid: int | None, id: str) -> list[tuple[str, str]]:
        findings = store.ask(lambda db: find_trace(db, uid, id))["findings"]
        return [(finding["rule"], finding["sample"]) for finding in findings]

    assert found(1, "beef") == [("card", "a card ****")]
    assert found(None, "beef") == [("card", "a card ****"), ("theirs", "")]
    assert found(1, "8") == [("rm", "")], "of an event without a trace"


def test_large_events_make_shorter_pages_and_a_shorter_trace(store: EventStore) -> None:
    for run in range(9, 17):
        keep(store, batch(run, *[{"trace": "1a49e", "name": "large", "data": "x" * 249_998}] * 5))

    def page(after: int) -> list[dict[str, Any]]:
        return store.ask(lambda db: find_events(db, Wanted(uid=1, name="large", after=after)))

    first = page(0)
    assert len(first) == MAX_PAGE_CHARS // 250_000 == 33, "of forty"
    assert len(page(first[-1]["id"])) == 7, "whoever goes on misses none"
    found = store.ask(lambda db: find_trace(db, 1, "1a49e"))
    assert (len(found["events"]), found["more"]) == (33, 7)


def test_a_trace_of_several_pages_has_no_more_in_it_than_one(store: EventStore) -> None:
    keep(store, batch(9, *[{"trace": "1a49e", "data": "x" * 4_998}] * 2_500))
    found = store.ask(lambda db: find_trace(db, 1, "1a49e"))
    assert (len(found["events"]), found["more"]) == (MAX_PAGE_CHARS // 5_000, 2_500 - MAX_PAGE_CHARS // 5_000)


def test_old_events_are_removed_by_the_clocks_of_their_programs_one_users_or_everybodys(store: EventStore) -> None:
    assert store.remove_before(1, NOW_US + 2_000_000) == 2
    assert store.remove_before(1, NOW_US + 2_000_000) == 0
    assert names(store) == ["c3", "order"]
    assert store.remove_before(None, NOW_US * 2) == 3
    assert store.ask(lambda db: db.execute("SELECT count(*) FROM run").get) == 0
    assert store.ask(lambda db: db.execute("SELECT count(*) FROM used").get) == 0


def test_the_file_gets_smaller_when_it_is_asked_to(store: EventStore) -> None:
    for run in range(10, 20):
        keep(store, batch(run, *[{"data": {"text": f"word{run} " * 100}}] * 200))
    while store.remove_before(None, NOW_US * 2):
        pass
    before, after = store.optimize()
    assert after < before / 2
    keep(store, batch(30, {"name": "new"}))
    facts = store.ask(lambda db: store_facts(db, 1))
    assert (facts["events"], facts["version"]) == (1, 2)
    assert facts["file_bytes"] <= after * 2
    assert facts["oldest"] == facts["newest"] == "2023-11-14T22:13:20.000000Z"
