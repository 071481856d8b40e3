"""The assembly of streamed messages, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_actors.models.assembly import MessageAssembly
from skill_actors.models.base import BlockDelta, BlockDone, BlockStart, MessageDone, ModelError, ModelEvent, Usage
from skill_actors.testing import Reply, Text, Thinking, ToolUse
from skill_actors.testing.message_events import steps

START: dict[str, Any] = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 3}}}
STOP: dict[str, Any] = {"type": "message_stop"}


def ending(stop_reason: str = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage}


def begun(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def stopped(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def feed(*events: Any) -> Sequence[ModelEvent]:
    assembly = MessageAssembly()
    return [made for event in events for made in assembly.feed(event)]


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(
    text=st.text(min_size=1),
    thinking=st.text(min_size=1),
    input=st.dictionaries(st.text(max_size=9), json_values, max_size=3),
    chunk=st.integers(1, 9),
)
def test_blocks_are_the_same_however_they_are_cut(text: str, thinking: str, input: dict[str, Any], chunk: int) -> None:
    reply = Reply([Thinking(thinking, "sig"), Text(text), ToolUse("t", input, "toolu_1")], chunk_chars=chunk)
    made = feed(*steps(reply, {"model": "m", "messages": []}))
    assert made[-1] == MessageDone(
        model="m",
        stop_reason="tool_use",
        content=[
            {"type": "thinking", "thinking": thinking, "signature": "sig"},
            {"type": "text", "text": text},
            {"type": "tool_use", "id": "toolu_1", "name": "t", "input": input},
        ],
        usage=made[-1].usage if isinstance(made[-1], MessageDone) else Usage(),
    )
    assert "".join(event.text for event in made if isinstance(event, BlockDelta)) == thinking + text


def test_blocks_may_be_open_at_the_same_time() -> None:
    made = feed(
        START,
        begun(0, type="text", text=""),
        begun(1, type="text", text="be"),
        delta(1, type="text_delta", text="ta"),
        delta(0, type="text_delta", text="alpha"),
        stopped(1),
        stopped(0),
        ending(),
        STOP,
    )
    assert isinstance(made[-1], MessageDone)
    assert made[-1].content == [{"type": "text", "text": "alpha"}, {"type": "text", "text": "beta"}]


def test_usage_is_cumulative_and_keeps_what_is_not_repeated() -> None:
    start = {
        "type": "message_start",
        "message": {
            "model": "m",
            "usage": {
                "input_tokens": 1,
                "output_tokens": 1,
                "cache_read_input_tokens": 5,
                "cache_creation_input_tokens": 7,
                "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
            },
        },
    }
    last = ending(
        input_tokens=10, output_tokens=20, cache_creation_input_tokens=8, server_tool_use={"web_search_requests": 2}
    )
    made = feed(start, last, STOP)
    assert isinstance(made[-1], MessageDone)
    assert made[-1].usage == Usage(
        input_tokens=10,
        output_tokens=20,
        cache_read_tokens=5,
        cache_write_5m_tokens=4,
        cache_write_1h_tokens=4,
        web_search_requests=2,
    )


def test_citations_and_compactions_are_kept() -> None:
    citation = {"type": "char_location", "cited_text": "x"}
    made = feed(
        START,
        begun(0, type="text", text="", citations=None),
        delta(0, type="citations_delta", citation=citation),
        delta(0, type="text_delta", text="x"),
        stopped(0),
        begun(1, type="compaction", content=None),
        delta(1, type="compaction_delta", content="in short"),
        stopped(1),
        ending(),
        STOP,
    )
    assert isinstance(made[-1], MessageDone)
    assert made[-1].content == [
        {"type": "text", "text": "x", "citations": [citation]},
        {"type": "compaction", "content": "in short"},
    ]


def test_a_summary_that_failed_and_what_comes_with_one_are_kept() -> None:
    made = feed(
        START,
        begun(0, type="compaction", content=None, signature="sig"),
        delta(0, type="compaction_delta", content=None, encrypted_content="opaque"),
        stopped(0),
        ending("compaction"),
        STOP,
    )
    assert isinstance(made[-1], MessageDone)
    assert made[-1].content == [
        {"type": "compaction", "content": None, "signature": "sig", "encrypted_content": "opaque"}
    ]
    assert made[-1].stop_reason == "compaction"


def sampling(kind: str, input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {"type": kind, "input_tokens": input_tokens, "output_tokens": output_tokens}


def test_what_a_summary_cost_is_counted_and_fills_no_window() -> None:
    iterations = [sampling("compaction", 9000, 500), sampling("message", 600, 10), sampling("message", 700, 20)]
    first = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1300}}}
    (*_, done) = feed(first, ending(output_tokens=30, iterations=iterations), STOP)
    assert isinstance(done, MessageDone)
    assert done.usage == Usage(input_tokens=1300 + 9000, output_tokens=30 + 500)
    assert done.context_tokens == 720


def test_without_iterations_the_window_holds_what_was_counted() -> None:
    (*_, done) = feed(START, ending(output_tokens=4, service_tier="batch"), STOP)
    assert isinstance(done, MessageDone)
    assert (done.context_tokens, done.usage.service_tier) == (7, "batch")


@pytest.mark.parametrize(
    "iterations",
    [{}, [3], "many", [{"type": "compaction", "input_tokens": -1}], [{"type": "message", "cache_creation": 5}]],
)
def test_iterations_that_make_no_sense_break_the_protocol(iterations: Any) -> None:
    with pytest.raises(ModelError, match="message_delta is malformed"):
        feed(START, ending(iterations=iterations))


def test_unknown_events_and_deltas_and_pings_are_skipped() -> None:
    made = feed(
        {"type": "ping"},
        START,
        {"type": "of_the_future"},
        begun(0, type="text", text="a"),
        delta(0, type="future_delta", much=1),
        stopped(0),
        ending(),
        STOP,
    )
    assert made[1:4] == [BlockStart(0, "text"), BlockDelta(0, "text", "a"), BlockDone(0, {"type": "text", "text": "a"})]


@pytest.mark.parametrize("stop_reason", ["max_tokens", "refusal", "model_context_window_exceeded"])
def test_a_block_that_is_not_whole_is_left_out_of_a_message_cut_short(stop_reason: str) -> None:
    call = begun(1, type="tool_use", id="t", name="n", input={})
    cut = delta(1, type="input_json_delta", partial_json='{"a": ')
    whole = [begun(0, type="text", text="a"), stopped(0)]
    made = feed(START, *whole, call, cut, stopped(1), ending(stop_reason), STOP)
    assert isinstance(made[-1], MessageDone)
    assert made[-1].content == [{"type": "text", "text": "a"}]


@pytest.mark.parametrize(
    "events",
    [
        [STOP],
        [START, START],
        [START, STOP],
        [START, delta(0, type="text_delta", text="x")],
        [START, begun(0, type="text", text=""), begun(0, type="text", text="")],
        [START, begun(0, type="text", text=""), stopped(0), begun(0, type="text", text="")],
        [START, begun(0, type="text", text=""), delta(0, type="text_delta", text=5)],
        [START, begun(0, type="text", text=""), ending(), STOP],
        [
            START,
            begun(0, type="tool_use", input={}),
            delta(0, type="input_json_delta", partial_json="[1]"),
            stopped(0),
            ending("tool_use"),
            STOP,
        ],
        [START, begun(0)],
        [START, ending(output_tokens=-1)],
        [START, ending(output_tokens="many")],
        [START, ending(output_tokens=True)],
        [{"type": "message_start"}],
        [{"type": "message_start", "message": {"model": "m", "usage": 3}}],
        ["text"],
        [None],
    ],
)
def test_events_that_make_no_sense_are_protocol_errors(events: list[Any]) -> None:
    with pytest.raises(ModelError) as caught:
        feed(*events)
    assert (caught.value.code, caught.value.retryable) == ("protocol", False)


def test_an_error_event_is_raised_with_the_usage_so_far_and_without_the_secret() -> None:
    assembly = MessageAssembly(secret="s3cret")
    assembly.feed(START)
    with pytest.raises(ModelError, match=r"too busy for \*\*\*") as caught:
        assembly.feed({"type": "error", "error": {"type": "overloaded_error", "message": "too busy for s3cret"}})
    assert (caught.value.code, caught.value.retryable) == ("overloaded", True)
    assert caught.value.usage == Usage(input_tokens=3)
