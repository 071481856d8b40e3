"""Breakpoints of the prompt cache, judged by the cache of the fake API."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_actors.models import Message, ModelRequest, facts_of
from skill_actors.models.caching import MAX_BREAKPOINTS, with_breakpoints
from skill_actors.models.request import count_body, request_body
from skill_actors.testing import PromptCache, check_request
from skill_actors.testing.message_events import sign
from skill_actors.testing.prompt import prompt_of, prompt_tokens

MODEL = "claude-sonnet-5-5"
MIN_TOKENS = facts_of(MODEL).min_cache_tokens
CARRIERS = ("text", "image", "document", "tool_result")
LONG = "word and then " * 600
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"}


def user(*content: dict[str, Any]) -> Message:
    return {"role": "user", "content": list(content)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "description": "Does things", "input_schema": {"type": "object"}, **fields}


def marks_of(body: Mapping[str, Any]) -> list[tuple[str | int, int]]:
    """Where the breakpoints are: "tools", "system" or the number of the message, and the number of the block."""
    found: list[tuple[str | int, int]] = []
    parts: list[tuple[str | int, Any]] = [("tools", body.get("tools", ())), ("system", body.get("system", ()))]
    parts += list(enumerate(message["content"] for message in body["messages"]))
    for name, blocks in parts:
        if not isinstance(blocks, str):
            found += [(name, number) for number, block in enumerate(blocks) if block.get("cache_control")]
    return found


def request(messages: Sequence[Message], **fields: Any) -> ModelRequest:
    return ModelRequest(model=MODEL, messages=messages, cache=True, **fields)


def test_breakpoints_are_at_tools_system_and_the_last_two_user_messages() -> None:
    messages = [user(text("a")), {"role": "assistant", "content": [text("b")]}, user(text("c")), *answered("d")]
    body = request_body(request([*messages, user(text("e"))], system=LONG, tools=[tool("one", x=LONG), tool("two")]))
    assert marks_of(body) == [("tools", 1), ("system", 0), (2, 0), (4, 0)]
    assert body["system"] == [{**text(LONG), "cache_control": {"type": "ephemeral"}}]


def answered(said: str) -> list[Message]:
    return [{"role": "assistant", "content": [text(said)]}]


def test_a_request_that_does_not_ask_for_it_has_none() -> None:
    body = request_body(ModelRequest(model=MODEL, messages=[user(text(LONG))], system=LONG))
    assert (marks_of(body), body["system"]) == ([], LONG)


def test_a_prompt_that_is_too_short_to_be_kept_has_none() -> None:
    assert marks_of(request_body(request([user(text("hello"))], system="Be brief."))) == []
    grown = request_body(request([user(text("hello")), *answered("x"), user(text(LONG))], system="Be brief."))
    assert marks_of(grown) == [(2, 0)]


def test_what_cannot_carry_a_breakpoint_is_passed_over() -> None:
    tools = [tool("own", x=LONG), tool("late", defer_loading=True), {"type": "code_execution_20250825", "name": "c"}]
    content = [text(LONG), {"type": "container_upload", "file_id": "file_1"}]
    body = request_body(request([user(*content)], tools=tools))
    assert marks_of(body) == [("tools", 0), (0, 0)]


def test_breakpoints_that_are_there_count_and_stay() -> None:
    marked = {**text(LONG), "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = request_body(request([user(marked), *answered("x"), user(text("more"))], system=LONG, tools=[tool("t")]))
    assert marks_of(body) == [("tools", 0), ("system", 0), (0, 0), (2, 0)]
    assert body["messages"][0]["content"][0] == marked
    four = [{**text(f"{number}{LONG}"), "cache_control": {"type": "ephemeral"}} for number in range(4)]
    assert len(marks_of(request_body(request([user(*four)], system=LONG)))) == MAX_BREAKPOINTS
    left = request_body(request([user(text(LONG))], system=LONG, extra={"cache_control": {"type": "ephemeral"}}))
    assert marks_of(left) == []


def test_the_history_itself_is_not_changed() -> None:
    messages = [user(text(LONG)), *answered("x"), user(text("more"))]
    tools = [tool("one", x=LONG)]
    before = copy.deepcopy((messages, tools))
    request_body(request(messages, system=LONG, tools=tools))
    assert (messages, tools) == before


def test_the_body_for_counting_has_the_prompt_and_nothing_else() -> None:
    extra = {"container": "container_1", "metadata": {"user_id": "u"}, "output_config": {"effort": "low"}}
    counted = count_body(
        ModelRequest(model=MODEL, messages=[user(text("hi"))], system="s", tools=[tool("t")], extra=extra)
    )
    assert counted.keys() == {"model", "messages", "system", "tools", "output_config"}


@pytest.mark.parametrize("blocks", [1, 19, 20, 21, 60])
def test_however_many_calls_one_answer_makes_the_next_request_reads_all_before_it(blocks: int) -> None:
    messages = [user(text(LONG))]
    cache = PromptCache(lambda: 0.0)
    first = request_body(request(messages))
    assert cache.take(MODEL, prompt_of(first), MIN_TOKENS).cache_read_tokens == 0
    ids = [f"toolu_{number}" for number in range(blocks)]
    messages.append(
        {"role": "assistant", "content": [{"type": "tool_use", "id": i, "name": "t", "input": {}} for i in ids]}
    )
    messages.append(user(*({"type": "tool_result", "tool_use_id": i, "content": "ok"} for i in ids)))
    second = request_body(request(messages))
    assert cache.take(MODEL, prompt_of(second), MIN_TOKENS).cache_read_tokens == prompt_tokens(first)


@pytest.mark.parametrize(("calls", "found"), [(9, True), (10, False)])
def test_a_place_chosen_by_the_api_is_lost_behind_more_than_nine_calls(calls: int, found: bool) -> None:
    cache, ids = PromptCache(lambda: 0.0), [f"toolu_{number}" for number in range(calls)]
    body = {"model": MODEL, "cache_control": {"type": "ephemeral"}, "messages": [user(text(LONG))]}
    cache.take(MODEL, prompt_of(body), MIN_TOKENS)
    uses = [{"type": "tool_use", "id": id, "name": "t", "input": {}} for id in ids]
    results = [{"type": "tool_result", "tool_use_id": id, "content": "ok"} for id in ids]
    grown = {**body, "messages": [user(text(LONG)), {"role": "assistant", "content": uses}, user(*results)]}
    assert (cache.take(MODEL, prompt_of(grown), MIN_TOKENS).cache_read_tokens > 0) == found


@st.composite
def answers(draw: st.DrawFn, number: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the model says, and how it is answered: results of its tools, or a next question."""
    said: list[dict[str, Any]] = []
    if draw(st.booleans()):
        said.append({"type": "thinking", "thinking": "hm", "signature": sign("hm")})
    said.append(text(draw(st.sampled_from(["yes", LONG, "x" * 50]))))
    ids = [f"toolu_{number}_{call}" for call in range(draw(st.integers(0, 30)))]
    said += [{"type": "tool_use", "id": id, "name": "one", "input": {"n": id}} for id in ids]
    back: list[dict[str, Any]] = [
        {"type": "tool_result", "tool_use_id": id, "content": draw(st.sampled_from(["", "ok", LONG]))} for id in ids
    ]
    if not ids or draw(st.booleans()):
        back.append(text(draw(st.sampled_from(["go on", "!?" * 300, LONG]))))
    if draw(st.booleans()):
        back.append({"type": "image", "source": PNG})
    return said, back


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_each_request_of_a_growing_conversation_reads_all_that_the_one_before_has_written(data: st.DataObject) -> None:
    system = data.draw(st.sampled_from(["", "Be brief.", LONG]))
    tools = data.draw(st.sampled_from([[], [tool("one")], [tool("one", x=LONG), tool("two")]]))
    now_s = 0.0
    cache = PromptCache(lambda: now_s)
    messages = [user(text(data.draw(st.sampled_from(["hello", LONG]))))]
    known = 0
    for number in range(data.draw(st.integers(1, 8))):
        body = request_body(request(messages, system=system, tools=tools))
        assert len(marks_of(body)) <= MAX_BREAKPOINTS
        assert check_request(body) is None
        usage = cache.take(MODEL, prompt_of(body), MIN_TOKENS)
        assert usage.cache_read_tokens == known
        assert usage.prompt_tokens == prompt_tokens(body)
        known = prompt_tokens(body) if prompt_tokens(body) >= MIN_TOKENS else 0
        assert (usage.input_tokens == 0) == (known > 0)  # every message here ends with a block that carries one
        said, back = data.draw(answers(number))
        messages += [{"role": "assistant", "content": said}, user(*back)]
        if data.draw(st.booleans()) and not any(block["type"] == "tool_use" for block in said):
            messages.append(user(text("and another thing")))  # after a turn that was cancelled
        wait_s = data.draw(st.sampled_from([1.0, 299.0, 301.0]))
        now_s += wait_s
        known = known if wait_s < 300 else 0


def test_a_body_with_a_system_prompt_in_blocks_is_marked_at_its_end() -> None:
    body = {"model": MODEL, "system": [text(LONG), text("and more")], "messages": [user(text("hi"))]}
    assert marks_of(with_breakpoints(body, 512)) == [("system", 1), (0, 0)]
