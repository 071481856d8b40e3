"""The desk: asked durably, answered once, found again, and never in doubt in favour of the call."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from approval_kit import NOW, Clock, Desk, open_desk
from approval_questions import ALLOW, ANN, Asked, refused, under_way
from held_journal_kit import Gate, HookedJournal
from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.sessions.approvals import ApprovalRequest, Approver, DeskLimits
from skill_actors.sessions.approvals.outcomes import time_of
from skill_actors.sessions.log import Draft
from skill_actors.store import ApprovalRecord
from support import run


async def left(folder: Path, clock: Clock | None = None, *, timeout_s: float = 3600.0) -> tuple[str, str]:
    """Turn and id of a question that the daemon stopped under: nobody has answered it."""
    async with open_desk(folder, clock=clock) as desk, trio.open_nursery() as nursery:
        asked, id = await under_way(desk, nursery, timeout_s=timeout_s)
        nursery.cancel_scope.cancel()
    assert asked.answer is None
    return asked.request.turn, id


def test_a_question_is_durable_before_anybody_waits_and_the_answer_before_anything_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:
            asked, id = await under_way(desk, nursery)
            stored = await desk.journal.get_approval(id)
            assert stored is not None
            assert (stored.status, stored.turn, stored.call) == ("pending", asked.request.turn, "toolu_1")
            view = await desk.desk.get(id, 1000)
            assert (view["command"], view["shown"]) == ("rm -r build", "bash_tool: rm -r build")
            assert view["digest"] == asked.request.digest
            decided = await desk.desk.decide(id, ANN, ALLOW)
            assert (decided["status"], decided["decision"]["by_uid"]) == ("allowed", 1001)
        assert (asked.said.allowed, asked.said.digest) == (True, asked.request.digest)
        names = [name for name, _ in desk.told if name.startswith("approval.")]
        assert names == ["approval.requested", "approval.resolved"]

    run(main)


def test_events_say_what_was_asked_and_what_became_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:
            asked, id = await under_way(desk, nursery)
            pending = await desk.desk.get(id, None)
            await desk.desk.decide(id, ANN, {"decision": "deny", "reason": "no \x1b[2J way"})
            await asked.done.wait()
            requested, resolved = await desk.events()
            assert requested.data == pending
            assert resolved.data == {
                "id": id, "call": "toolu_1", "status": "denied", "by_uid": 1001, "scope": "once",
                "reason": "no \x1b[2J way", "edited": False,
            }  # fmt: skip
            assert not asked.said.allowed
            assert "ann (uid 1001)" in asked.said.reason
            assert asked.said.reason.endswith("Reason: no \\x1b[2J way")  # inert, and on one line

    run(main)


def test_of_fifty_who_decide_at_once_exactly_one_is_first_and_the_others_hear_who(tmp_path: Path) -> None:
    async def main() -> None:
        won: list[int] = []
        lost: list[str] = []
        async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:
            asked, id = await under_way(desk, nursery)

            async def decide(uid: int) -> None:
                try:
                    await desk.desk.decide(id, Approver(uid), ALLOW if uid % 2 else {"decision": "deny"})
                    won.append(uid)
                except Refused as refusal:
                    lost.append(f"{refusal.code}: {refusal.message}")

            async with trio.open_nursery() as racers:
                for uid in range(50):
                    racers.start_soon(decide, uid)
            stored = await desk.journal.get_approval(id)
        assert len(won) == 1
        assert len(lost) == 49
        what = "allowed" if won[0] % 2 else "denied"
        assert all(re.match(f"conflict: .*was {what} by uid {won[0]} at ", message) for message in lost)
        assert stored is not None
        assert stored.status == what
        assert asked.said.allowed == bool(won[0] % 2)
        assert sum(event == "approval.resolved" for event, _ in desk.told) == 1

    run(main)


def test_an_answer_and_the_end_of_the_turn_race_and_one_of_them_holds(tmp_path: Path) -> None:
    async def main() -> None:
        outcomes = set()
        async with open_desk(tmp_path) as desk:
            for round in range(20):
                turn = await desk.begin()
                asked = Asked(desk, desk.request(turn, f"toolu_{round}"))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(asked.run)
                    (id,) = await desk.waiting()

                    async def decide(id: str = id) -> None:
                        with suppress(Refused):
                            await desk.desk.decide(id, ANN, ALLOW)

                    async def end(turn: str = turn) -> None:
                        await desk.log.append([Draft("turn.cancelled", turn, {})])

                    async with trio.open_nursery() as racers:
                        for each in [decide, end] if round % 2 else [end, decide]:
                            racers.start_soon(each)
                stored = await desk.journal.get_approval(id)
                assert stored is not None
                assert asked.said.allowed == (stored.status == "allowed")
                outcomes.add(stored.status)
                assert await desk.pending() == []
        assert outcomes == {"allowed", "cancelled"}

    run(main)


def test_an_ending_resolves_what_the_turn_waited_for_in_its_own_commit_and_before_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:
            turn, other = await desk.begin(), await desk.begin()
            asked, stays = Asked(desk, desk.request(turn)), Asked(desk, desk.request(other, "toolu_2"))
            nursery.start_soon(asked.run)
            nursery.start_soon(stays.run)
            await desk.waiting(2)
            returned = await desk.log.append([Draft("turn.failed", turn, {"error": {}})])
            assert [event.type for event in returned] == ["turn.failed"]
            resolved = (await desk.events())[-1]
            assert (resolved.type, resolved.data["status"]) == ("approval.resolved", "cancelled")
            assert resolved.seq == returned[0].seq - 1
            assert [item["turn"] for item in await desk.pending()] == [other]
            stays.scope.cancel()
        assert not asked.said.allowed
        assert stays.answer is None

    run(main)


def test_a_question_that_is_cancelled_is_asked_on_after_a_restart_with_the_time_it_has_left(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Clock()
        turn, id = await left(tmp_path, clock, timeout_s=100.0)
        clock.pass_s(60)
        async with open_desk(tmp_path, clock=clock) as desk, trio.open_nursery() as nursery:
            assert [item["id"] for item in await desk.pending()] == [id]
            again = Asked(desk, desk.request(turn), timeout_s=100.0)
            nursery.start_soon(again.run)
            await trio.testing.wait_all_tasks_blocked()
            assert len(await desk.pending()) == 1  # the same one
            assert (await desk.desk.get(id, None))["expires"] == "2026-01-01T00:01:40.000Z"
            nursery.cancel_scope.cancel()
        clock.pass_s(41)
        async with open_desk(tmp_path, clock=clock) as desk:
            last = Asked(desk, desk.request(turn), timeout_s=100.0)
            await last.run()
            assert not last.said.allowed
            assert "nobody gave one in time" in last.said.reason
            assert await desk.pending() == []

    run(main)


def test_it_may_be_decided_between_a_restart_and_the_turn_and_the_answer_waits_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        turn, id = await left(tmp_path)
        async with open_desk(tmp_path) as desk:
            await desk.desk.recover()  # its turn runs still, so it stays
            with refused("overloaded", "cannot be checked"):
                await desk.desk.decide(id, ANN, {"decision": "edit", "input": {"command": "ls"}})
            await desk.desk.decide(id, ANN, ALLOW)
        async with open_desk(tmp_path) as desk:
            taken = Asked(desk, desk.request(turn))
            await taken.run()
            assert (taken.said.allowed, taken.said.digest) == (True, taken.request.digest)

    run(main)


@asynccontextmanager
async def stored_and_not_yet_waited_for(folder: Path) -> AsyncIterator[tuple[Desk, Asked, str, Gate]]:
    """A question that may be edited, its id, and the gate behind which whoever asked learns that it is stored."""
    gate = Gate()
    async with (
        open_desk(folder, wrap=HookedJournal("approval.requested", after=gate)) as desk,
        trio.open_nursery() as nursery,
    ):
        turn = await desk.begin()

        async def edit(given: Mapping[str, Any]) -> ApprovalRequest:
            return desk.request(turn, input=given)

        asked = Asked(desk, desk.request(turn), edit=edit)
        nursery.start_soon(asked.run)
        await gate.reached.wait()
        (view,) = await desk.pending()  # from the store
        yield desk, asked, view["id"], gate


def test_an_edit_of_one_that_is_stored_and_not_yet_waited_for_may_be_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored_and_not_yet_waited_for(tmp_path) as (desk, _, id, gate):
            said = {"decision": "edit", "input": {"command": "ls"}}
            with refused("overloaded", "try again"):
                await desk.desk.decide(id, ANN, said)
            gate.opened.set()
            await desk.waiting()
            assert (await desk.desk.decide(id, ANN, said))["status"] == "allowed"

    run(main)


def test_one_that_is_stored_and_not_yet_waited_for_may_be_allowed(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored_and_not_yet_waited_for(tmp_path) as (desk, asked, id, gate), trio.open_nursery() as nursery:
            nursery.start_soon(desk.desk.decide, id, ANN, ALLOW)
            await trio.sleep(0.05)
            assert asked.answer is None
            gate.opened.set()
            await asked.done.wait()
            assert asked.said.allowed

    run(main)


def test_what_is_something_else_after_a_restart_is_asked_anew_and_the_old_question_is_withdrawn(tmp_path: Path) -> None:
    async def main() -> None:
        turn, old = await left(tmp_path)
        async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:
            other = desk.request(turn, input={"command": "rm -r /", "description": "d"})
            nursery.start_soon(Asked(desk, other).run)

            async def asked_anew() -> bool:
                return [item["id"] for item in await desk.pending()] not in ([], [old])

            await desk.news.until(asked_anew)
            (new,) = await desk.waiting()
            assert new != old
            with refused("conflict", "was cancelled"):
                await desk.desk.decide(old, ANN, ALLOW)
            nursery.cancel_scope.cancel()

    run(main)


def test_an_answer_is_used_once_a_call_of_the_same_id_is_asked_for_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:
            first, id = await under_way(desk, nursery)
            turn = first.request.turn
            await desk.desk.decide(id, ANN, ALLOW)
            await first.done.wait()
            await desk.log.append([Draft("tool.started", turn, {})], approvals=desk.desk.used(first.said))
            assert (await desk.desk.get(id, None))["decision"]["used"]
            second = Asked(desk, desk.request(turn))
            nursery.start_soon(second.run)
            (other,) = await desk.waiting()
            assert other != id
            nursery.cancel_scope.cancel()

    run(main)


def test_approvals_of_others_do_not_exist_and_forged_ids_find_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:
            _, id = await under_way(desk, nursery)
            assert (await desk.desk.list(1000))["items"]
            assert (await desk.desk.list(1001))["items"] == []
            with refused("not_found"):
                await desk.desk.get(id, 1001)
            for forged in ("apr_" + "a" * 26, id.upper(), f"{id}'", "apr_%", "", "../" + id, desk.session):
                with refused("not_found"):
                    await desk.desk.decide(forged, ANN, ALLOW)
            with refused("bad_request", "cursor"):
                await desk.desk.list(None, cursor="nonsense")
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize("changed", ["session", "turn", "call"])
def test_an_answer_is_none_for_the_same_call_of_another_session_turn_or_message(changed: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            turn = await desk.begin()
            request = desk.request(turn)
            other = desk.request(**{"turn": turn, "call": "toolu_1", changed: "x"})
            assert request.digest != other.digest
            assert request.changes(other) == []  # what would run is the same, and still it is not allowed

    run(main)


@pytest.mark.parametrize(
    ("settings", "can", "limits", "says"),
    [
        ({"policy": {"on_ask": "deny"}}, True, DeskLimits(), "unattended"),
        ({}, False, DeskLimits(), "nobody here has the role"),
        ({}, True, DeskLimits(session=0), "0 calls of this conversation"),
        ({}, True, DeskLimits(total=0), "(0 in all)"),
    ],
)
def test_where_nobody_is_asked_the_answer_is_no_at_once_and_says_why(
    settings: dict[str, Any], can: bool, limits: DeskLimits, says: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, can_approve=lambda: can, limits=limits, **settings) as desk:
            asked = Asked(desk, desk.request(await desk.begin()))
            await asked.run()
            assert not asked.said.allowed
            assert says in asked.said.reason
            assert await desk.events() == []

    run(main)


def test_what_is_too_large_to_be_shown_is_not_asked_about(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            large = desk.request(await desk.begin(), input={"command": "x" * (2 << 20), "description": "d"})
            asked = Asked(desk, large)
            await asked.run()
            assert not asked.said.allowed
            assert "too large to be shown" in asked.said.reason
            assert await desk.events() == []

    run(main)


def test_no_more_wait_than_the_bounds_say(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, limits=DeskLimits(session=3)) as desk, trio.open_nursery() as nursery:
            turn = await desk.begin()
            for number in range(3):
                nursery.start_soon(Asked(desk, desk.request(turn, f"toolu_{number}")).run)
            ids = await desk.waiting(3)
            late = Asked(desk, desk.request(turn, "toolu_late"))
            await late.run()
            assert "3 calls of this conversation" in late.said.reason
            await desk.desk.decide(ids[0], ANN, ALLOW)
            nursery.start_soon(Asked(desk, desk.request(turn, "toolu_again")).run)
            assert len(await desk.waiting(3)) == 3
            nursery.cancel_scope.cancel()

    run(main)


def test_time_is_over_when_the_clock_says_so_and_a_late_answer_is_a_conflict(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            asked = Asked(desk, desk.request(await desk.begin()), timeout_s=0.05)
            await asked.run()
            assert not asked.said.allowed
            (id,) = [meta["id"] for name, meta in desk.told if name == "approval.requested"]
            with refused("conflict", "denied, as its time was over"):
                await desk.desk.decide(id, ANN, ALLOW)

    run(main)


def test_an_answer_after_the_time_is_none_also_where_nobody_waits(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Clock()
        _, id = await left(tmp_path, clock, timeout_s=10.0)
        clock.pass_s(11)
        async with open_desk(tmp_path, clock=clock) as desk:
            with refused("conflict", "denied, as its time was over"):
                await desk.desk.decide(id, ANN, ALLOW)
            assert (await desk.desk.get(id, None))["status"] == "expired"

    run(main)


def test_what_a_crash_left_without_a_turn_is_withdrawn_at_the_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:
            nursery.start_soon(Asked(desk, desk.request("trn_" + "z" * 26)).run)  # no such turn is stored
            (id,) = await desk.waiting()
            nursery.cancel_scope.cancel()
        async with open_desk(tmp_path) as desk:
            await desk.desk.recover()
            assert await desk.pending() == []
            assert (await desk.desk.get(id, None))["status"] == "cancelled"

    run(main)


def test_everything_that_is_pending_is_found_after_a_restart_also_what_is_on_no_first_page(tmp_path: Path) -> None:
    many = 501

    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            turn = await desk.begin()
            requests = [desk.request(turn, f"toolu_{number}") for number in range(many)]
            records = [
                ApprovalRecord(
                    id=new_id("apr"),
                    session=desk.session,
                    turn=turn,
                    call=request.call,
                    owner_uid=1000,
                    status="pending",
                    created=time_of(desk.clock() + timedelta(seconds=number)),
                    expires=time_of(desk.clock() + timedelta(days=1)),
                    updated=NOW,
                    request={**request.to_dict(), "seq": number},
                )
                for number, request in enumerate(requests)
            ]
            await desk.log.append([], approvals=records)
        limits = DeskLimits(session=many, total=many)
        async with open_desk(tmp_path, limits=limits) as desk, trio.open_nursery() as nursery:
            late = Asked(desk, desk.request(turn, "toolu_late"))
            await late.run()
            assert f"({many} in all)" in late.said.reason
            oldest = Asked(desk, requests[0])
            nursery.start_soon(oldest.run)
            await desk.desk.decide(records[0].id, ANN, ALLOW)
            await oldest.done.wait()
            assert oldest.said.allowed

    run(main)


def test_a_deleted_session_lets_nobody_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:
            asked, id = await under_way(desk, nursery)
            await desk.journal.delete_session(desk.session)
            desk.log.mark_deleted()
            desk.desk.forget(desk.session)
            await asked.done.wait()
            assert not asked.said.allowed
            with refused("not_found"):
                await desk.desk.get(id, None)
            assert await desk.pending() == []

    run(main)


def test_a_call_is_rested_only_while_it_waits(tmp_path: Path) -> None:
    rested: list[str] = []

    @asynccontextmanager
    async def resting() -> Any:
        rested.append("in")
        yield
        rested.append("out")

    async def main() -> None:
        async with open_desk(tmp_path) as desk, trio.open_nursery() as nursery:
            asked, id = await under_way(desk, nursery, resting=resting)
            turn = asked.request.turn
            await trio.testing.wait_all_tasks_blocked()
            assert rested == ["in"]
            await desk.desk.decide(id, ANN, {"decision": "allow", "scope": "session"})
            await asked.done.wait()
            assert rested == ["in", "out"]
            at_once = Asked(desk, desk.request(turn, "toolu_2"), resting=resting)
            await at_once.run()
            assert at_once.said.standing
            assert rested == ["in", "out"]

    run(main)


# -- edits ---------------------------------------------------------------------------------------------------------


def test_an_edit_is_bound_to_what_it_would_be_and_a_refused_one_decides_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            turn = await desk.begin()

            async def edit(given: Mapping[str, Any]) -> ApprovalRequest:
                if "rm" in str(given):
                    raise Refused("forbidden", "the policy denies rm")
                return desk.request(turn, input=given)

            asked = Asked(desk, desk.request(turn), edit=edit)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(asked.run)
                (id,) = await desk.waiting()
                with refused("forbidden", "the policy denies rm"):
                    await desk.desk.decide(id, ANN, {"decision": "edit", "input": {"command": "rm -rf /"}})
                assert len(await desk.pending()) == 1
                view = await desk.desk.decide(id, ANN, {"decision": "edit", "input": {"command": "ls"}})
            assert asked.said.input == {"command": "ls"}
            assert asked.said.digest == desk.request(turn, input={"command": "ls"}).digest
            assert view["decision"]["request"]["command"] == "ls"
            assert view["command"] == "rm -r build"
        async with open_desk(tmp_path) as desk:  # the daemon died before it ran
            again = Asked(desk, desk.request(turn))
            await again.run()
            assert again.said.input == {"command": "ls"}
            assert again.said.edited == desk.request(turn, input={"command": "ls"})

    run(main)
