"""A state that an older version wrote is brought up to date, with all that it holds; once, and whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from skill_actors.store import Append, ApprovalRecord, SqliteJournal, StoreError
from skill_actors.store import schema as schema_module
from skill_actors.store.documents import Change, NewEvent
from skill_actors.store.ledger import Amounts, Entry
from skill_actors.store.schema import SCHEMA_VERSION
from support import run

OLD = Path(__file__).with_name("state_v1.sql")  # dumped from a journal that version 1 wrote
ONE, TWO, THREE = (f"ses_{letter * 26}" for letter in "abc")


def write_old(path: Path) -> Path:
    path.parent.mkdir()
    db = apsw.Connection(str(path))
    db.execute(OLD.read_text(encoding="utf-8"))
    db.close()
    return path


def version_of(path: Path) -> int:
    db = apsw.Connection(str(path))
    version = int(db.pragma("user_version"))
    db.close()
    return version


def test_a_state_of_version_1_is_migrated_with_all_it_holds(db_path: Path) -> None:
    async def main() -> None:
        assert version_of(write_old(db_path)) == 1
        for _ in range(2):  # the second time there is nothing left to do
            async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
                for session in (ONE, TWO, THREE):
                    await journal.verify_session(session)
                one = await journal.open_session(ONE)
                assert one is not None
                assert (one.owner_uid, one.last_seq, one.settings, one.totals) == (
                    *(1000, 3),
                    *({"title": "Grüße 0"}, {"turns": 1}),
                )
                events = await journal.read_events(ONE)
                assert [(event.seq, event.data["text"]) for event in events] == [(1, "hello"), (3, "hi \u2028 ü")]
                turn = await journal.find_turn(ONE, "k1")
                assert turn is not None
                assert turn.result == {"text": "hi"}
                assert [turn.session for turn in await journal.unfinished_turns()] == [TWO]
                assert await journal.count_sessions() == 3
                assert (await journal.list_approvals(status=None)).items == ()
                assert await journal.ledger.usage("day", since=None, until=None, owner_uid=None) == ()
                assert await journal.ledger.verify() == ()
                assert await journal.documents.list("agent") == ()
                assert (await journal.documents.first_event(), await journal.documents.last_event()) == (1, 0)
                assert await journal.documents.verify() == ()
        assert version_of(db_path) == SCHEMA_VERSION

    run(main)


def test_a_migration_that_fails_leaves_the_old_state_as_it_was(db_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        write_old(db_path)
        broken = (*schema_module.MIGRATIONS[:-1], schema_module.MIGRATIONS[-1] + "SELECT * FROM nowhere;")
        with monkeypatch.context() as patch:
            patch.setattr(schema_module, "MIGRATIONS", broken)
            with pytest.raises(StoreError, match="nowhere"):
                await SqliteJournal.open(db_path, reserve_bytes=0)
        assert version_of(db_path) == SCHEMA_VERSION - 1
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            assert await journal.count_sessions() == 3

    run(main)


def test_what_came_later_works_in_an_old_state(db_path: Path) -> None:
    async def main() -> None:
        write_old(db_path)
        asked = ApprovalRecord(
            id="apr_1", session=ONE, turn="trn_1", call="toolu_1", owner_uid=1000, status="pending",
            created="2026-01-01", expires="2026-01-02", updated="2026-01-01", request={"command": "ls"},
        )  # fmt: skip
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            await journal.append(Append(session=ONE, expected_last_seq=3, last_seq=3, approvals=(asked,)))
            entry = Entry(kind="charge", time="2026", day="2026-01-01", session=ONE, turn="trn_1", owner_uid=1000)
            await journal.ledger.enter(replace(entry, amounts=Amounts(tool_calls=1)))
            agent = Change(kind="agent", id="1000/coder", owner_uid=1000, data={"role": "writes"}, expected=0)
            await journal.documents.apply([agent], [NewEvent(owner_uid=1000, topic="agent", name="created")])
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            assert (await journal.list_approvals()).items == (asked,)
            assert (await journal.ledger.sums(["global"]))["global"].used.tool_calls == 1
            assert [found.data for found in await journal.documents.list("agent")] == [{"role": "writes"}]
            assert await journal.documents.last_event() == 1
            for session in (ONE, TWO, THREE):
                await journal.verify_session(session)

    run(main)
