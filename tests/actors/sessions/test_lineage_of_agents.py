"""For whom a session works, and who is charged with it."""

from __future__ import annotations

from typing import Any

from skill_actors.sessions.account import NO_LINEAGE, Lineage, account_of
from skill_actors.store.base import SessionRecord
from skill_actors.store.ledger import Amounts, Entry
from skill_actors.store.ledger.keys import keys_of

DAY = "2026-01-31"


def record(id: str, **settings: Any) -> SessionRecord:
    return SessionRecord(id=id, owner_uid=7, created="", updated="", settings=settings)


def test_a_child_works_for_the_agent_that_has_made_it_and_all_above_that() -> None:
    boss = record("ses_boss", agent="7.boss", parents=["ses_purse"])
    child = Lineage.below(boss)
    assert child == Lineage(parents=("ses_boss", "ses_purse"), above=("7.boss",))
    deeper = Lineage.below(record("ses_child", agent="7.child", **child.settings()))
    assert deeper.parents == ("ses_child", "ses_boss", "ses_purse")
    assert deeper.above == ("7.child", "7.boss")
    assert Lineage.of(deeper.settings()) == deeper
    assert NO_LINEAGE.settings() == {}
    assert Lineage.below(record("ses_a")) == Lineage(parents=("ses_a",))


def test_only_who_works_first_for_the_same_is_of_the_same() -> None:
    boss = Lineage(parents=("ses_new",), above=("7.boss",))
    assert boss.is_of_the_same(Lineage(parents=("ses_old",), above=("7.boss", "7.top")))
    assert not boss.is_of_the_same(Lineage(parents=("ses_new",), above=("7.top", "7.boss")))
    assert not boss.is_of_the_same(NO_LINEAGE)
    assert not NO_LINEAGE.is_of_the_same(NO_LINEAGE)
    plain = Lineage(parents=("ses_a",))
    assert plain.is_of_the_same(Lineage(parents=("ses_a", "ses_b")))
    assert not plain.is_of_the_same(Lineage(parents=("ses_b", "ses_a")))


def test_every_cap_above_binds_and_every_sum_above_counts_once() -> None:
    settings = {"agent": "7.child", "parents": ["ses_boss"], "above": ["7.boss", "7.child"]}
    account = account_of(record("ses_child", **settings), "trn_a")
    scopes = account.scopes(DAY)
    assert [scope.key for scope in scopes if scope.key.startswith("agent/")] == ["agent/7.child", "agent/7.boss"]
    assert all(scope.caps == ("agent", scope.key) for scope in scopes if scope.key.startswith("agent/"))
    entry = Entry(
        kind="charge",
        time=f"{DAY}T00:00:00.000Z",
        day=DAY,
        session="ses_child",
        turn="trn_a",
        owner_uid=7,
        parents=("ses_boss", "agent/7.boss", "agent/7.child"),
        agent="7.child",
        amounts=Amounts(),
    )
    keys = keys_of(entry)
    assert len(keys) == len(set(keys))
    assert {scope.key for scope in scopes} == set(keys)
