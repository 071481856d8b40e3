"""One call: whatever happens to it, it has a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from loop_kit import MemoryExecutor, call, ok
from skill_actors.backends import BackendUnavailable, ToolCall, ToolContext, ToolResult
from skill_actors.loop import create_context, execute
from skill_actors.loop.execution import Watchers, run_calls
from support import run, run_virtual


async def executed(executor: MemoryExecutor, one: ToolCall, **options: Any) -> ToolResult:
    async with create_context([], working_directory=Path("w"), backend=executor, **options) as context:
        return await execute(one, context)


def answered(answer: object, **options: Any) -> ToolResult:
    """The result of a call that an executor answers, or fails, with this."""

    async def handler(call: ToolCall, context: ToolContext) -> object:
        await trio.lowlevel.checkpoint()
        if isinstance(answer, Exception):
            raise answer
        return answer

    return run(lambda: executed(MemoryExecutor(handler), call(command="x"), **options))


def test_a_backend_that_cannot_run_it_is_a_result_that_says_why() -> None:
    result = answered(BackendUnavailable("no disk; free some"))
    assert (result.outcome, result.content) == ("error", "The backend cannot run this: no disk; free some")


def test_a_bug_of_an_executor_is_a_result_without_its_inside(caplog: pytest.LogCaptureFixture) -> None:
    result = answered(RuntimeError("password=secret"))
    assert (result.outcome, result.content) == ("error", "An internal error ended this call.")
    assert "password=secret" in caplog.text


@pytest.mark.parametrize("odd", [None, "text", {"content": "x"}, ToolResult(content=7, outcome="ok")])  # type: ignore[arg-type]
def test_an_answer_that_is_no_result_is_an_error(odd: object) -> None:
    assert answered(odd).content == "An internal error ended this call."


def test_text_that_no_api_takes_is_mended() -> None:
    assert answered(ok("a\0b\ud800c")).content == "a\ufffdb?c"


@pytest.mark.parametrize("limit", [1, 10, 40, 1_000])
def test_a_result_has_no_more_text_than_agreed(limit: int) -> None:
    content = answered(ok("x" * 5_000), max_output_chars=limit).content
    assert len(content) == limit
    assert limit < 40 or content.endswith("x\n[cut: 5000 characters]")
    assert answered(ok("x" * limit), max_output_chars=limit).content == "x" * limit


def test_a_call_is_told_its_bounds_and_environment() -> None:
    executor = MemoryExecutor()
    run(lambda: executed(executor, call(command="x"), timeout_s=7, max_output_chars=99, environment={"A": "b"}))
    (told,) = executor.contexts
    assert (told.timeout_s, told.max_output_chars, told.environment, told.readable) == (7, 99, {"A": "b"}, [])


async def _refuse(call: ToolCall) -> None:
    await trio.lowlevel.checkpoint()
    raise PermissionError(call.id)


def test_calls_run_at_the_same_time_but_not_too_many() -> None:
    running, most = 0, 0

    async def handler(call: ToolCall, context: ToolContext) -> ToolResult:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1
        return ok(call.id)

    async def main() -> float:
        executor = MemoryExecutor(handler)
        calls = [call(f"toolu_{number}", command="x") for number in range(10)]
        results: dict[str, ToolResult] = {}
        async with create_context([], working_directory=Path("w"), backend=executor) as context:
            await run_calls(calls, context, results, Watchers(), parallel=5)
        assert {id: result.content for id, result in results.items()} == {each.id: each.id for each in calls}
        return trio.current_time()

    began = 0.0
    took = run_virtual(main) - began
    assert most == 5
    assert took == pytest.approx(2.0)


def test_a_call_that_the_program_refuses_is_not_run(caplog: pytest.LogCaptureFixture) -> None:
    executor, watchers = MemoryExecutor(), Watchers(on_tool_call=_refuse)
    results: dict[str, ToolResult] = {}

    async def main() -> None:
        async with create_context([], working_directory=Path("w"), backend=executor) as context:
            await run_calls([call("toolu_a"), call("toolu_b")], context, results, watchers, parallel=1)

    run(main)
    assert executor.calls == []
    assert {result.outcome for result in results.values()} == {"error"}
    assert repr(watchers.failure) == "PermissionError('toolu_a')"  # the first; the others are logged
    assert "toolu_b" in caplog.text
