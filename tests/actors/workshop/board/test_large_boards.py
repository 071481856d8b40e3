"""Boards where one change concerns more items than one commit takes, leases on the real clock, and what is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from board_kit import ME, BoardKit, open_board
from skill_actors.errors import Refused
from skill_actors.store import SqliteJournal
from skill_actors.store.documents import Change
from skill_actors.workshop.board import Board, Outcome
from support import run

MANY = 1_200  # one commit takes 500


async def add_many(kit: BoardKit, **root: Any) -> None:
    await kit.add("root", **root)
    drafts = [{"id": f"i{number}", "title": "x", "depends_on": ["root"]} for number in range(MANY)]
    for start in range(0, MANY, 400):
        await kit.board.add(ME, drafts[start : start + 400])


def test_what_concerns_more_items_than_a_commit_takes_comes_to_all_of_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_board(tmp_path) as kit:
            await add_many(kit, max_attempts=1)
            await kit.board.fail(ME, "root", await kit.take("root"), "no")
            counts = (await kit.board.summary(ME))["by_status"]
            assert (counts["blocked"], counts["failed"]) == (MANY, 1)
            await kit.board.retry(ME, "root")
            await kit.do("root")
            assert (await kit.board.summary(ME))["by_status"]["ready"] == MANY

    run(main)


def test_what_a_crash_cut_off_in_between_is_made_good_at_the_next_start(tmp_path: Path) -> None:
    class Crash(Exception):
        pass

    async def main() -> None:
        async with await SqliteJournal.open(tmp_path / "journal.db", reserve_bytes=0) as journal:
            left = 3

            async def apply(*args: Any) -> Any:
                nonlocal left
                left -= len(args[0]) > 400
                if left < 0:
                    raise Crash
                return await journal.documents.apply(*args)

            board = Board(journal.documents, apply)
            kit = BoardKit(journal, board)
            left = 100
            await add_many(kit)
            token = await kit.take("root")
            left = 1
            with pytest.raises(Crash):
                await board.complete(ME, "root", token, Outcome())
            assert 0 < (await board.summary(ME))["by_status"]["new"] < MANY
        async with open_board(tmp_path, running=True) as kit:
            while (await kit.board.summary(ME))["by_status"]["new"]:
                await kit.board.changed(ME).wait()
            assert (await kit.board.summary(ME))["by_status"]["ready"] == MANY

    run(main)


def test_a_lease_that_is_not_renewed_is_taken_back_and_the_one_that_is_stays(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_board(tmp_path, running=True) as kit:
            await kit.add("dead", max_attempts=1)
            await kit.add("alive")
            dead = await kit.take("dead", lease_s=3)
            alive = await kit.take("alive", lease_s=3)
            while (await kit.board.get(ME, "dead")).status != "failed":
                await kit.board.heartbeat(ME, "alive", alive)
                await trio.sleep(0.05)
            item = await kit.board.get(ME, "dead")
            assert item.error == "nothing was heard of me for 3 s"
            with pytest.raises(Refused) as lost:
                await kit.board.complete(ME, "dead", dead)
            assert lost.value.details["reason"] == "lease_lost"
            await kit.board.complete(ME, "alive", alive)

    run(main)


def test_an_item_that_cannot_be_read_leaves_the_others_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_board(tmp_path) as kit:
            await kit.add("good")
            broken = Change(kind="item", id=f"{ME}/bad", owner_uid=ME, data={"id": "bad", "status": "odd"}, expected=0)
            await kit.journal.documents.apply([broken])
        async with open_board(tmp_path) as kit:
            assert await kit.statuses() == {"good": "ready"}
            await kit.do("good")
            with pytest.raises(Refused) as refused:
                await kit.add("bad")
            assert refused.value.code == "conflict"

    run(main)
