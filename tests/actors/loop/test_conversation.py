"""The loop: bounds, callbacks, failures, and messages that the API takes whatever happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_kit import MemoryExecutor, Script, call, message, ok, says, user, uses
from skill_actors.backends import ToolCall, ToolContext, ToolResult
from skill_actors.loop import CallModel, Loop, LoopResult, create_context, model_caller, run_loop
from skill_actors.models import Message, ModelError, ModelEvent, ModelRequest, Usage
from skill_actors.sessions.engine import IllegalEvent
from skill_actors.testing import HttpError, Reply, ScriptedModel, Text, ToolUse, check_request
from support import run, run_virtual


def acceptable(messages: Sequence[Message]) -> bool:
    """Whether a further message of the user makes a request that the API takes."""
    more = [*messages]
    if more[-1]["role"] == "assistant":
        more.append({"role": "user", "content": "Go on."})
    problem = check_request({"model": "m", "max_tokens": 1, "messages": more})
    assert problem is None, problem
    return True


def looped(
    model: CallModel,
    executor: MemoryExecutor | None = None,
    *,
    messages: Sequence[Message] | None = None,
    runner: Callable[..., Any] = run,
    **options: Any,
) -> LoopResult:
    async def main() -> LoopResult:
        place = executor or MemoryExecutor()
        async with create_context([], working_directory=Path("w"), backend=place) as context:
            return await run_loop(messages or user(), model, context, **options)

    result: LoopResult = runner(main)
    assert acceptable(result.messages)
    return result


def test_an_answer_without_calls_is_the_end() -> None:
    model = Script(says("Done.", usage={"input_tokens": 2, "output_tokens": 1}, model="m", id="msg_1"))
    result = looped(model)
    assert (result.outcome, result.text, result.stop_reason, result.iterations) == ("finished", "Done.", "end_turn", 1)
    assert result.error is None
    assert result.response is not None
    assert (result.response.id, result.response.message.model) == ("msg_1", "m")
    assert result.messages == [
        {"role": "user", "content": [{"type": "text", "text": "Do it."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
    ]


def test_results_are_given_back_in_the_order_of_the_calls_until_the_model_ends() -> None:
    model = Script(
        uses(call("toolu_2"), call("toolu_1"), text="Both.", usage={"input_tokens": 1, "output_tokens": 1}),
        uses(call("toolu_3"), usage={"input_tokens": 10, "output_tokens": 2}),
        says("Done.", usage={"input_tokens": 100, "output_tokens": 3}),
    )
    result = looped(model)
    assert (result.text, result.iterations, result.usage) == ("Done.", 3, Usage(input_tokens=111, output_tokens=6))
    assert [block["tool_use_id"] for block in model.seen[1][-1]["content"]] == ["toolu_2", "toolu_1"]
    assert [each["role"] for each in result.messages] == ["user", "assistant"] * 3


def test_the_messages_that_were_given_are_not_changed() -> None:
    given_messages = user()
    result = looped(Script(uses(call()), says("Done.")), messages=given_messages)
    assert given_messages == user()
    assert len(result.messages) == 4


def test_the_model_is_asked_no_more_often_than_allowed_and_nothing_is_run_for_the_last_answer() -> None:
    executor = MemoryExecutor()
    model = Script(*(uses(call(f"toolu_{number}"), text=f"{number}.") for number in range(9)))
    result = looped(model, executor, max_iterations=3)
    assert (result.outcome, result.stop_reason, result.iterations) == ("failed", "iteration_limit", 3)
    assert [each.id for each in executor.calls] == ["toolu_0", "toolu_1"]
    assert result.messages[-1]["content"][0]["content"].startswith("Not run:")


def test_a_turn_that_ran_out_of_iterations_can_be_gone_on_with() -> None:
    first = looped(Script(uses(call("toolu_1")), uses(call("toolu_2"))), max_iterations=2)
    again = looped(Script(says("Done.")), messages=[*first.messages, *user("Go on.")])
    assert (again.outcome, len(again.messages)) == ("finished", 6)


def test_pauses_are_gone_on_with_up_to_their_bound() -> None:
    def pause(text: str) -> dict[str, Any]:
        return message([{"type": "text", "text": text}], "pause_turn")

    result = looped(Script(pause("a"), pause("b"), says("c")), max_pauses=2)
    assert (result.outcome, result.text) == ("finished", "abc")
    assert [each["role"] for each in result.messages] == ["user", "assistant"]
    over = looped(Script(pause("a"), pause("b"), pause("c")), max_pauses=2)
    assert (over.outcome, over.stop_reason) == ("failed", "pause_limit")


def test_an_answer_without_content_leaves_nothing_behind() -> None:
    result = looped(Script(message([], "end_turn")))
    assert (result.outcome, result.text, len(result.messages)) == ("finished", "", 1)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ModelError("busy", code="overloaded", retryable=True), "model_overloaded"),
        (OSError("gone"), "model_call_failed"),
        ({"type": "error", "error": {"type": "api_error", "message": "x"}}, "api_error"),
        ({"content": "odd"}, "invalid_response"),
        (uses(call("toolu_1")), "invalid_response"),  # the id of the first call once more
    ],
    ids=["model error", "exception", "error of the API", "no message", "an id once more"],
)
def test_a_failure_of_the_model_keeps_what_was_done(failure: object, code: str) -> None:
    result = looped(Script(uses(call("toolu_1"), text="First."), failure))
    assert (result.outcome, result.stop_reason, result.iterations) == ("failed", code, 2)
    assert result.error is not None
    assert result.cause is not None
    assert len(result.messages) == 3
    if isinstance(failure, Exception):
        assert result.cause is failure


def test_an_id_of_an_earlier_turn_is_not_taken_again() -> None:
    first = looped(Script(uses(call("toolu_1")), says("Done.")))
    executor = MemoryExecutor()
    again = looped(Script(uses(call("toolu_1"))), executor, messages=[*first.messages, *user("Again.")])
    assert (again.stop_reason, executor.calls) == ("invalid_response", [])


def test_tokens_of_a_failed_call_are_counted() -> None:
    cut = ModelError("cut", code="connection", usage=Usage(input_tokens=5))
    assert looped(Script(cut)).usage == Usage(input_tokens=5)


def test_callbacks_are_told_of_each_call_and_its_result() -> None:
    seen: list[tuple[str, str]] = []

    async def before(call: ToolCall) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(("call", call.id))

    async def after(call: ToolCall, result: ToolResult) -> None:
        await trio.lowlevel.checkpoint()
        seen.append((call.id, result.content))

    looped(Script(uses(call("toolu_1")), says("Done.")), on_tool_call=before, on_tool_result=after)
    assert seen == [("call", "toolu_1"), ("toolu_1", "did toolu_1")]


def test_a_callback_that_refuses_a_call_ends_the_loop_when_the_calls_beside_it_have_ended() -> None:
    executor = MemoryExecutor()

    async def before(call: ToolCall) -> None:
        await trio.lowlevel.checkpoint()
        if call.id == "toolu_1":
            raise PermissionError("not that one")

    result = looped(Script(uses(call("toolu_1"), call("toolu_2"))), executor, on_tool_call=before)
    assert (result.stop_reason, str(result.cause)) == ("callback_failed", "not that one")
    assert [each.id for each in executor.calls] == ["toolu_2"]
    assert [block.get("is_error", False) for block in result.messages[-1]["content"]] == [True, False]


def test_a_callback_that_fails_on_a_result_ends_the_loop_and_the_result_stays() -> None:
    async def after(call: ToolCall, result: ToolResult) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError(call.id)

    result = looped(Script(uses(call("toolu_1"))), on_tool_result=after)
    assert isinstance(result.cause, KeyError)
    assert result.messages[-1]["content"][0]["content"] == "did toolu_1"


async def _for_ever(*_: object) -> Any:
    await trio.sleep_forever()


def test_a_model_that_never_answers_is_given_up() -> None:
    result = looped(_for_ever, runner=run_virtual, timeout_s=60)
    assert (result.outcome, result.stop_reason) == ("failed", "turn_timeout")
    assert len(result.messages) == 1


def test_a_loop_that_takes_too_long_is_stopped_in_its_tools() -> None:
    model = Script(uses(call("toolu_1"), call("toolu_2"), text="Wait."))
    result = looped(model, MemoryExecutor(_for_ever), runner=run_virtual, timeout_s=60)
    assert (result.outcome, result.stop_reason, result.text) == ("failed", "turn_timeout", "Wait.")
    assert [block["content"] for block in result.messages[-1]["content"]] == ["Cancelled while it ran."] * 2


def test_a_cancelled_loop_has_its_messages_with_what_ended_and_what_did_not() -> None:
    async def handler(call: ToolCall, context: ToolContext) -> ToolResult:
        if call.id != "toolu_0":
            await trio.sleep_forever()
        return ok("in time")

    async def main() -> None:
        executor = MemoryExecutor(handler)
        calls = [call(f"toolu_{number}") for number in range(10)]
        async with create_context([], working_directory=Path("w"), backend=executor) as context:
            loop = Loop(user(), context)
            with trio.move_on_after(1):
                await loop.run(Script(uses(*calls, usage={"input_tokens": 4})))
            assert acceptable(loop.messages)
            told = [block["content"] for block in loop.messages[-1]["content"]]
            assert told[0] == "in time"
            assert told[1:9] == ["Cancelled while it ran."] * 8
            assert told[9] == "Not run: the turn was cancelled before."
            assert loop.usage.input_tokens == 4

    run_virtual(main)


def test_a_loop_runs_once() -> None:
    async def main() -> None:
        async with create_context([], working_directory=Path("w"), backend=MemoryExecutor()) as context:
            loop = Loop(user(), context)
            await loop.run(Script(says("Done.")))
            with pytest.raises(IllegalEvent):
                await loop.run(Script(says("Again.")))

    run(main)


@pytest.mark.parametrize(
    "wrong",
    [{"max_iterations": 0}, {"max_pauses": -1}, {"timeout_s": 0}, {"timeout_s": float("nan")}, {"messages": []}],
    ids=str,
)
def test_a_loop_without_bounds_or_messages_is_refused(wrong: dict[str, Any]) -> None:
    async def main() -> None:
        async with create_context([], working_directory=Path("w"), backend=MemoryExecutor()) as context:
            Loop(**{"messages": user(), "context": context, **wrong})

    with pytest.raises(ValueError, match=r".+"):
        run(main)


def test_a_model_of_ours_is_asked_with_prompt_and_tools(tmp_path: Path) -> None:
    """With real tools, and a model that refuses what the API would refuse."""
    model = ScriptedModel(
        [
            Reply(
                [Text("Let me look."), ToolUse("bash_tool", {"command": "echo high > tide; false", "description": "x"})]
            ),
            Reply([ToolUse("view", {"path": "tide"}), ToolUse("view", {})]),
            HttpError(529),
        ]
    )

    async def main() -> LoopResult:
        async with create_context([], working_directory=tmp_path) as context:
            caller = model_caller(
                model, name="m", system=context.system_prompt("Be brief."), tools=context.tools, max_tokens=100
            )
            first = await run_loop(user(), caller, context)
            assert acceptable(first.messages)
            assert first.stop_reason == "model_overloaded"
            model.enqueue(Reply([Text("High.")]))
            return await run_loop(first.messages, caller, context)

    result = run(main)
    assert (result.text, result.outcome) == ("High.", "finished")
    assert model.requests[0].system == "Be brief."
    assert [tool["name"] for tool in model.requests[0].tools] == ["view", "bash_tool", "create_file", "str_replace"]
    assert model.requests[0].max_tokens == 100
    assert result.usage.output_tokens > 0
    (failed,) = result.messages[2]["content"]
    assert failed["is_error"]
    assert "[exit code 1]" in failed["content"]
    seen, odd = result.messages[4]["content"]
    assert "high" in seen["content"]
    assert odd["is_error"]


class Mute:
    """A model that breaks its contract: its stream ends without a message."""

    provider = "mute"

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        async def nothing() -> AsyncIterator[ModelEvent]:
            await trio.lowlevel.checkpoint()
            events: list[ModelEvent] = []
            for event in events:
                yield event

        yield nothing()

    async def count_tokens(self, request: ModelRequest) -> int | None:
        return None

    async def aclose(self) -> None:
        """Nothing is open."""


def test_a_model_that_ends_without_a_message_is_a_failure_of_the_protocol() -> None:
    assert looped(model_caller(Mute(), name="m")).stop_reason == "model_protocol"


STOPS = ["end_turn", "tool_use", "max_tokens", "refusal", "pause_turn", "stop_sequence", "melted"]


@st.composite
def scripts(draw: st.DrawFn) -> list[object]:
    """Answers of a model with any mix of blocks and any stop reason, and now and then a failure."""
    answers: list[object] = []
    for number in range(draw(st.integers(1, 6))):
        count = draw(st.integers(0, 3))
        blocks: list[dict[str, Any]] = [
            {"type": "text", "text": text} for text in draw(st.lists(st.sampled_from(["a", " "])))
        ]
        blocks += [
            {
                "type": "tool_use",
                "id": f"toolu_{number}_{each}",
                "name": draw(st.sampled_from(["view", "x"])),
                "input": {},
            }
            for each in range(count)
        ]
        odd = draw(st.sampled_from([None, None, None, OSError("x"), {"content": 1}]))
        answers.append(odd or message(blocks, draw(st.sampled_from(STOPS))))
    return [*answers, says("Done.")]


@given(answers=scripts(), max_iterations=st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_whatever_a_model_answers_the_messages_stay_acceptable(answers: list[object], max_iterations: int) -> None:
    result = looped(Script(*answers), max_iterations=max_iterations, max_pauses=2)
    assert result.iterations <= max_iterations
    assert (result.error is None) == (result.outcome == "finished")


def test_a_call_of_the_providers_own_that_a_pause_left_open_goes_with_the_turn_that_failed() -> None:
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "bash_code_execution", "input": {"command": "x"}}
    for content, left in (([{"type": "text", "text": "..."}, use], 2), ([use], 1)):
        result = looped(Script(message(content, "pause_turn"), ConnectionError("no line")))
        assert result.outcome == "failed"
        assert len(result.messages) == left
        assert acceptable(result.messages)
