"""Reading an answer of a model, and one step of a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from loop_kit import MemoryExecutor, call, message, ok, says, uses
from skill_actors.backends import ToolCall, ToolContext, ToolResult
from skill_actors.loop import Processed, ResponseError, create_context, parse_response, process_response
from skill_actors.models import Usage
from support import run

TEXT = {"type": "text", "text": "Hm."}
USE = {"type": "tool_use", "id": "toolu_1", "name": "view", "input": {"path": "."}}


def processed(response: object, executor: MemoryExecutor | None = None, **options: Any) -> Processed:
    async def main() -> Processed:
        place = executor or MemoryExecutor()
        async with create_context([], working_directory=Path("w"), backend=place, **options) as context:
            return await process_response(response, context)

    return run(main)


def test_an_answer_is_taken_apart() -> None:
    thinking = {"type": "thinking", "thinking": "well", "signature": "s"}
    usage = {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 5}
    parsed = parse_response(
        message([thinking, TEXT, USE, TEXT], "tool_use", id="msg_1", model="m", usage=usage, container={"id": "c"})
    )
    assert parsed.text_blocks == ("Hm.", "Hm.")
    assert parsed.text == "Hm.Hm."
    assert [(each.id, each.name, each.input) for each in parsed.tool_calls] == [("toolu_1", "view", {"path": "."})]
    assert (parsed.id, parsed.stop_reason, parsed.message.model, parsed.message.container) == (
        "msg_1",
        "tool_use",
        "m",
        "c",
    )
    assert parsed.message.usage == Usage(input_tokens=3, output_tokens=4, cache_read_tokens=5)
    assert parsed.message.content[0] == thinking


def test_an_answer_that_is_changed_afterwards_changes_nothing_here() -> None:
    response = message([dict(TEXT)], "end_turn")
    parsed = parse_response(response)
    response["content"][0]["text"] = "No."
    assert parsed.text == "Hm."


def test_a_message_of_the_sdk_is_taken_as_it_is() -> None:
    from anthropic.types import Message

    body = {"id": "msg_1", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 2}, "stop_sequence": None}
    parsed = parse_response(Message.model_validate({**says("Hello."), **body}))
    assert (parsed.text, parsed.stop_reason, parsed.message.usage.output_tokens) == ("Hello.", "end_turn", 2)
    assert parsed.message.content == [{"type": "text", "text": "Hello."}]


INVALID = {
    "nothing": None,
    "text": "Hello.",
    "a list": [TEXT],
    "no content": {"stop_reason": "end_turn"},
    "null content": message(None, "end_turn"),
    "text as content": message("Hello.", "end_turn"),
    "no stop reason": {"content": [TEXT]},
    "null stop reason": message([TEXT], None),
    "empty stop reason": message([TEXT], ""),
    "another role": {**says("x"), "role": "user"},
    "a block that is text": message(["Hello."], "end_turn"),
    "a block without type": message([{"text": "x"}], "end_turn"),
    "text that is no text": message([{"type": "text", "text": 7}], "end_turn"),
    "no id": message([{**USE, "id": None}], "tool_use"),
    "an id that the API would refuse": message([{**USE, "id": "a b"}], "tool_use"),
    "an id with a line end": message([{**USE, "id": "toolu_1\n"}], "tool_use"),
    "an id twice": message([USE, USE], "tool_use"),
    "no name": message([{**USE, "name": ""}], "tool_use"),
    "null input": message([{**USE, "input": None}], "tool_use"),
    "input that is text": message([{**USE, "input": "path"}], "tool_use"),
    "one good call and half a call": message([USE, {"type": "tool_use", "id": "toolu_2"}], "tool_use"),
    "usage that is no object": {**says("x"), "usage": 7},
    "usage that counts backwards": {**says("x"), "usage": {"input_tokens": -1}},
    "usage with odd parts": {**says("x"), "usage": {"server_tool_use": [1]}},
}


@pytest.mark.parametrize("response", INVALID.values(), ids=INVALID.keys())
def test_what_is_no_whole_message_is_refused(response: object) -> None:
    with pytest.raises(ResponseError) as caught:
        parse_response(response)
    assert caught.value.code == "invalid_response"


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded_error: Over"),
        ({"error": {"message": "bad key"}}, "an error: bad key"),
        ({"error": "just text"}, "just text"),
        ({"type": "error"}, "an error"),
    ],
)
def test_an_error_of_the_api_is_told_as_such(response: object, text: str) -> None:
    with pytest.raises(ResponseError, match=text) as caught:
        parse_response(response)
    assert caught.value.code == "api_error"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "content", "stop_reason", "id", "name", "input", "text", "usage", "error"]), inner
        )
    ),
    max_leaves=12,
)


@given(response=JSON | st.fixed_dictionaries({"stop_reason": JSON, "content": st.lists(JSON, max_size=3)}))
def test_nothing_but_an_answer_or_a_refusal_comes_of_any_json(response: object) -> None:
    try:
        parsed = parse_response(response)
    except ResponseError:
        return
    assert all(isinstance(each.id, str) for each in parsed.tool_calls)


def test_an_id_of_an_earlier_call_is_refused() -> None:
    with pytest.raises(ResponseError, match="repeats the id toolu_1"):
        parse_response(uses(call("toolu_1")), used_ids={"toolu_1"})


def test_an_answer_without_calls_ends_the_turn() -> None:
    assert processed(says("Done.")) == Processed(done=True, text="Done.", stop_reason="end_turn")


def test_calls_are_run_and_their_results_stand_in_the_order_of_the_calls() -> None:
    found = processed(uses(call("toolu_b", command="x"), call("toolu_a", command="x"), text="Wait."))
    assert (found.done, found.text, found.stop_reason, found.error) == (False, "Wait.", "tool_use", None)
    assert found.results == (
        {"type": "tool_result", "tool_use_id": "toolu_b", "content": "did toolu_b"},
        {"type": "tool_result", "tool_use_id": "toolu_a", "content": "did toolu_a"},
    )


def test_a_result_without_text_says_so() -> None:
    async def silent(call: ToolCall, context: ToolContext) -> ToolResult:
        await trio.lowlevel.checkpoint()
        return ok("")

    (result,) = processed(uses(call("toolu_1", command="x")), MemoryExecutor(silent)).results
    assert result == {"type": "tool_result", "tool_use_id": "toolu_1", "content": "(no output)"}


def test_a_call_that_fails_is_an_error_result() -> None:
    (result,) = processed(uses(call("toolu_1", name="nonsense"))).results
    assert result["is_error"] is True
    assert "no tool 'nonsense'" in result["content"]


def test_a_pause_goes_on_without_results() -> None:
    found = processed(message([TEXT], "pause_turn"))
    assert (found.done, found.results, found.stop_reason) == (False, (), "pause_turn")


def test_calls_of_an_answer_that_was_cut_are_not_run_but_have_results() -> None:
    executor = MemoryExecutor()
    found = processed(message([TEXT, USE], "max_tokens"), executor)
    assert executor.calls == []
    assert (found.done, found.text, found.stop_reason) == (True, "Hm.", "max_tokens")
    assert [(block["tool_use_id"], block["is_error"]) for block in found.results] == [("toolu_1", True)]


def test_an_unknown_stop_reason_is_an_error() -> None:
    found = processed(message([TEXT], "melted"))
    assert found.done
    assert found.error == {"code": "unknown_stop_reason", "message": "the model stopped for 'melted', unknown here"}
