"""Runs of workflows: order, conditions, loops, retries, limits, restarts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.errors import Refused
from skill_actors.workshop.agents.asking import Message
from skill_actors.workshop.board.outcome import Outcome
from skill_actors.workshop.workflows.run import Run
from support import run
from workflow_kit import OWNER, ScriptedAgents, broke, open_workflows, said, stage


def statuses(done: Run) -> dict[str, str]:
    return {name: state.status for name, state in done.stages.items()}


def perform(path: Path, agents: ScriptedAgents, definition: Mapping[str, Any], **arguments: str) -> Run:
    async def main() -> Run:
        async with open_workflows(path, agents) as kit:
            return await kit.perform(definition, **arguments)

    return run(main)


def test_stages_run_in_their_order_and_results_go_on(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda agent, message: said(f"<{message.text}>"))
    definition = {
        "parameters": {"what": {}},
        "stage": [
            stage("join", prompt="join", after=["left", "right"]),
            stage("left", prompt="left of {what}"),
            stage("right", prompt="right, {{as it is}}"),
            stage("last", prompt="{join} in {workflow}", agent="other", after=["join"]),
        ],
    }
    done = perform(tmp_path, agents, definition, what="{all}")
    assert done.status == "completed"
    join = "join\n\nResult of the stage left:\n\n<left of {all}>\n\nResult of the stage right:\n\n<right, {as it is}>"
    assert agents.told("worker")[-1] == join
    assert agents.told("other") == [f"<{join}> in flow"]
    assert done.stages["last"].result == f"<<{join}> in flow>"


class Together(ScriptedAgents):
    """No turn ends before twenty have begun."""

    async def await_turn(self, owner_uid: int, turn: str, wait_s: float) -> Mapping[str, Any]:
        while len(self.turns) < 20:  # noqa: ASYNC110
            await trio.sleep(0.01)
        return await super().await_turn(owner_uid, turn, wait_s)


def test_independent_stages_run_at_the_same_time(tmp_path: Path) -> None:
    done = perform(tmp_path, Together(), {"stage": [stage(f"s{n}") for n in range(20)]})
    assert done.status == "completed"


def test_a_stage_whose_condition_does_not_hold_is_skipped_and_so_is_what_needs_it(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda agent, message: said("red"))
    definition = {
        "stage": [
            stage("look"),
            stage("mend", when={"stage": "look", "contains": "red"}),
            stage("praise", when={"stage": "look", "contains": "green"}),
            stage("tell", after=["praise"]),
            stage("note", when={"stage": "praise", "is": "skipped"}),
        ]
    }
    done = perform(tmp_path, agents, definition)
    assert statuses(done) == {
        "look": "done",
        "mend": "done",
        "praise": "skipped",
        "tell": "skipped",
        "note": "done",
    }
    assert done.status == "completed"


def test_a_failed_stage_fails_the_run_and_blocks_all_that_need_it(tmp_path: Path) -> None:
    def answer(agent: str, message: Message) -> Mapping[str, Any]:
        return broke() if message.text == "do bad" else said("ok")

    definition = {
        "stage": [stage("bad"), stage("child", after=["bad"]), stage("grandchild", after=["child"]), stage("free")]
    }
    done = perform(tmp_path, ScriptedAgents(answer=answer), definition)
    assert (done.status, done.error) == ("failed", "stage bad: model_down: no")
    assert statuses(done) == {"bad": "failed", "child": "skipped", "grandchild": "skipped", "free": "done"}
    assert done.stages["child"].error == "stage bad was not done"


def test_a_run_goes_on_without_a_stage_that_it_can_do_without(tmp_path: Path) -> None:
    def answer(agent: str, message: Message) -> Mapping[str, Any]:
        return broke() if message.text == "do bad" else said("ok")

    definition = {
        "stage": [
            stage("bad", go_on=True),
            stage("child", after=["bad"]),
            stage("sorry", when={"stage": "bad", "is": "failed"}),
        ]
    }
    done = perform(tmp_path, ScriptedAgents(answer=answer), definition)
    assert done.status == "completed"
    assert statuses(done) == {"bad": "failed", "child": "done", "sorry": "done"}


def test_a_failed_attempt_is_followed_by_others_each_with_a_key_of_its_own(tmp_path: Path) -> None:
    left = [broke(), broke("turn_timeout"), said("third time")]
    agents = ScriptedAgents(answer=lambda agent, message: left.pop(0))
    done = perform(tmp_path, agents, {"stage": [stage("a", retries=2)]})
    assert (done.status, done.stages["a"].attempt, done.stages["a"].result) == ("completed", 3, "third time")
    assert len({message.key for _, message in agents.turns.values()}) == 3
    left[:] = [broke(), broke()]
    failed = perform(tmp_path, agents, {"stage": [stage("a", retries=1)]})
    assert (failed.status, failed.stages["a"].attempt) == ("failed", 2)


def test_a_stage_is_performed_again_until_its_result_is_what_is_wanted(tmp_path: Path) -> None:
    left = ["draft", "better", "PASS"]
    agents = ScriptedAgents(answer=lambda agent, message: said(left.pop(0)))
    done = perform(tmp_path, agents, {"stage": [stage("a", until={"contains": "PASS", "rounds": 5})]})
    assert (done.status, done.stages["a"].round, done.stages["a"].result) == ("completed", 3, "PASS")
    assert agents.told("worker")[0] == "do a"
    assert agents.told("worker")[1].endswith("it is not as the workflow asks")
    left[:] = ["no"] * 2
    failed = perform(tmp_path, agents, {"stage": [stage("a", until={"contains": "PASS", "rounds": 2})]})
    assert failed.status == "failed"
    assert "after 2 rounds" in (failed.stages["a"].error or "")


def test_a_judge_looks_at_each_result_and_its_words_go_back(tmp_path: Path) -> None:
    verdicts = ["too short", "APPROVED"]
    works = ["one", "two"]

    def answer(agent: str, message: Message) -> Mapping[str, Any]:
        return said(verdicts.pop(0) if agent == "judge" else works.pop(0), 0.25)

    agents = ScriptedAgents(answer=answer)
    until = {"contains": "APPROVED", "judge": "judge", "prompt": "Good? {result}"}
    done = perform(tmp_path, agents, {"stage": [stage("a", until=until)]})
    assert (done.status, done.stages["a"].result, done.cost_usd) == ("completed", "two", 1.0)
    assert agents.told("judge") == ["Good? one", "Good? two"]
    assert agents.told("worker")[1].endswith("not yet what is wanted: too short")


def test_a_judge_that_fails_is_no_approval(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda agent, message: broke() if agent == "judge" else said("x"))
    until = {"lacks": "bad", "judge": "judge", "prompt": "{result}"}
    done = perform(tmp_path, agents, {"stage": [stage("a", until=until)]})
    assert done.status == "failed"
    assert "the judge judge failed" in (done.error or "")


def test_the_named_agent_does_it_and_one_of_a_profile_is_made_and_let_go(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    agents = ScriptedAgents()

    def answer(agent: str, message: Message) -> Mapping[str, Any]:
        seen.append({"agent": agent, "made": dict(agents.made)})
        return said("ok")

    agents.answer = answer
    done = perform(tmp_path, agents, {"stage": [stage("a", agent="anna"), stage("b", profile="coder", after=["a"])]})
    assert done.status == "completed"
    assert seen[0] == {"agent": "anna", "made": {}}
    assert seen[1]["made"] == {seen[1]["agent"]: {"profile": "coder"}}
    assert agents.made == {}, "it was let go of"


def test_an_agent_that_there_is_not_fails_the_stage_with_its_name(tmp_path: Path) -> None:
    agents = ScriptedAgents(refusal=Refused("not_found", "there is no agent 'worker'"))
    done = perform(tmp_path, agents, {"stage": [stage("a")]})
    assert done.error == "stage a: not_found: there is no agent 'worker'"


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents(refusal=Refused("overloaded", "the queue is full"))
        async with open_workflows(tmp_path, agents) as kit, trio.open_nursery() as nursery:

            async def make_room() -> None:
                await trio.sleep(0.2)
                agents.refusal = None

            nursery.start_soon(make_room)
            assert (await kit.perform({"stage": [stage("a")]})).status == "completed"

    run(main)


def test_money_is_shared_out_before_it_is_spent(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda agent, message: said("x", 2.0))
    definition = {"usd": 10, "stage": [stage("a", usd=3), stage("b"), stage("c", after=["a", "b"])]}
    done = perform(tmp_path, agents, definition)
    budgets = {message.text[:4]: message.options for _, message in agents.turns.values()}
    assert {text: (options or {})["budget"]["usd"] for text, options in budgets.items()} == {
        "do a": 3.0,
        "do b": 5.0,
        "do c": 6.0,
    }
    assert (done.status, done.cost_usd) == ("completed", 6.0)


def test_what_a_stage_may_cost_is_for_all_its_attempts_and_its_judge(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda agent, message: said("no", 0.4))
    until = {"contains": "yes", "rounds": 50, "judge": "judge", "prompt": "{result}"}
    done = perform(tmp_path, agents, {"stage": [stage("a", usd=1, retries=20, until=until)]})
    assert "budget_exceeded" in (done.error or "")
    assert [message.options["budget"]["usd"] for _, message in agents.turns.values() if message.options] == [
        1.0,
        0.6,
        0.2,
    ]


def test_a_stage_that_nothing_is_left_for_does_not_begin(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda agent, message: said("x", 1.0))
    done = perform(tmp_path, agents, {"usd": 1, "stage": [stage("a"), stage("b", after=["a"])]})
    assert "budget_exceeded" in (done.error or "")
    assert len(agents.turns) == 1
    agents.answer = lambda agent, message: said("x", None)
    unknown = perform(tmp_path, agents, {"usd": 1, "stage": [stage("a"), stage("b", after=["a"])]})
    assert unknown.status == "failed", "what a stage has cost is not known: nobody knows what is left"


def test_a_run_that_takes_too_long_is_broken_off_with_what_it_does(tmp_path: Path) -> None:
    agents = ScriptedAgents(takes_s=60)
    done = perform(tmp_path, agents, {"timeout_s": 0.5, "stage": [stage("a"), stage("b", after=["a"])]})
    assert (done.status, done.error) == ("failed", "timeout: it took longer than 0.5 s")
    assert statuses(done) == {"a": "cancelled", "b": "cancelled"}
    assert agents.cancelled == ["trn_0"]


def test_a_cancelled_run_ends_with_all_that_it_does(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents(takes_s=60)
        async with open_workflows(tmp_path, agents) as kit:
            await kit.runs.define(
                OWNER, "flow", {"stage": [stage("a"), stage("b", profile="p"), stage("c", after=["a"])]}
            )
            begun = await kit.runs.begin(OWNER, "flow", {})
            while len(agents.turns) < 2:
                await kit.runs.wait_changed(begun.key)
            done = await kit.runner.cancel(OWNER, begun.id, "enough")
            assert (done.status, done.error) == ("cancelled", "enough")
            assert set(statuses(done).values()) == {"cancelled"}
            assert sorted(agents.cancelled) == ["trn_0", "trn_1"]
            assert agents.made == {}
            again = await kit.runner.cancel(OWNER, begun.id)
            assert again.error == "enough", "one that has ended stays as it is"

    run(main)


def test_one_that_is_cancelled_before_anybody_began_it_never_begins(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents()
        async with open_workflows(tmp_path, agents) as kit:
            await kit.runs.define(OWNER, "flow", {"stage": [stage("a")]})
            begun = await kit.runs.begin(OWNER, "flow", {})
            done = await kit.runner.cancel(OWNER, begun.id)
            assert done.status == "cancelled"
            assert agents.turns == {}

    run(main)


def test_a_run_is_begun_once_under_its_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_workflows(tmp_path) as kit:
            await kit.runs.define(OWNER, "flow", {"parameters": {"x": {}}, "stage": [stage("a")]})
            first = await kit.runs.begin(OWNER, "flow", {"x": "1"}, key="k")
            await kit.runs.wait_ended(OWNER, first.id, 10)
            assert (await kit.runs.begin(OWNER, "flow", {"x": "1"}, key="k")).id == first.id
            with pytest.raises(Refused, match="used for another run"):
                await kit.runs.begin(OWNER, "flow", {"x": "2"}, key="k")
            assert len(await kit.runs.runs(OWNER)) == 1

    run(main)


def test_changing_a_workflow_changes_no_run_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        agents = ScriptedAgents(takes_s=0.2)
        async with open_workflows(tmp_path, agents) as kit:
            await kit.runs.define(OWNER, "flow", {"stage": [stage("a"), stage("b", after=["a"])]})
            begun = await kit.runs.begin(OWNER, "flow", {})
            await kit.runs.define(OWNER, "flow", {"stage": [stage("other")]})
            with pytest.raises(Refused, match="already"):
                await kit.runs.define(OWNER, "flow", {"stage": [stage("x")]}, replace_it=False)
            await kit.runs.remove(OWNER, "flow")
            done = await kit.runs.wait_ended(OWNER, begun.id, 10)
            assert statuses(done) == {"a": "done", "b": "done"}
            with pytest.raises(Refused, match="no workflow"):
                await kit.runs.begin(OWNER, "flow", {})

    run(main)


def test_others_see_neither_workflows_nor_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_workflows(tmp_path) as kit:
            done = await kit.perform({"stage": [stage("a")]})
            assert await kit.runs.workflows(OWNER + 1) == []
            assert await kit.runs.runs(OWNER + 1) == []
            with pytest.raises(Refused, match="no run"):
                await kit.runs.get(OWNER + 1, done.id)

    run(main)


def test_every_change_is_told_and_an_ended_run_is_still_known_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_workflows(tmp_path) as kit:
            done = await kit.perform({"stage": [stage("a")]})
            names = [name for name, _ in await kit.events()]
            assert names == ["defined", "started", "stage", "stage", "stage", "completed"]
        async with open_workflows(tmp_path) as kit:
            assert kit.runs.going_on() == ()
            again = await kit.runs.get(OWNER, done.id)
            assert again.view() == done.view()
            assert [each["id"] for each in await kit.runs.runs(OWNER)] == [done.id]

    run(main)


TEN = {"stage": [stage(f"s{n}", **({} if n == 0 else {"after": [f"s{n - 1}"]})) for n in range(10)]}


@pytest.mark.parametrize("seed", range(12))
def test_a_run_of_ten_stages_survives_being_killed_again_and_again(tmp_path: Path, seed: int) -> None:
    """Each message is given once and each stage is done once, wherever the runner was when it died."""

    async def main() -> None:
        agents = ScriptedAgents(takes_s=0.002, answer=lambda agent, message: said("ok", 0.5))
        async with open_workflows(tmp_path, agents) as kit:
            await kit.runs.define(OWNER, "flow", TEN)
            begun = await kit.runs.begin(OWNER, "flow", {})
        for life in range(200):
            async with open_workflows(tmp_path, agents) as kit:
                longer = 1 + life // 20  # where the machine is slow
                with trio.move_on_after(0.001 * (seed + 1) * (1 + life % 3) * longer):
                    await kit.runs.wait_ended(OWNER, begun.id, 10)
                done = await kit.runs.get(OWNER, begun.id)
                if done.status != "running":
                    break
        assert done.status == "completed", statuses(done)
        assert done.cost_usd == 5.0
        assert sorted(text.splitlines()[0] for text in agents.told("worker")) == sorted(f"do s{n}" for n in range(10))

    run(main)


def test_a_turn_that_a_restart_has_cut_is_asked_for_anew_and_says_so(tmp_path: Path) -> None:
    left = [broke("shutdown", "interrupted"), said("now")]
    agents = ScriptedAgents(answer=lambda agent, message: left.pop(0))
    done = perform(tmp_path, agents, {"stage": [stage("a")]})
    assert (done.status, done.stages["a"].attempt, done.stages["a"].cuts) == ("completed", 1, 1)
    assert "when the daemon was restarted" in agents.told("worker")[1]
    agents.answer = lambda agent, message: broke("shutdown", "interrupted")
    failed = perform(tmp_path, agents, {"stage": [stage("a")]})
    assert failed.status == "failed", "what ends the daemon each time is not tried for ever"


def test_a_stage_of_the_board_is_done_by_whoever_takes_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_workflows(tmp_path) as kit, trio.open_nursery() as nursery:

            async def work() -> None:
                for result in ("built", None):
                    while True:
                        work = kit.board.work(OWNER)
                        item = await kit.board.claim(OWNER, "anna", types=["code"])
                        if item is not None:
                            break
                        await work.wait()
                    assert item.lease is not None
                    await kit.board.start(OWNER, item.id, item.lease.token)
                    if result is None:
                        await kit.board.fail(OWNER, item.id, item.lease.token, "cannot", final=True)
                    else:
                        await kit.board.complete(OWNER, item.id, item.lease.token, Outcome(result=result))

            nursery.start_soon(work)
            definition = {"stage": [stage("a"), stage("b", type="code", prompt="build {a}", after=["a"])]}
            done = await kit.perform(definition)
            assert (done.status, done.stages["b"].result) == ("completed", "built")
            failed = await kit.perform(definition)
            assert failed.status == "failed"
            assert "cannot" in (failed.error or "")

    run(main)


def test_a_stage_of_the_board_that_nobody_takes_is_given_up_and_taken_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_workflows(tmp_path) as kit:
            done = await kit.perform({"stage": [stage("a", type="code", timeout_s=0.3)]})
            assert "no worker did it within 0.3 s" in (done.error or "")
            (item,) = await kit.board.list(OWNER)
            assert item.status == "cancelled"

    run(main)


def test_large_results_fit_into_what_is_stored_of_a_run(tmp_path: Path) -> None:
    agents = ScriptedAgents(answer=lambda agent, message: said("\0" * 500_000))
    definition = {"stage": [stage(f"s{n}", until={"contains": "\0"}) for n in range(60)]}
    done = perform(tmp_path, agents, definition)
    assert done.status == "completed"
    assert "are left out here" in done.stages["s0"].result
