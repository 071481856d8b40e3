"""The ledger's rows: what is damaged is noticed, sums are made anew from the entries, and nothing is undercounted."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from ledger_kit import MODEL, LedgerKit, account, cap, open_ledger, request
from skill_actors.models.base import Usage
from skill_actors.sessions.ledger import Account, BudgetExceeded, Limits
from skill_actors.store import SqliteJournal
from skill_actors.store.copying import check_copy
from skill_actors.store.ledger import Entry, LedgerDamaged, StoredCap, keys_of
from support import run


def hurt(path: Path, sql: str) -> None:
    db = apsw.Connection(str(path))
    db.execute(sql)
    db.close()


async def fill(path: Path) -> Account:
    """Three settled calls, one that is open, a cap that is set."""
    who = account()
    async with open_ledger(path) as kit:
        for _ in range(3):
            hold = await kit.ledger.reserve_call(who, request(), provider="test")
            await kit.ledger.settle_call(hold, MODEL, Usage(input_tokens=1000), cut=False)
        await kit.ledger.reserve_call(who, request(), provider="test")
        await kit.ledger.set_cap("day", Limits(usd=5), 0)
    return who


async def used(kit: LedgerKit, key: str) -> int:
    return (await kit.journal.ledger.sums([key]))[key].used.tokens


def test_an_account_counts_in_the_sums_that_the_store_keeps() -> None:
    who = account(parents=("ses_" + "b" * 26,), agent="a")
    entry = Entry(
        kind="charge", time="2026-03-31T12", day="2026-03-31", session=who.session, turn=who.turn,
        owner_uid=who.owner_uid, parents=who.parents, agent=who.agent,
    )  # fmt: skip
    assert sorted(keys_of(entry)) == sorted(scope.key for scope in who.scopes("2026-03-31"))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger_sum SET tokens = 0, nanousd = 0 WHERE key = 'global'",
        "UPDATE ledger_sum SET tokens = 0 WHERE key LIKE 'session/%'",
        "UPDATE ledger_sum SET key = key || 'x'",
        "DELETE FROM ledger_sum WHERE key = 'global'",
        "DELETE FROM ledger_sum",
    ],
)
def test_sums_that_are_damaged_are_made_anew_before_anything_relies_on_them(tmp_path: Path, change: str) -> None:
    async def main() -> None:
        path = tmp_path / "state" / "journal.db"
        who = await fill(path)
        hurt(path, change)
        async with open_ledger(path, caps=[cap("session", tokens=5000)]) as kit:  # 3000, and about 1500 were lost
            with pytest.raises(BudgetExceeded):
                await kit.ledger.reserve_call(who, request(), provider="test")
            await kit.ledger.charge_tool(who)
            assert await used(kit, f"session/{who.session}") > 4500
            await kit.ledger.verify()
            assert await kit.ledger.verify() == ()

    run(main)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE ledger SET nanousd = 1 WHERE id = 2", "entry 2"),
        ("UPDATE ledger SET session = 'x' WHERE id = 3", "entry 3"),
        ("DELETE FROM ledger WHERE id = 2", "not what its entries add up to"),
        ("UPDATE ledger_sum SET tokens = tokens - 1 WHERE key = 'global'", "global"),
        ("DELETE FROM ledger_sum WHERE key LIKE 'user/%'", "missing"),
        ("UPDATE cap SET limits = '{\"usd\":500}'", "the cap global/day"),
    ],
)
def test_reading_all_of_it_finds_what_is_wrong(tmp_path: Path, change: str, named: str) -> None:
    async def main() -> None:
        path = tmp_path / "state" / "journal.db"
        await fill(path)
        async with open_ledger(path) as kit:
            assert await kit.ledger.verify() == ()
        hurt(path, change)
        async with open_ledger(path) as kit:
            faults = await kit.ledger.verify()
            assert any(named in fault for fault in faults), faults

    run(main)


def test_a_damaged_cap_refuses_what_it_might_bind_until_it_is_set_anew(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "state" / "journal.db"
        await fill(path)
        hurt(path, "UPDATE cap SET limits = '{\"usd\":500}'")
        async with open_ledger(path) as kit:
            with pytest.raises(LedgerDamaged, match="Set it anew"):
                await kit.ledger.reserve_call(account(), request(), provider="test")
            await kit.ledger.set_cap("day", Limits(usd=6), 0)
            await kit.ledger.reserve_call(account(), request(), provider="test")

    run(main)


def test_a_sum_over_a_damaged_entry_is_refused_rather_than_guessed(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "state" / "journal.db"
        who = await fill(path)
        hurt(path, "UPDATE ledger SET tokens = 1 WHERE id = 2; UPDATE ledger_sum SET tokens = 1 WHERE key = 'global'")
        async with open_ledger(path) as kit:
            with pytest.raises(LedgerDamaged, match="entry 2"):
                await kit.ledger.charge_tool(who)

    run(main)


def test_the_ledger_outlives_its_sessions_and_comes_along_with_a_copy(tmp_path: Path) -> None:
    async def main() -> None:
        path, copy = tmp_path / "state" / "journal.db", tmp_path / "copy" / "journal.db"
        who = await fill(path)
        copy.parent.mkdir()
        async with await SqliteJournal.open(path, reserve_bytes=0) as journal:
            assert not await journal.delete_session(who.session)
            await journal.copy_to(copy)
        assert check_copy(copy)[1] == []
        async with open_ledger(copy) as kit:
            assert await used(kit, f"session/{who.session}") > 4500
            assert [stored.name for stored in await kit.journal.ledger.caps()] == ["global/day"]

    run(main)


def test_a_judge_is_shown_the_stored_caps_it_asked_for_and_refuses_without_a_trace(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_ledger(tmp_path / "state" / "journal.db") as kit:
            store, who = kit.journal.ledger, account()
            for name in ("global", "user"):
                await store.set_cap(StoredCap(name=name, source="set", limits={"usd": 1}, by_uid=0, updated="2026"))
            shown: list[str] = []

            def judge(caps: object, sums: object) -> Exception:
                shown.extend(stored.name for stored in caps)  # type: ignore[attr-defined]
                return KeyError("no")

            entry = Entry(kind="hold", time="2026", day="2026-03-31", session=who.session, turn=who.turn, owner_uid=1)
            with pytest.raises(KeyError):
                await store.enter(entry, judge=judge, caps=["user", "turn"], budget={"usd": 1})
            assert shown == ["user"]
            assert await store.sums(keys_of(entry)) == {}
            assert await store.caps([f"session/{who.session}"]) == ()
            assert await store.open_holds() == ()

    run(main)
