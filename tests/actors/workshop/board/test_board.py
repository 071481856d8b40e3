"""The board over a real journal: what may become of items, who may say so, and what follows for others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from board_kit import ME, OTHER, BoardKit, open_board
from skill_actors.errors import Refused
from skill_actors.workshop.board import Outcome
from support import run

Check = Callable[[BoardKit], Awaitable[None]]


def on_board(folder: Path, check: Check, **options: Any) -> None:
    async def main() -> None:
        async with open_board(folder, **options) as kit:
            await check(kit)

    run(main)


async def refused(code: str, call: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as info:
        await call
    assert info.value.code == code, info.value.message
    return info.value


def test_an_item_without_dependencies_is_ready_and_one_with_open_ones_is_new(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        await kit.add("b", "a")
        assert await kit.statuses() == {"a": "ready", "b": "new"}
        await kit.do("a")
        assert await kit.statuses() == {"a": "done", "b": "ready"} == await kit.stored()
        assert (await kit.add("c", "a")).status == "ready"

    on_board(tmp_path, check)


def test_the_way_of_an_item_is_told_by_its_times_its_history_and_its_events(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        await kit.add("b", "a")
        item = await kit.do("a", "42")
        assert item.result == "42"
        assert None not in (item.claimed, item.started, item.ended)
        assert [(step.status, step.attempt) for step in item.steps] == [
            ("ready", 0),
            ("claimed", 1),
            ("in_progress", 1),
            ("done", 1),
        ]
        assert await kit.events() == [
            ("added", "a"),
            ("added", "b"),
            ("claimed", "a"),
            ("started", "a"),
            ("completed", "a"),
            ("ready", "b"),
        ]

    on_board(tmp_path, check)


def test_a_failure_blocks_all_that_wait_for_it_however_far_away_and_a_retry_unblocks_them(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a", max_attempts=1)
        for id, before in (("b", "a"), ("c", "b"), ("d", "c")):
            await kit.add(id, before)
        await kit.board.fail(ME, "a", await kit.take("a"), "no")
        assert await kit.statuses() == {"a": "failed", "b": "blocked", "c": "blocked", "d": "blocked"}
        assert (await kit.add("e", "d")).status == "blocked"
        await kit.board.retry(ME, "a")
        assert await kit.statuses() == {"a": "ready", "b": "new", "c": "new", "d": "new", "e": "new"}
        for id in "abcde":
            await kit.do(id)
        assert set((await kit.stored()).values()) == {"done"}

    on_board(tmp_path, check)


def test_editing_away_a_failed_dependency_unblocks(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        await kit.add("b", "a")
        await kit.add("c", "b")
        await kit.board.cancel(ME, "a", "not wanted")
        assert await kit.statuses() == {"a": "cancelled", "b": "blocked", "c": "blocked"}
        await kit.board.edit(ME, "b", {"depends_on": []})
        assert await kit.statuses() == {"a": "cancelled", "b": "ready", "c": "new"}

    on_board(tmp_path, check)


def test_a_failed_attempt_is_taken_again_until_none_is_left(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a", max_attempts=2)
        assert (await kit.board.fail(ME, "a", await kit.take("a"), "first")).status == "ready"
        item = await kit.board.fail(ME, "a", await kit.take("a"), "second")
        assert (item.status, item.attempts, item.error) == ("failed", 2, "second")
        item = await kit.board.retry(ME, "a")
        assert (item.status, item.attempts, item.error) == ("ready", 0, "second")

    on_board(tmp_path, check)


def test_a_final_failure_leaves_no_attempt(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        assert (await kit.board.fail(ME, "a", await kit.take("a"), "never", final=True)).status == "failed"

    on_board(tmp_path, check)


def test_what_is_given_back_was_no_attempt(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a", max_attempts=1)
        item = await kit.board.release(ME, "a", await kit.take("a"))
        assert (item.status, item.attempts, item.lease) == ("ready", 0, None)
        assert ("requeued", "a") in await kit.events()

    on_board(tmp_path, check)


@pytest.mark.parametrize("action", ["start", "complete", "fail", "release", "heartbeat"])
def test_only_the_token_of_the_holder_says_what_became_of_an_item(tmp_path: Path, action: str) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        act: Callable[..., Awaitable[object]] = getattr(kit.board, action)
        more = ("no",) if action == "fail" else ()
        await refused("conflict", act(ME, "a", "guessed", *more))
        await kit.take("a")
        refusal = await refused("conflict", act(ME, "a", "guessed", *more))
        assert refusal.details["reason"] == "lease_lost"
        assert (await kit.board.get(ME, "a")).status == "in_progress"

    on_board(tmp_path, check)


def test_the_token_is_not_shown(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        token = await kit.take("a")
        item = await kit.board.get(ME, "a")
        assert token not in str(item.view())
        assert token not in repr(item)
        assert item.view()["claimed_by"] == "me"

    on_board(tmp_path, check)


def test_an_id_is_taken_once_also_while_somebody_works_on_it(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a", spec="the first")
        await kit.take("a")
        await refused("conflict", kit.add("a", spec="the second"))
        assert (await kit.board.get(ME, "a")).spec == "the first"

    on_board(tmp_path, check)


def test_missing_dependencies_and_circles_are_refused(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        refusal = await refused("bad_request", kit.add("a", "ghost"))
        assert "ghost" in refusal.message
        await refused("bad_request", kit.add("a", "a"))
        drafts = [{"id": "x", "title": "x", "depends_on": ["y"]}, {"id": "y", "title": "y", "depends_on": ["x"]}]
        await refused("bad_request", kit.board.add(ME, drafts))
        await kit.add("a")
        await kit.add("b", "a")
        await kit.add("c", "b")
        refusal = await refused("bad_request", kit.board.edit(ME, "a", {"depends_on": ["c"]}))
        assert "a -> c -> b -> a" in refusal.message or "a -> b -> c -> a" in refusal.message
        assert await kit.statuses() == {"a": "ready", "b": "new", "c": "new"} == await kit.stored()

    on_board(tmp_path, check)


def test_two_edits_at_once_cannot_close_a_circle(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        await kit.add("b")
        outcomes: list[str] = []

        async def edit(id: str, other: str) -> None:
            try:
                await kit.board.edit(ME, id, {"depends_on": [other]})
                outcomes.append("done")
            except Refused as error:
                outcomes.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(edit, "a", "b")
            nursery.start_soon(edit, "b", "a")
        assert sorted(outcomes) == ["bad_request", "done"]

    on_board(tmp_path, check)


def test_several_items_are_added_together_or_not_at_all(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        drafts: list[dict[str, Any]] = [{"id": "b", "title": "b", "depends_on": ["a"]}, {"id": "a", "title": "a"}]
        assert [item.status for item in await kit.board.add(ME, drafts)] == ["new", "ready"]
        drafts = [{"id": "c", "title": "c"}, {"id": "d", "title": ""}]
        await refused("bad_request", kit.board.add(ME, drafts))
        assert set(await kit.statuses()) == {"a", "b"}

    on_board(tmp_path, check)


def test_the_best_ready_item_is_the_most_urgent_then_the_oldest(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("later")
        await trio.sleep(0.002)
        await kit.add("last", priority=5)
        await kit.add("urgent", priority=1)
        await kit.add("other", priority=1, type="docs")
        taken = [await kit.board.claim(ME, "me", types=["custom"]) for _ in range(4)]
        assert [item and item.id for item in taken] == ["urgent", "later", "last", None]

    on_board(tmp_path, check)


def test_an_item_for_one_agent_is_taken_by_no_other(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a", agent="ada")
        assert await kit.board.claim(ME, "me") is None
        assert await kit.board.claim(ME, "me", names=["bob"]) is None
        taken = await kit.board.claim(ME, "me", names=["ada"])
        assert taken is not None
        assert taken.id == "a"

    on_board(tmp_path, check)


def test_of_many_claimers_at_once_no_two_get_the_same_item(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.board.add(ME, [{"id": f"i{number}", "title": "x"} for number in range(50)])
        got: list[str] = []

        async def claimer(number: int) -> None:
            while (item := await kit.board.claim(ME, f"w{number}")) is not None:
                got.append(item.id)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(claimer, number)
        assert sorted(got) == sorted(f"i{number}" for number in range(50))

    on_board(tmp_path, check)


def test_of_many_who_want_the_same_item_one_gets_it(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        got: list[str] = []

        async def reader() -> None:
            while len(got) < 10:  # it is never away, and never anything in between
                assert (await kit.board.get(ME, "a")).status in ("ready", "claimed")
                assert (await kit.stored())["a"] in ("ready", "claimed")

        async def claimer(number: int) -> None:
            try:
                await kit.board.claim(ME, f"w{number}", id="a")
                got.append("mine")
            except Refused as error:
                got.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            for number in range(10):
                nursery.start_soon(claimer, number)
        assert sorted(got) == ["conflict"] * 9 + ["mine"]

    on_board(tmp_path, check)


def test_two_that_end_at_once_do_not_both_overlook_what_waits_for_both(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        before = [f"i{number}" for number in range(10)]
        for id in before:
            await kit.add(id)
        await kit.add("after", *before)
        tokens = {id: await kit.take(id) for id in before}
        async with trio.open_nursery() as nursery:
            for id, token in tokens.items():
                nursery.start_soon(kit.board.complete, ME, id, token)
        assert (await kit.board.get(ME, "after")).status == "ready"
        assert (await kit.stored())["after"] == "ready"

    on_board(tmp_path, check)


def test_cancelling_takes_the_item_from_its_holder(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        token = await kit.take("a")
        await kit.board.cancel(ME, "a", "changed our mind")
        await refused("conflict", kit.board.complete(ME, "a", token))
        item = await kit.board.get(ME, "a")
        assert (item.status, item.error, item.result) == ("cancelled", "changed our mind", None)
        await refused("conflict", kit.board.cancel(ME, "a"))

    on_board(tmp_path, check)


def test_what_is_done_stays_done(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        await kit.do("a")
        await refused("conflict", kit.board.cancel(ME, "a"))
        await refused("conflict", kit.board.retry(ME, "a"))
        await refused("conflict", kit.board.claim(ME, "me", id="a"))
        await refused("conflict", kit.board.edit(ME, "a", {"spec": "else"}))
        assert (await kit.board.edit(ME, "a", {"labels": {"seen": "yes"}})).labels == {"seen": "yes"}

    on_board(tmp_path, check)


def test_an_edit_for_another_version_is_refused(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        item = await kit.add("a")
        await trio.sleep(0.002)
        await kit.board.edit(ME, "a", {"priority": 1}, expected_updated=item.updated)
        await refused("conflict", kit.board.edit(ME, "a", {"priority": 2}, expected_updated=item.updated))

    on_board(tmp_path, check)


def test_removing_keeps_what_others_depend_on_and_what_is_worked_on(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        await kit.add("b", "a")
        refusal = await refused("conflict", kit.board.remove(ME, ["a"]))
        assert refusal.details["dependents"] == ["b"]
        await kit.take("a")
        await refused("conflict", kit.board.remove(ME, ["a", "b"]))
        await kit.board.cancel(ME, "a")
        await kit.board.remove(ME, ["a", "b"])
        assert await kit.stored() == {}
        await refused("not_found", kit.board.get(ME, "a"))

    on_board(tmp_path, check)


def test_other_owners_have_other_boards(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a")
        await refused("not_found", kit.board.get(OTHER, "a"))
        assert await kit.board.claim(OTHER, "thief") is None
        await refused("bad_request", kit.board.add(OTHER, [{"id": "b", "title": "b", "depends_on": ["a"]}]))

    on_board(tmp_path, check)


def test_an_item_with_a_schema_is_done_only_with_an_answer_of_that_shape(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}

    async def check(kit: BoardKit) -> None:
        await kit.add("a", verify={"schema": schema})
        token = await kit.take("a")
        for wrong in (Outcome(), Outcome(result="fine"), Outcome(result='{"ok": 3}'), Outcome(structured={"ok": "y"})):
            refusal = await refused("conflict", kit.board.complete(ME, "a", token, wrong))
            assert refusal.details["reason"] == "unverified"
        item = await kit.board.complete(ME, "a", token, Outcome(structured={"ok": True}))
        assert (item.status, item.structured) == ("done", {"ok": True})

    on_board(tmp_path, check)


def test_an_item_with_a_command_is_done_when_it_has_passed_or_somebody_says_why_not(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        for id in "ab":
            await kit.add(id, verify={"argv": ["true"]})
        token = await kit.take("a")
        await refused("conflict", kit.board.complete(ME, "a", token, Outcome(result="trust me")))
        await kit.board.complete(ME, "a", token, Outcome(result="x", command_passed=True))
        item = await kit.board.complete(ME, "b", await kit.take("b"), Outcome(waived="seen by eye"))
        assert item.steps[-1].note == "verification waived: seen by eye"

    on_board(tmp_path, check)


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    tokens: list[str] = []

    async def before(kit: BoardKit) -> None:
        fields = {"labels": {"x": "y"}, "verify": {"argv": ["true", "1"]}, "meta": {"n": [1]}}
        await kit.add("a", spec="what\x00 is\n to be ✓ done", **fields)
        await kit.add("b", "a")
        tokens.append(await kit.take("a"))

    async def after(kit: BoardKit) -> None:
        item = await kit.board.get(ME, "a")
        assert (item.status, item.spec, item.meta) == ("in_progress", "what\x00 is\n to be ✓ done", {"n": [1]})
        await kit.board.complete(ME, "a", tokens[0], Outcome(command_passed=True))
        assert await kit.statuses() == {"a": "done", "b": "ready"}

    on_board(tmp_path, before)
    on_board(tmp_path, after)


def test_a_board_has_bounds(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        for number in range(3):
            await kit.add(f"i{number}")
        refusal = await refused("overloaded", kit.add("more"))
        assert "3 items" in refusal.message

    on_board(tmp_path, check, max_items=3)


def test_the_summary_counts(tmp_path: Path) -> None:
    async def check(kit: BoardKit) -> None:
        await kit.add("a", type="code")
        await kit.add("b", "a", type="docs")
        await kit.take("a")
        summary = await kit.board.summary(ME)
        assert summary["total"] == 2
        assert {name: count for name, count in summary["by_status"].items() if count} == {"new": 1, "in_progress": 1}
        assert summary["by_type"] == {"code": {"in_progress": 1}, "docs": {"new": 1}}

    on_board(tmp_path, check)
