"""Whatever a model answers, and whenever a turn is cut, the history is one that the API takes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
import trio

from loop_kit import MemoryExecutor, message, ok, says
from skill_actors.backends import ToolCall, ToolContext, ToolResult
from skill_actors.backends.anthropic.results import pending_calls
from skill_actors.library import Session, SkillError, new_hybrid, new_local
from skill_actors.models.base import Message
from skill_actors.testing import check_request
from support import run_virtual


class Whims:
    """A model that does anything, and takes some time for it. `problems` has what the API would not have taken."""

    def __init__(self, chance: random.Random) -> None:
        self.problems: list[str] = []
        self._chance = chance
        self._ids = itertools.count()
        self._paused: set[str] = set()

    async def __call__(self, messages: Sequence[Message]) -> object:
        problem = check_request({"model": "m", "max_tokens": 100, "messages": [*messages]}, self._paused)
        if problem is not None:
            self.problems.append(problem)
        await trio.sleep(self._chance.random())
        answer: Any = self._chance.choice(
            (self._calls, self._calls, self._calls, self._says, self._pauses, self._is_cut, self._fails, self._babbles)
        )()
        pending = pending_calls(messages[-1]["content"]) if messages[-1]["role"] == "assistant" else ()
        if pending and isinstance(answer, dict) and isinstance(answer.get("content"), list):
            answer["content"] = [*map(_result, pending), *answer["content"]]
        return answer

    def _calls(self) -> object:
        blocks = [self._call() for _ in range(self._chance.randint(1, 4))]
        return message(blocks, "tool_use")

    def _call(self) -> dict[str, Any]:
        name = self._chance.choice(("bash_tool", "view", "missing", "create_file"))
        return {"type": "tool_use", "id": f"toolu_{next(self._ids)}", "name": name, "input": {"command": "x"}}

    def _says(self) -> object:
        return says("so", model="m")

    def _pauses(self) -> object:
        id = f"srvtoolu_{next(self._ids)}"
        self._paused.add(id)
        use = {"type": "server_tool_use", "id": id, "name": "bash_code_execution", "input": {"command": "x"}}
        return message([{"type": "text", "text": "..."}, use], "pause_turn")

    def _is_cut(self) -> object:
        return message([{"type": "text", "text": "cut"}, self._call()], self._chance.choice(("max_tokens", "refusal")))

    def _fails(self) -> object:
        raise ConnectionError("no line")

    def _babbles(self) -> object:
        return self._chance.choice(
            (None, "text", {}, message("text", "end_turn"), message([{"type": "tool_use"}], "tool_use"), message([], 7))
        )


def _result(id: str) -> dict[str, Any]:
    ran = {"type": "bash_code_execution_result", "stdout": "", "stderr": "", "return_code": 0, "content": []}
    return {"type": "bash_code_execution_tool_result", "tool_use_id": id, "content": ran}


EXPECTED = frozenset(
    {"max_iterations_reached", "pause_turn_max_exceeded", "turn_timeout", "model_call_failed", "invalid_response"}
)


async def play(seed: int) -> int:
    """Some turns of a conversation; how many of them came to an answer."""
    chance = random.Random(seed)

    async def work(call: ToolCall, context: ToolContext) -> ToolResult:
        await trio.sleep(chance.random())
        if chance.random() < 0.1:
            raise RuntimeError("the executor's own fault")
        return ok("done")

    answered = 0
    failed: list[SkillError] = []
    model = Whims(chance)
    async with new_local(executor=MemoryExecutor(work), max_iterations=4, max_pauses=1) as session:
        for number in range(6):
            with trio.move_on_after(chance.choice((0.3, 1, 100))):
                try:
                    await session.chat(f"message {number}", model, timeout_s=chance.choice((0.5, 100)))
                    answered += 1
                except SkillError as error:
                    failed.append(error)
            check(session)
        assert all(error.session is session for error in failed)
    assert {error.code for error in failed} <= EXPECTED
    assert model.problems == []
    return answered


def check(session: Session) -> None:
    """Whether a further message of the user could follow."""
    messages = [*session.messages]
    last: Message = {"role": "user", "content": [{"type": "text", "text": "on"}]}
    if messages and messages[-1]["role"] == "user":
        last = {"role": "user", "content": [*messages.pop()["content"], *last["content"]]}
    problem = check_request({"model": "m", "max_tokens": 100, "messages": [*messages, last]})
    assert problem is None, problem


@pytest.mark.parametrize("start", [0, 50, 100])
def test_every_history_can_go_on(start: int) -> None:
    async def main() -> None:
        answered = [await play(seed) for seed in range(start, start + 50)]
        assert sum(answered) > 30
        assert min(answered) < 3

    run_virtual(main)


def test_calls_with_input_that_is_no_object_of_the_tool_are_results_for_the_model() -> None:
    async def main() -> None:
        odd: list[Any] = [{}, {"command": 7}, {"command": "x", "more": []}, {"path": None}, {"command": "\0"}]
        blocks = [
            {"type": "tool_use", "id": f"toolu_{number}", "name": "bash_tool", "input": each}
            for number, each in enumerate(odd)
        ]

        async def ask(messages: Sequence[Message]) -> object:
            return message(blocks, "tool_use") if len(messages) == 1 else says("ok")

        async with new_local() as session:
            await session.chat("go", ask)
            results = session.messages[2]["content"]
            assert [result["tool_use_id"] for result in results] == [block["id"] for block in blocks]
            assert all(result["is_error"] for result in results)

    trio.run(main)


def test_a_tool_of_another_place_cannot_be_reached_by_its_plain_name() -> None:
    executor = MemoryExecutor(tools=[{"name": "secret_tool", "description": "d", "input_schema": {"type": "object"}}])

    async def main() -> None:
        async with new_hybrid(["local", ("far", {"executor": executor})]) as session:
            with pytest.raises(SkillError, match="policy_denied"):
                await session.run("secret_tool")
            await session.run("far_secret_tool")
            assert [each.name for each in executor.calls] == ["secret_tool"]

    trio.run(main)
