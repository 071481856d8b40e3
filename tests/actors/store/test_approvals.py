"""Approvals are stored with the events that tell of them, found again, and go with their conversation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from skill_actors.ids import new_id
from skill_actors.store import (
    Append,
    ApprovalRecord,
    DamagedRow,
    SequenceConflict,
    SessionRecord,
    SqliteJournal,
)
from support import run

New = Callable[..., SessionRecord]
Step = Callable[..., Append]

NOON = "2026-01-01T12:00:00.000Z"


def approval(session: str, **fields: Any) -> ApprovalRecord:
    values: dict[str, Any] = {
        "id": new_id("apr"),
        "turn": new_id("trn"),
        "call": "toolu_1",
        "owner_uid": 1000,
        "status": "pending",
        "created": NOON,
        "expires": "2026-01-01T13:00:00.000Z",
        "updated": NOON,
        "request": {"command": "rm -rf build \u2028 \ud800"},
    }
    return ApprovalRecord(session=session, **(values | fields))


def hurt(path: Path, sql: str, *values: object) -> None:
    db = apsw.Connection(str(path))
    db.execute(sql, values)
    db.close()


def test_an_approval_is_stored_decided_and_found_by_the_next_process(
    db_path: Path, new_session: New, step: Step
) -> None:
    async def main() -> None:
        record = new_session()
        asked = approval(record.id)
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            await journal.create_session(record)
            assert await journal.get_approval(asked.id) is None
            await journal.append(step(record.id, 1, approvals=(asked,)))
            assert await journal.get_approval(asked.id) == asked
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            assert (await journal.list_approvals()).items == (asked,)
            decided = replace(asked, status="denied", decision={"by_uid": 0, "reason": "no"}, updated="2026")
            await journal.append(step(record.id, 2, approvals=(decided,)))
            assert await journal.get_approval(asked.id) == decided
            assert (await journal.list_approvals()).items == ()
            assert (await journal.list_approvals(status=None)).items == (decided,)
            await journal.verify_session(record.id)

    run(main)


def test_an_append_that_is_refused_stores_no_approval(db_path: Path, new_session: New, step: Step) -> None:
    async def main() -> None:
        record, other = new_session(), new_session()
        asked = approval(record.id)
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            for each in (record, other):
                await journal.create_session(each)
            with pytest.raises(SequenceConflict):
                await journal.append(step(record.id, 5, approvals=(asked,)))
            with pytest.raises(ValueError, match="is not one of"):
                await journal.append(step(other.id, 1, approvals=(asked,)))
            with pytest.raises(ValueError, match="status 'maybe'"):
                await journal.append(step(record.id, 1, approvals=(approval(record.id, status="maybe"),)))
            assert (await journal.list_approvals(status=None)).items == ()
            await journal.append(step(record.id, 1, approvals=(asked,)))
            with pytest.raises(ValueError, match="belongs to another session"):
                await journal.append(step(other.id, 1, approvals=(replace(asked, session=other.id),)))
            for each in (record, other):
                await journal.verify_session(each.id)

    run(main)


def test_approvals_are_listed_newest_first_by_pages_and_by_what_is_chosen(
    db_path: Path, new_session: New, step: Step
) -> None:
    async def main() -> None:
        one, two = new_session(), new_session(owner_uid=1001)
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            made: list[ApprovalRecord] = []
            for record in (one, two):
                await journal.create_session(record)
            for number in range(7):
                record = two if number % 3 == 0 else one
                asked = approval(record.id, created=f"2026-01-0{number + 1}", owner_uid=record.owner_uid)
                current = await journal.get_session(record.id)
                assert current is not None
                await journal.append(step(record.id, current.last_seq + 1, approvals=(asked,)))
                made.insert(0, asked)
            seen: list[ApprovalRecord] = []
            cursor = None
            while True:
                page = await journal.list_approvals(limit=2, cursor=cursor)
                seen += page.items
                cursor = page.next
                if cursor is None:
                    break
            assert seen == made
            of_two = [each for each in made if each.session == two.id]
            assert list((await journal.list_approvals(session=two.id)).items) == of_two
            assert list((await journal.list_approvals(owner_uid=1001)).items) == of_two
            assert (await journal.list_approvals(turn=made[3].turn)).items == (made[3],)
            with pytest.raises(ValueError, match="cursor"):
                await journal.list_approvals(cursor="x")
            with pytest.raises(ValueError, match="limit"):
                await journal.list_approvals(limit=0)

    run(main)


def test_approvals_go_with_their_session_and_no_other(db_path: Path, new_session: New, step: Step) -> None:
    async def main() -> None:
        gone, stays = new_session(), new_session()
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            for record in (gone, stays):
                await journal.create_session(record)
                await journal.append(step(record.id, 1, approvals=(approval(record.id),)))
            assert await journal.delete_session(gone.id)
            (left,) = (await journal.list_approvals()).items
            assert left.session == stays.id

    run(main)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE approval SET status = 'allowed' WHERE session = ?1",
        "UPDATE approval SET request = '{}' WHERE session = ?1",
        "UPDATE approval SET decision = '{\"by_uid\":0}' WHERE session = ?1",
        "UPDATE approval SET request = CAST(x'ff' AS TEXT) WHERE session = ?1",
        "DELETE FROM approval WHERE session = ?1",
        "UPDATE session SET approvals = 0 WHERE id = ?1",
    ],
)
def test_an_approval_that_is_damaged_or_missing_is_noticed_and_never_served(
    db_path: Path, new_session: New, step: Step, change: str
) -> None:
    async def main() -> None:
        bad, good = new_session(), new_session()
        asked = {record.id: approval(record.id) for record in (bad, good)}
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            for record in (bad, good):
                await journal.create_session(record)
                await journal.append(step(record.id, 1, approvals=(asked[record.id],)))
        hurt(db_path, change, bad.id)
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            with pytest.raises(DamagedRow, match="approval"):
                await journal.verify_session(bad.id)
            await journal.verify_session(good.id)
            listed = (await journal.list_approvals(status=None)).items
            assert asked[good.id] in listed
            assert [each for each in listed if each.session == bad.id] in ([], [asked[bad.id]])
            if change.startswith("UPDATE approval"):
                with pytest.raises(DamagedRow):
                    await journal.get_approval(asked[bad.id].id)
                (folder,) = (db_path.parent / "quarantine").glob(f"*{bad.id}")
                assert '"table": "approval"' in (folder / "rows.jsonl").read_text()

    run(main)
