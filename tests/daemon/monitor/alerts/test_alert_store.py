"""Findings become alerts: once for what is alike, not more than may be, exactly once over a crash, and not for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skilld.monitor.alerts.alert import TOO_MANY, AlertRules, Seen
from skilld.monitor.alerts.schema import STEPS
from skilld.monitor.alerts.store import AlertStore, NoSuchAlert, Pruned, WantedAlerts
from skilld.monitor.database import open_database

NOW = 1_700_000_000_000_000
SECOND = 1_000_000
RULES = AlertRules(min_severity="medium", dedup_s=300, per_minute=60, keep_s=86_400, max_alerts=1_000)


def seen(id: int, **fields: Any) -> Seen:
    usual = {"uid": 1, "agent": "shop", "session": "", "rule": "r", "category": "sensitive_data", "severity": "high"}
    more = {"event": id, "confidence": 0.9, "direction": "input", "sample": "s", "trace": None, "span": None}
    return Seen(id=id, **{**usual, **more, **fields})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AlertStore]:
    made = AlertStore(tmp_path / "monitor" / "alerts.db")
    yield made
    made.close()


def found(store: AlertStore, **wanted: Any) -> list[Any]:
    return store.find(WantedAlerts(**{"uid": None, "after": 0, "limit": 1000, **wanted}))


def test_what_is_alike_within_the_window_is_one_alert_that_counts(store: AlertStore) -> None:
    taken = store.take_in([seen(n) for n in range(1, 6)], RULES, NOW)
    assert (len(taken.new), taken.folded, taken.suppressed, taken.ignored) == (1, 4, 0, 0)
    others = [seen(6, session="a"), seen(7, agent="x"), seen(8, rule="q"), seen(9, uid=2)]
    assert len(store.take_in(others, RULES, NOW).new) == 4
    assert store.take_in([seen(10)], RULES, NOW + 299 * SECOND).folded == 1
    assert len(store.take_in([seen(11)], RULES, NOW + 300 * SECOND).new) == 1, "a window later it is told again"
    first = found(store)[0]
    assert (first.count, first.event, first.first_us, first.last_us) == (6, 1, NOW, NOW + 299 * SECOND)


def untold(store: AlertStore, sink: str) -> list[int]:
    """Ids of what this sink is to be told."""
    ids: list[int] = []
    while (alert := store.untold(sink, after=ids[-1] if ids else 0)) and alert.id not in ids:
        ids.append(alert.id)
    return ids


def test_what_was_acknowledged_goes_on_counting_and_is_not_opened_again(store: AlertStore) -> None:
    (alert,) = store.take_in([seen(1)], RULES, NOW).new
    store.acknowledge(alert.id, None, 7, "known", NOW)
    store.take_in([seen(2)], RULES, NOW)
    (kept,) = found(store)
    assert (kept.state, kept.count, kept.note, kept.by_uid) == ("acknowledged", 2, "known", 7)


def test_findings_are_seen_once_also_when_they_come_again(store: AlertStore, tmp_path: Path) -> None:
    store.take_in([seen(1), seen(2)], RULES, NOW)
    assert store.take_in([seen(1), seen(2)], RULES, NOW).folded == 0
    store.close()
    again = AlertStore(tmp_path / "monitor" / "alerts.db")
    assert again.place("findings") == 2
    taken = again.take_in([seen(2), seen(3)], RULES, NOW)
    again.close()
    assert (len(taken.new), taken.folded) == (0, 1), "the one of before, and only what is new"


def test_below_the_severity_is_no_alert(store: AlertStore) -> None:
    taken = store.take_in([seen(1, severity="low"), seen(2, severity="medium", rule="q")], RULES, NOW)
    assert (len(taken.new), taken.ignored) == (1, 1)
    assert store.place("findings") == 2


def test_more_than_a_user_may_cause_are_one_alert_together(store: AlertStore) -> None:
    flood = [seen(n, session=f"s{n}") for n in range(1, 201)]
    other = seen(201, uid=2)
    taken = store.take_in([*flood, other], RULES, NOW)
    assert (len(taken.new), taken.suppressed) == (62, 140)
    (together,) = found(store, rule=TOO_MANY)
    assert (together.count, together.uid, together.agent, together.session) == (140, 1, "", "")
    assert len(found(store, uid=2)) == 1, "what one user does costs another nothing"
    assert len(store.take_in([seen(301, session="later")], RULES, NOW + 2 * SECOND).new) == 1, "it is a rate"


def test_an_alert_for_many_has_the_gravest_severity_of_them(store: AlertStore) -> None:
    rules = AlertRules(min_severity="low", dedup_s=300, per_minute=1, keep_s=86_400, max_alerts=1_000)
    for id, severity in enumerate(("low", "low", "medium", "low"), 1):
        store.take_in([seen(id, severity=severity, rule=f"r{id}")], rules, NOW)
    assert [alert.severity for alert in found(store, rule=TOO_MANY)] == ["medium"]
    store.take_in([seen(9, severity="high", rule="r9"), seen(10, severity="medium", rule="r10")], rules, NOW)
    assert [alert.severity for alert in found(store, rule=TOO_MANY)] == ["high"]


def test_a_flood_of_a_hundred_thousand_findings_stays_bounded_and_quick(store: AlertStore) -> None:
    rules = AlertRules(min_severity="low", dedup_s=300, per_minute=1_000_000, keep_s=86_400, max_alerts=1_000)
    few = AlertRules(min_severity="low", dedup_s=300, per_minute=60, keep_s=86_400, max_alerts=1_000)
    began = time.process_time()
    for page in range(100):
        store.take_in([seen(page * 1000 + n, session=f"{page}-{n}") for n in range(1, 1001)], few, NOW)
    took_s = time.process_time() - began
    assert took_s < 60, f"{took_s:.1f} s for 100,000"
    assert len(found(store)) == 61
    assert sum(alert.count for alert in found(store)) == 100_000, "none is lost, each is counted"
    store.take_in([seen(200_000 + n, uid=2, session=f"x{n}") for n in range(3_000)], rules, NOW)
    removed = 0
    while some := store.prune(rules, NOW).removed:
        removed += some
    assert removed == 2_061
    assert len(found(store)) == 1_000


def test_the_oldest_go_first_and_what_was_seen_before_what_was_not(store: AlertStore) -> None:
    rules = AlertRules(min_severity="low", dedup_s=300, per_minute=1_000, keep_s=100, max_alerts=3, sinks=("exec",))
    new = store.take_in([seen(n, session=str(n), told=True) for n in range(1, 6)], rules, NOW).new
    store.acknowledge(new[3].id, None, 1, "", NOW)
    assert store.prune(rules, NOW) == Pruned(2, {"exec": 2})
    assert [alert.session for alert in found(store)] == ["2", "3", "5"]
    assert store.untold("exec") == found(store)[0], "what is gone is not told any more"
    assert store.prune(rules, NOW + 101 * SECOND) == Pruned(3, {"exec": 3})
    assert (store.prune(rules, NOW), found(store), store.untold("exec")) == (Pruned(0, {}), [], None)


def test_what_is_to_be_told_is_kept_until_it_was_over_a_crash_too(store: AlertStore, tmp_path: Path) -> None:
    rules = AlertRules(
        min_severity="low", dedup_s=300, per_minute=9, keep_s=9, max_alerts=100, sinks=("exec", "webhook")
    )
    store.take_in([seen(1, told=True), seen(2, session="b"), seen(3, session="c", told=True)], rules, NOW)
    assert [untold(store, sink) for sink in ("exec", "webhook", "other")] == [[1, 3], [1, 3], []]
    store.tell_done("exec", 1, "high")
    again = AlertStore(tmp_path / "monitor" / "alerts.db")
    told = [again.untold(sink) for sink in ("exec", "webhook", "other")]
    again.close()
    assert [alert and alert.session for alert in told] == ["c", "", None]


def test_only_the_owner_sees_and_acknowledges(store: AlertStore) -> None:
    store.take_in([seen(1)], RULES, NOW)
    for uid in (2, 0):
        with pytest.raises(NoSuchAlert):
            store.get(1, uid)
        with pytest.raises(NoSuchAlert):
            store.acknowledge(1, uid, uid, "x", NOW)
    assert found(store)[0].state == "open"
    assert found(store, uid=2) == []
    assert store.acknowledge(1, 1, 1, "x" * 5000, NOW)[1]
    assert len(store.get(1, 1).note) == 2_000
    assert not store.acknowledge(1, None, 0, "me too", NOW)[1]
    with pytest.raises(NoSuchAlert):
        store.acknowledge(99, None, 0, "", NOW)


def test_questions_narrow_and_pages_follow_each_other(store: AlertStore) -> None:
    rng = random.Random(3)
    given = [
        seen(n, session=f"s{n}", severity=rng.choice(["medium", "high"]), category=rng.choice(["a", "b"]))
        for n in range(1, 41)
    ]
    store.take_in(given, RULES, NOW)
    for name in ("severity", "category"):
        for value in {getattr(one, name) for one in given} - {"medium"}:
            wanted = [one.session for one in given if getattr(one, name) == value]
            assert [alert.session for alert in found(store, **{name: value})] == wanted
    pages: list[int] = []
    before = None
    while page := found(store, after=None, before=before, limit=7):
        pages += [alert.id for alert in page]
        before = page[-1].id
    assert pages == sorted(pages, reverse=True)
    assert len(pages) == 40


def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "alerts.db"
    path.write_bytes(b"nothing of that kind" * 1000)
    store = AlertStore(path)
    assert found(store) == []
    store.close()
    store.close()
    assert len(list(tmp_path.glob("alerts.db.damaged-*"))) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_of_files_that_were_moved_aside_only_the_latest_are_kept(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / "alerts.db").write_bytes(f"garbage {n}".encode() * 1000)
        AlertStore(tmp_path / "alerts.db").close()
    kept = sorted(tmp_path.glob("alerts.db.damaged-*"))
    assert [path.read_bytes()[:9] for path in kept] == [b"garbage 2", b"garbage 3"]


def test_what_is_to_be_told_is_told_also_where_it_folds_into_what_was_not(store: AlertStore) -> None:
    """As where the mode of a rule was changed, or an agent that is observed made too many alerts before."""
    rules = replace(RULES, sinks=("exec",))
    (alert,) = store.take_in([seen(1)], rules, NOW).new
    assert store.untold("exec") is None
    assert store.take_in([seen(2, told=True, action="block"), seen(3, told=True)], rules, NOW).folded == 2
    told = store.untold("exec")
    assert told is not None
    assert (told.id, told.action, told.count) == (alert.id, "block", 3)
    store.tell_done("exec", told.id, told.severity)
    store.take_in([seen(4, told=True)], rules, NOW)
    assert store.untold("exec") is None, "once"


def test_what_gets_worse_is_open_again_and_told_again(store: AlertStore) -> None:
    rules = replace(RULES, sinks=("exec",))
    (alert,) = store.take_in([seen(1, severity="medium", told=True)], rules, NOW).new
    store.acknowledge(alert.id, None, 7, "known", NOW)
    store.take_in([seen(2, severity="high", told=True)], rules, NOW)
    (worse,) = found(store)
    assert (worse.state, worse.severity, worse.note, worse.by_uid) == ("open", "high", "", None)
    store.tell_done("exec", alert.id, "medium")
    assert store.untold("exec") == worse, "it was told as what it was before"
    store.tell_done("exec", alert.id, "high")
    assert store.untold("exec") is None


def test_a_file_that_is_damaged_behind_its_beginning_is_moved_aside_when_that_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "alerts.db"
    made = AlertStore(path)
    rules = replace(RULES, per_minute=100_000)
    newest = made.take_in([seen(n, session=f"s{n}", sample="y" * 300) for n in range(1, 500)], rules, NOW).new[-1].id
    made.close()
    raw = bytearray(path.read_bytes())
    for place in range(3 * 4096, len(raw), 4096):
        raw[place : place + 200] = b"\xff" * 200
    path.write_bytes(raw)
    again = AlertStore(path)
    assert found(again) == []
    assert [alert.id for alert in again.take_in([seen(1)], RULES, NOW).new] == [newest + 1], "who follows misses none"
    assert len(list(tmp_path.glob("alerts.db.damaged-*"))) == 1
    assert "damaged" in caplog.text
    again.close()


def test_an_older_file_is_taken_over(tmp_path: Path) -> None:
    old = open_database(tmp_path / "alerts.db", STEPS[:1])
    fields = "uid, agent, session, rule, category, severity, confidence, direction, sample, event, action, first_us"
    row = (1, "shop", "", "r", "sensitive_data", "high", 0.9, "input", "s", 1, "allow", NOW)
    old.execute(
        f"INSERT INTO alert ({fields}, last_us, count, state, note) VALUES ({'?, ' * 12} 1, 1, 'open', '')", row
    )
    old.close()
    made = AlertStore(tmp_path / "alerts.db")
    rules = replace(RULES, sinks=("exec",))
    assert made.take_in([seen(1, told=True)], rules, NOW).folded == 1
    assert made.untold("exec") is None, "it was told in its time"
    assert len(made.secret()) == 32
    made.close()
