"""Runs of workflows where something is in the way: disks, clocks, kills, bugs, clients that race, and hostile texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.errors import Refused
from skill_actors.store import SqliteJournal
from skill_actors.store.documents import Change
from skill_actors.telemetry import Bus
from skill_actors.workshop.agents.asking import Sent
from skill_actors.workshop.events import Feed
from skill_actors.workshop.workflows.conditions import Condition
from skill_actors.workshop.workflows.definition import read_workflow
from skill_actors.workshop.workflows.run import Run
from skill_actors.workshop.workflows.runs import Changed, Runs, stamp_now
from support import run
from workflow_kit import OWNER, ScriptedAgents, broke, open_workflows, said, stage


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill_actors.workshop.workflows.runner._AGAIN_S", 0.01)


def perform(path: Path, agents: ScriptedAgents, definition: Mapping[str, Any]) -> Run:
    async def main() -> Run:
        async with open_workflows(path, agents) as kit:
            return await kit.perform(definition)

    return run(main)


def test_a_run_whose_time_was_over_while_the_daemon_was_away_ends_and_keeps_no_other_from_going_on(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        agents = ScriptedAgents(takes_s=60)
        async with open_workflows(tmp_path, agents) as kit:
            await kit.runs.define(OWNER, "short", {"timeout_s": 2, "stage": [stage("a")]})
            await kit.runs.define(OWNER, "long", {"stage": [stage("a")]})
            short = await kit.runs.begin(OWNER, "short", {})
            long = await kit.runs.begin(OWNER, "long", {})
            while len(agents.turns) < 2:  # noqa: ASYNC110  # the agents tell nobody
                await trio.sleep(0.005)
        await trio.sleep(2)
        agents.takes_s = 0.0
        async with open_workflows(tmp_path, agents) as kit:
            over = await kit.runs.wait_ended(OWNER, short.id, 10)
            assert (over.status, over.error) == ("failed", "timeout: it took longer than 2 s")
            assert (await kit.runs.wait_ended(OWNER, long.id, 10)).status == "completed"

    run(main)


def test_a_clock_that_was_set_back_gives_no_run_more_than_its_time(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents(takes_s=60)
        async with await SqliteJournal.open(tmp_path / "journal.db") as journal:
            ahead = (datetime.now(UTC) + timedelta(days=9)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            runs = Runs(journal.documents, Feed(journal.documents, Bus()), now=lambda: ahead)
            await runs.define(OWNER, "flow", {"timeout_s": 0.3, "stage": [stage("a")]})
            begun = await runs.begin(OWNER, "flow", {})
        async with open_workflows(tmp_path, agents) as kit:
            assert (await kit.runs.wait_ended(OWNER, begun.id, 10)).status == "failed"

    run(main)


def test_a_cancelled_run_takes_its_items_off_the_board(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_workflows(tmp_path) as kit:
            await kit.runs.define(OWNER, "flow", {"stage": [stage("a", type="code")]})
            begun = await kit.runs.begin(OWNER, "flow", {})
            while not (items := await kit.board.list(OWNER)):
                await kit.board.changed(OWNER).wait()
            done = await kit.runner.cancel(OWNER, begun.id)
            assert (done.status, done.stages["a"].item) == ("cancelled", items[0].id)
            assert [item.status for item in await kit.board.list(OWNER)] == ["cancelled"]

    run(main)


class SlowToStop(ScriptedAgents):
    async def cancel_turn(self, owner_uid: int, turn: str) -> None:
        await super().cancel_turn(owner_uid, turn)
        await trio.sleep_forever()


def test_a_cancelled_run_never_goes_on_though_the_daemon_dies_before_its_agents_have_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skill_actors.workshop.workflows.runner._END_WAIT_S", 0.05)

    async def main() -> None:
        agents: ScriptedAgents = SlowToStop(takes_s=60)
        async with open_workflows(tmp_path, agents) as kit:
            await kit.runs.define(OWNER, "flow", {"stage": [stage("a", retries=5), stage("b", after=["a"])]})
            begun = await kit.runs.begin(OWNER, "flow", {})
            while not agents.turns:
                await kit.runs.wait_changed(begun.key)
            asked = await kit.runner.cancel(OWNER, begun.id)
            assert (asked.status, asked.closing) == ("running", "cancelled")
        after = ScriptedAgents(turns=agents.turns, by_key=agents.by_key)
        async with open_workflows(tmp_path, after) as kit:
            done = await kit.runs.wait_ended(OWNER, begun.id, 10)
            assert (done.status, done.closing) == ("cancelled", None)
            assert after.cancelled == ["trn_0"]
            assert len(after.turns) == 1, "nobody was told anything more"

    run(main)


class Grumpy(ScriptedAgents):
    """Refuses to say what became of a turn, so many times."""

    refusals: int = 3
    code: str = "draining"

    async def await_turn(self, owner_uid: int, turn: str, wait_s: float) -> Mapping[str, Any]:
        if self.refusals:
            self.refusals -= 1
            await trio.lowlevel.checkpoint()
            raise Refused(self.code, "not now")
        return await super().await_turn(owner_uid, turn, wait_s)


@pytest.mark.parametrize("code", ["draining", "storage_full", "internal"])
def test_a_daemon_that_cannot_answer_just_now_is_no_failure_of_the_stage(tmp_path: Path, code: str) -> None:
    agents = Grumpy()
    agents.code = code
    assert perform(tmp_path, agents, {"stage": [stage("a")]}).status == "completed"
    assert len(agents.turns) == 1


def test_a_fault_of_the_daemon_that_stays_ends_the_stage_and_not_the_daemon(tmp_path: Path) -> None:
    agents = Grumpy()
    agents.code, agents.refusals = "internal", 1_000
    done = perform(tmp_path, agents, {"stage": [stage("a")]})
    assert done.error == "stage a: internal: not now"


def test_a_queue_that_stays_full_costs_a_stage_no_more_than_its_time(tmp_path: Path) -> None:
    agents = ScriptedAgents(refusal=Refused("overloaded", "the queue is full"))
    done = perform(tmp_path, agents, {"stage": [stage("a", timeout_s=0.2)]})
    assert done.error == "stage a: overloaded: agent 'worker' took no message within 0.2 s"


class Stuck(ScriptedAgents):
    """Its queue never moves."""

    async def await_turn(self, owner_uid: int, turn: str, wait_s: float) -> Mapping[str, Any]:
        if turn in self.cancelled:
            return broke("cancelled", "cancelled")
        await trio.sleep(wait_s)
        return {"status": "queued"}


def test_a_message_that_waits_longer_than_it_may_take_is_taken_back(tmp_path: Path) -> None:
    agents = Stuck()
    done = perform(tmp_path, agents, {"stage": [stage("a", timeout_s=0.2)]})
    assert (done.status, agents.cancelled) == ("failed", ["trn_0"])


class Broken(ScriptedAgents):
    """Has a bug, for one agent."""

    async def cast(self, owner_uid: int, name: str, text: str, **more: Any) -> Sent:
        if name == "broken":
            raise RuntimeError("a bug")
        return await super().cast(owner_uid, name, text, **more)


def test_a_run_that_cannot_be_performed_keeps_no_other_from_its_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_workflows(tmp_path, Broken(takes_s=0.05)) as kit:
            await kit.runs.define(OWNER, "good", {"stage": [stage("a"), stage("b", after=["a"])]})
            good = await kit.runs.begin(OWNER, "good", {})
            bad = await kit.perform({"stage": [stage("a", agent="broken"), stage("b")]})
            assert (bad.status, str(bad.error)[:9]) == ("failed", "internal:")
            assert (await kit.runs.wait_ended(OWNER, good.id, 10)).status == "completed"

    run(main)


def test_a_full_disk_is_waited_for_and_holds_up_nobody_who_stops_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        agents = ScriptedAgents(takes_s=0.05)
        async with open_workflows(tmp_path, agents) as kit:
            await kit.runs.define(OWNER, "flow", {"stage": [stage("a"), stage("b", after=["a"])]})
            begun = await kit.runs.begin(OWNER, "flow", {})
            refused = 0

            async def full(*_: object) -> None:
                nonlocal refused
                refused += 1
                await trio.lowlevel.checkpoint()
                raise Refused("storage_full", "the disk is full")

            while not agents.turns:
                await kit.runs.wait_changed(begun.key)
            monkeypatch.setattr(kit.runs, "change", full)
            while refused <= 3:  # noqa: ASYNC110  # the store tells nobody
                await trio.sleep(0.01)
            assert kit.runs.now(begun.key) is not None
            with pytest.raises(Refused, match="disk is full"):
                await kit.runner.cancel(OWNER, begun.id)
            began = trio.current_time()
        assert trio.current_time() - began < 5
        async with open_workflows(tmp_path, agents) as kit:
            assert (await kit.runs.wait_ended(OWNER, begun.id, 10)).status == "completed"
            assert len(agents.turns) == 2, "nobody was asked twice"

    run(main)


class Forgetful(ScriptedAgents):
    full: bool = True

    async def forget(self, owner_uid: int, name: str) -> None:
        if self.full:
            await trio.lowlevel.checkpoint()
            raise Refused("storage_full", "the disk is full")
        await super().forget(owner_uid, name)


def test_no_agent_that_was_made_for_a_stage_outlives_it_wherever_the_daemon_died(tmp_path: Path) -> None:
    async def main() -> None:
        agents = Forgetful()
        async with open_workflows(tmp_path, agents) as kit:
            await kit.runs.define(OWNER, "flow", {"stage": [stage("a", profile="coder")]})
            begun = await kit.runs.begin(OWNER, "flow", {})
            while not agents.made:  # noqa: ASYNC110  # the agents tell nobody
                await trio.sleep(0.005)
            with trio.move_on_after(0.3):
                await kit.runs.wait_ended(OWNER, begun.id, 10)
            assert len(agents.made) == 1
        agents.full = False
        async with open_workflows(tmp_path, agents) as kit:
            assert (await kit.runs.wait_ended(OWNER, begun.id, 10)).status == "completed"
            assert (agents.made, len(agents.turns)) == ({}, 1)

    run(main)


def test_two_clients_with_one_key_begin_one_run_whatever_becomes_of_the_workflow(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_workflows(tmp_path) as kit:
            await kit.runs.define(OWNER, "flow", {"parameters": {"x": {"default": "1"}}, "stage": [stage("a")]})
            found: list[str] = []

            async def begin() -> None:
                found.append((await kit.runs.begin(OWNER, "flow", {}, key="k")).id)

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(begin)
            assert len(set(found)) == 1
            await kit.runs.define(OWNER, "flow", {"parameters": {"x": {"default": "2"}}, "stage": [stage("b")]})
            await begin()
            await kit.runs.remove(OWNER, "flow")
            await begin()
            assert len(set(found)) == 1
            with pytest.raises(Refused, match="another run"):
                await kit.runs.begin(OWNER, "other", {}, key="k")
            with pytest.raises(Refused, match="another run"):
                await kit.runs.begin(OWNER, "flow", {"y": "1"}, key="k")

    run(main)


def test_a_run_that_has_ended_is_forgotten_after_its_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_workflows(tmp_path) as kit:
            done = await kit.perform({"stage": [stage("a")]})
            now, days = [stamp_now()], [0.0]
            runs = Runs(
                kit.journal.documents, Feed(kit.journal.documents, Bus()), now=lambda: now[0], keep_days=lambda: days[0]
            )
            assert (await kit.journal.documents.heads("ended_run"))[0].expires is None, "0 is for ever"
            days[0] = 30.0
            second = await runs.begin(OWNER, "flow", {}, key="k")
            await runs.change(second.key, lambda run: _ended(run))
            assert (await runs.sweep(), len(await runs.runs(OWNER))) == (0, 2)
            now[0] = (datetime.now(UTC) + timedelta(days=31)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            assert [each["id"] for each in await runs.runs(OWNER)] == [done.id], "gone at once for whoever asks"
            with pytest.raises(Refused, match="no run"):
                await runs.get(OWNER, second.id)
            assert (await runs.begin(OWNER, "flow", {}, key="k")).id == second.id
            assert (await runs.sweep(), await runs.sweep()) == (1, 0)

    run(main)


def _ended(run: Run) -> Changed:
    return Changed(replace(run, status="completed", ended=stamp_now()), "completed", {})


def test_runs_are_listed_without_what_was_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_workflows(tmp_path, ScriptedAgents(answer=lambda *_: said("secret " * 100, 0.5))) as kit:
            await kit.runs.define(OWNER, "flow", {"parameters": {"x": {}}, "stage": [stage("a")]})
            going = await kit.runs.begin(OWNER, "flow", {"x": "y" * 5_000})
            await kit.runs.wait_ended(OWNER, going.id, 10)
            (item,) = await kit.runs.runs(OWNER)
            assert "secret" not in str(item)
            assert (item["status"], item["cost_usd"], len(item["arguments"]["x"])) == ("completed", 0.5, 200)

    run(main)


def test_a_run_that_this_program_cannot_read_stays_and_stops_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents(takes_s=60)
        async with open_workflows(tmp_path, agents) as kit:
            await kit.runs.define(OWNER, "flow", {"stage": [stage("a")]})
            begun = await kit.runs.begin(OWNER, "flow", {})
            strange = {"definition": {"stage": [], "of": "a later program"}, "stages": {}}
            change = Change(kind="run", id=f"{OWNER}/run_x", owner_uid=OWNER, data=strange, expected=0)
            await kit.journal.documents.apply([change])
        agents.takes_s = 0.0
        async with open_workflows(tmp_path, agents) as kit:
            assert (await kit.runs.wait_ended(OWNER, begun.id, 10)).status == "completed"

    run(main)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"text": "half", "stop_reason": "max_tokens"}, "not_whole: the turn ended with max_tokens"),
        ({"text": "I may not", "stop_reason": "refusal"}, "not_whole: the turn ended with refusal"),
        ({"text": "  ", "stop_reason": "end_turn"}, "no_answer"),
        ({"text": "x", "error": {"code": "tool_failed", "message": "no"}}, "tool_failed: no"),
    ],
)
def test_a_turn_that_came_to_no_good_end_has_not_done_the_stage(
    tmp_path: Path, result: dict[str, Any], expected: str
) -> None:
    agents = ScriptedAgents(answer=lambda *_: {"status": "finished", "result": {"cost_usd": 0.0, **result}})
    done = perform(tmp_path, agents, {"stage": [stage("a")]})
    assert done.status == "failed"
    assert expected in str(done.error)


def test_what_one_agent_says_is_no_command_of_a_skill_for_the_next(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda *_: said("/report everything"))
    definition = {"stage": [stage("a", prompt="/echo hi"), stage("b", prompt="{a}", after=["a"])]}
    perform(tmp_path, agents, definition)
    assert agents.told("worker") == ["/echo hi", "\n/report everything"]


def test_places_that_make_a_prompt_of_many_gigabytes_fail_the_stage_and_take_no_memory(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda *_: said("x" * 40_000))
    definition = {"stage": [stage("a"), stage("b", prompt="{a}" * 60_000, after=["a"])]}
    done = perform(tmp_path, agents, definition)
    assert "too_large: template" in str(done.error)


def test_a_hundred_stages_in_a_row_take_no_time_of_their_own(tmp_path: Path) -> None:
    chain = [stage(f"s{n}", **({"after": [f"s{n - 1}"]} if n else {})) for n in range(100)]
    done = perform(tmp_path, ScriptedAgents(answer=lambda *_: said("ok " * 1_000)), {"stage": chain})
    assert done.status == "completed"


def test_a_stage_that_did_not_come_to_an_end_is_like_nothing() -> None:
    for given in ({"lacks": "FAIL"}, {"contains": "x"}, {"field": "/a", "equals": 1}):
        for outcome in ("skipped", "failed", "cancelled"):
            assert not Condition.model_validate(given).holds(outcome, 'x {"a": 1}')
    assert Condition.model_validate({"is": "failed", "lacks": "x"}).holds("failed", "")


@pytest.mark.parametrize(
    ("found", "wanted", "same"), [("1", True, False), ("true", 1, False), ("1.0", 1, True), ("[true]", [1], False)]
)
def test_true_is_not_one(found: str, wanted: object, same: bool) -> None:
    assert Condition.model_validate({"field": "", "equals": wanted}).holds("done", found) is same


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (date(2026, 1, 1), "a date is no JSON"),
        (math.inf, "inf is no number"),
        ("\ud800", "half a surrogate pair"),
        ({"\udfff": 1}, "half a surrogate pair"),
        (deep(50_000), "nested more than"),
        ({1: 2}, "1 is no name"),
    ],
)
def test_what_cannot_be_stored_is_refused_where_it_stands(value: object, expected: str) -> None:
    until = {"field": "", "equals": value}
    with pytest.raises(Refused, match=expected) as refused:
        read_workflow({"stage": [stage("a", until=until)]})
    assert refused.value.code == "bad_request"
    assert "stage 'a'.until" in refused.value.message


def test_half_a_surrogate_pair_is_no_argument() -> None:
    with pytest.raises(Refused, match=r"parameters\.x: half"):
        read_workflow({"parameters": {"x": {}}, "stage": [stage("a")]}).arguments({"x": "\ud800"})


def test_nobody_judges_their_own_work() -> None:
    until = {"contains": "ok", "judge": "worker", "prompt": "{result}"}
    with pytest.raises(Refused, match="nobody judges their own work"):
        read_workflow({"stage": [stage("a", until=until)]})


def test_what_an_agent_says_in_broken_unicode_is_kept_all_the_same(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda agent, message: said("\ud800 fine"))
    assert perform(tmp_path, agents, {"stage": [stage("a")]}).stages["a"].result == "? fine"


def test_a_stage_of_the_board_takes_no_share_of_the_money(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda agent, message: said("x", 1.0))
    perform(tmp_path, agents, {"usd": 4, "stage": [stage("a"), stage("b", type="code", timeout_s=2)]})
    assert [message.options for _, message in agents.turns.values()] == [{"budget": {"usd": 4.0}}]
