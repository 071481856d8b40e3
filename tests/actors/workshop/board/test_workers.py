"""Board workers with agents that play a script: what they take, when an item is done, and what outlives them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from board_agents_kit import Play, PlayedAgents, PlayedCommands, answer_ok
from board_kit import ME, BoardKit, open_board
from skill_actors.errors import Refused
from skill_actors.workshop.board import Workers
from skill_actors.workshop.board.hand import CommandResult
from support import run


@dataclass(frozen=True)
class WorkersKit:
    """A board, its workers and their agents."""

    board: BoardKit
    workers: Workers
    agents: PlayedAgents
    commands: PlayedCommands

    async def until(self, id: str, *statuses: str) -> None:
        """Wait until an item has one of these states."""
        while True:
            changed = self.board.board.changed(ME)
            if (await self.board.board.get(ME, id)).status in statuses:
                return
            await changed.wait()


@asynccontextmanager
async def open_workers(folder: Path, play: Play = answer_ok) -> AsyncIterator[WorkersKit]:
    async with open_board(folder, running=True) as board, trio.open_nursery() as nursery:
        agents, commands = PlayedAgents(nursery, play), PlayedCommands()
        documents = board.journal.documents
        workers = Workers(board.board, agents, commands, documents, documents.apply)
        await nursery.start(workers.run)
        yield WorkersKit(board, workers, agents, commands)
        nursery.cancel_scope.cancel()


def with_workers(folder: Path, check: Callable[[WorkersKit], Awaitable[None]], play: Play = answer_ok) -> None:
    async def main() -> None:
        async with open_workers(folder, play) as kit:
            await check(kit)

    run(main)


async def never(agent: str, text: str) -> Mapping[str, Any]:
    await trio.sleep_forever()
    raise AssertionError


def test_a_worker_does_the_items_of_its_types_and_leaves_the_others(tmp_path: Path) -> None:
    async def check(kit: WorkersKit) -> None:
        await kit.board.add("a", type="code", spec="write it")
        await kit.board.add("other", type="docs")
        await kit.workers.start(ME, "coder", {"types": ["code"]})
        await kit.until("a", "done")
        item = await kit.board.board.get(ME, "a")
        assert (item.result, item.turn) == ("done: Work item a: a", "trn_0")
        assert "write it" in kit.agents.turns["trn_0"].text
        assert (await kit.board.statuses())["other"] == "ready"
        (view,) = kit.workers.list(ME)
        assert (view["name"], view["agents"][0]["done"]) == ("coder", 1)

    with_workers(tmp_path, check)


def test_a_worker_is_woken_by_what_becomes_ready(tmp_path: Path) -> None:
    async def check(kit: WorkersKit) -> None:
        await kit.workers.start(ME, "w", {"types": ["custom"], "count": 3})
        for id, before in (("a", ()), ("b", ("a",)), ("c", ("a",)), ("d", ("b", "c"))):
            await kit.board.add(id, *before)
        with trio.fail_after(20):
            await kit.until("d", "done")
        assert "done: Work item b: b" in kit.agents.turns[(await kit.board.board.get(ME, "d")).turn or ""].text

    with_workers(tmp_path, check)


BAD_TURNS: dict[str, Mapping[str, Any]] = {
    "cut": {"text": "half", "stop_reason": "max_tokens"},
    "refused": {"text": "no", "stop_reason": "refusal"},
    "empty": {"text": " \n", "stop_reason": "end_turn"},
    "not done": {"text": "\nNOT DONE: there is no parser", "stop_reason": "end_turn"},
}


@pytest.mark.parametrize("name", BAD_TURNS)
def test_an_answer_that_is_none_is_a_failure_and_not_a_result(tmp_path: Path, name: str) -> None:
    async def play(agent: str, text: str) -> Mapping[str, Any]:
        return BAD_TURNS[name]

    async def check(kit: WorkersKit) -> None:
        await kit.board.add("a", max_attempts=2)
        await kit.workers.start(ME, "w", {"types": ["custom"]})
        await kit.until("a", "failed")
        item = await kit.board.board.get(ME, "a")
        assert (item.attempts, item.result) == (2, None)
        assert item.error is not None
        assert ("there is no parser" in item.error) == (name == "not done")

    with_workers(tmp_path, check, play)


def test_a_turn_that_failed_is_tried_again_and_told_why(tmp_path: Path) -> None:
    async def play(agent: str, text: str) -> Mapping[str, Any]:
        if "attempt 2 of 3" not in text:
            raise Refused("budget_exceeded", "the cap is reached")
        return await answer_ok(agent, text)

    async def check(kit: WorkersKit) -> None:
        await kit.board.add("a")
        await kit.workers.start(ME, "w", {"types": ["custom"]})
        await kit.until("a", "done")
        assert "the cap is reached" in kit.agents.turns["trn_1"].text
        assert (await kit.board.board.get(ME, "a")).attempts == 2

    with_workers(tmp_path, check, play)


def test_a_message_that_the_agent_refuses_is_a_failure(tmp_path: Path) -> None:
    async def check(kit: WorkersKit) -> None:
        kit.agents.refusals += [Refused("budget_exceeded", "no money")] * 2
        await kit.board.add("a", max_attempts=2)
        await kit.workers.start(ME, "w", {"types": ["custom"]})
        await kit.until("a", "failed")
        assert (await kit.board.board.get(ME, "a")).error == "budget_exceeded: no money"

    with_workers(tmp_path, check)


def test_what_is_not_the_items_fault_costs_it_no_attempt(tmp_path: Path) -> None:
    async def check(kit: WorkersKit) -> None:
        kit.agents.refusals.append(Refused("backend_unavailable", "it is starting"))
        await kit.board.add("a", max_attempts=1)
        await kit.workers.start(ME, "w", {"types": ["custom"]})
        await kit.until("a", "done")
        assert (await kit.board.board.get(ME, "a")).attempts == 1

    with_workers(tmp_path, check)


def test_an_item_is_done_only_when_its_command_has_passed(tmp_path: Path) -> None:
    async def check(kit: WorkersKit) -> None:
        kit.commands.results += [CommandResult(passed=False, told="2 tests fail"), CommandResult(passed=True)]
        await kit.board.add("a", verify={"argv": ["make", "check"]})
        await kit.workers.start(ME, "w", {"types": ["custom"]})
        await kit.until("a", "done")
        assert kit.commands.run_with == [("ses_x", ("make", "check"))] * 2
        assert "2 tests fail" in kit.agents.turns["trn_1"].text
        assert (await kit.board.board.get(ME, "a")).attempts == 2

    with_workers(tmp_path, check)


def test_an_item_with_a_schema_asks_for_it_and_holds_the_answer_to_it(tmp_path: Path) -> None:
    answers = iter(["I think so", '{"ok": true}'])
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}

    async def play(agent: str, text: str) -> Mapping[str, Any]:
        return {"text": next(answers), "stop_reason": "end_turn"}

    async def check(kit: WorkersKit) -> None:
        await kit.board.add("a", verify={"schema": schema})
        await kit.workers.start(ME, "w", {"types": ["custom"]})
        await kit.until("a", "done")
        item = await kit.board.board.get(ME, "a")
        assert (item.attempts, item.result) == (2, '{"ok": true}')
        assert kit.agents.schemas == [schema, schema]

    with_workers(tmp_path, check, play)


def test_an_item_that_is_cancelled_ends_the_turn_of_its_worker(tmp_path: Path) -> None:
    async def play(agent: str, text: str) -> Mapping[str, Any]:
        return await (never if "stuck" in text else answer_ok)(agent, text)

    async def check(kit: WorkersKit) -> None:
        await kit.board.add("stuck")
        await kit.workers.start(ME, "w", {"types": ["custom"]})
        await kit.until("stuck", "in_progress")
        await kit.board.board.cancel(ME, "stuck")
        await kit.board.add("next")
        await kit.until("next", "done")
        assert kit.agents.cancelled == ["trn_0"]
        assert (await kit.board.statuses())["stuck"] == "cancelled"

    with_workers(tmp_path, check, play)


def test_items_for_an_agent_a_worker_or_a_profile_go_there(tmp_path: Path) -> None:
    async def check(kit: WorkersKit) -> None:
        await kit.workers.start(ME, "w", {"types": ["custom"], "profile": "terse"})
        await kit.workers.start(ME, "v", {"types": ["custom"]})
        for id, agent in (("a", "w-1"), ("b", "v"), ("c", "terse")):
            await kit.board.add(id, agent=agent)
        await kit.board.add("nobody", agent="ghost")
        for id in "abc":
            await kit.until(id, "done")
        by = {turn.text.split()[2].strip(":"): turn.agent for turn in kit.agents.turns.values()}
        assert by == {"a": "w-1", "b": "v-1", "c": "w-1"}
        assert (await kit.board.statuses())["nobody"] == "ready"
        assert kit.agents.settings["w-1"] == {"profile": "terse"}

    with_workers(tmp_path, check)


def test_a_worker_that_is_stopped_finishes_what_it_has(tmp_path: Path) -> None:
    go_on = trio.Event

    async def main() -> None:
        gate = go_on()

        async def play(agent: str, text: str) -> Mapping[str, Any]:
            await gate.wait()
            return await answer_ok(agent, text)

        async with open_workers(tmp_path, play) as kit:
            await kit.board.add("a")
            await kit.workers.start(ME, "w", {"types": ["custom"]})
            await kit.until("a", "in_progress")
            await kit.board.add("b")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kit.workers.stop, ME, "w")
                await trio.testing.wait_all_tasks_blocked()
                gate.set()
            assert await kit.board.statuses() == {"a": "done", "b": "ready"}
            assert kit.workers.list(ME) == []
            assert kit.agents.dismissed == ["w-1"]

    run(main)


def test_a_worker_that_has_no_time_left_gives_its_item_back(tmp_path: Path) -> None:
    async def check(kit: WorkersKit) -> None:
        await kit.board.add("a", max_attempts=1)
        await kit.workers.start(ME, "w", {"types": ["custom"]})
        await kit.until("a", "in_progress")
        await kit.workers.stop(ME, "w", drain_s=0)
        item = await kit.board.board.get(ME, "a")
        assert (item.status, item.attempts) == ("ready", 0)
        assert kit.agents.cancelled == ["trn_0"]

    with_workers(tmp_path, check, never)


def test_workers_and_what_they_had_are_there_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        gate = trio.Event()

        async def play(agent: str, text: str) -> Mapping[str, Any]:
            await gate.wait()
            return await answer_ok(agent, text)

        async with open_board(tmp_path, running=True) as board, trio.open_nursery() as agents_nursery:
            agents = PlayedAgents(agents_nursery, play)
            documents = board.journal.documents
            for life in range(2):
                async with trio.open_nursery() as nursery:
                    workers = Workers(board.board, agents, PlayedCommands(), documents, documents.apply)
                    await nursery.start(workers.run)
                    kit = WorkersKit(board, workers, agents, PlayedCommands())
                    if life == 0:
                        await board.add("a", max_attempts=1)
                        await workers.start(ME, "w", {"types": ["custom"]})
                        await kit.until("a", "in_progress")
                    else:
                        gate.set()
                        await kit.until("a", "done", "failed")
                    nursery.cancel_scope.cancel()
            assert await board.statuses() == {"a": "done"}
            assert len(agents.turns) == 1  # it was waited for, not asked again
            agents_nursery.cancel_scope.cancel()

    run(main)


def test_a_worker_with_a_bad_profile_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async def check(kit: WorkersKit) -> None:
        bad: list[dict[str, Any]] = [{"types": ["custom"], "profile": "ghost"}, {"types": ["nonsense"]}, {"type": "x"}]
        for given in bad:
            with pytest.raises(Refused):
                await kit.workers.start(ME, "w", given)
        assert kit.workers.list(ME) == []
        assert await kit.board.journal.documents.list("worker") == ()

    with_workers(tmp_path, check)


def test_an_item_is_made_of_what_an_agent_has_answered(tmp_path: Path) -> None:
    async def check(kit: WorkersKit) -> None:
        await kit.agents.begin(ME, "ada", "find bugs", key="k", schema=None)
        await kit.agents.ended(ME, "trn_0")
        item = await kit.workers.item_from_result(ME, "ada", {"id": "fix", "title": "Fix", "type": "code"})
        assert item.spec == "done: find bugs"
        assert item.meta == {"from_agent": "ada", "from_turn": "trn_0"}

    with_workers(tmp_path, check)


def test_a_turn_that_could_not_be_begun_is_no_attempt(tmp_path: Path) -> None:
    """Else an API that is overloaded for a minute would fail a whole board."""
    failures = ["backend_unavailable"] * 2

    async def play(agent: str, text: str) -> Mapping[str, Any]:
        if failures:
            raise Refused("backend_unavailable", f"left alone {failures.pop()}")
        return await answer_ok(agent, text)

    async def check(kit: WorkersKit) -> None:
        await kit.board.add("a", max_attempts=1)
        await kit.workers.start(ME, "w", {"types": ["custom"]})
        await kit.until("a", "done")
        item = await kit.board.board.get(ME, "a")
        assert (item.attempts, len(kit.agents.turns)) == (1, 3)

    with_workers(tmp_path, check, play)


def test_a_turn_that_has_answered_before_it_failed_is_one(tmp_path: Path) -> None:
    async def check(kit: WorkersKit) -> None:
        await kit.board.add("a", max_attempts=1)
        await kit.workers.start(ME, "w", {"types": ["custom"]})
        await kit.until("a", "claimed", "in_progress")
        while not kit.agents.turns:
            await trio.lowlevel.checkpoint()
        error = {"code": "agent_overloaded", "message": "529"}
        kit.agents.turns["trn_0"].end("failed", error=error, iterations=2)
        await kit.until("a", "failed")

    with_workers(tmp_path, check, never)
