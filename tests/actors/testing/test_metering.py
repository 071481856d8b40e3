"""Tokens, limits, context editing, compaction and the bill of the fake API, as seen by a model client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from skill_actors.models import (
    Message,
    MessageDone,
    ModelError,
    ModelFacts,
    ModelRequest,
    Usage,
    load_prices,
)
from skill_actors.models.context_management import COMPACTION_BETA, EDITING_BETA
from skill_actors.testing import (
    Answer,
    Compaction,
    Cut,
    FakeMessagesApi,
    HangUp,
    HttpError,
    Meter,
    Reply,
    ScriptedModel,
    ServerToolUse,
    Text,
    Thinking,
    ToolUse,
    Whole,
    check_request,
    serve_in_thread,
)
from skill_actors.testing.context_edits import CLEARED, check_context, edited
from skill_actors.testing.message_events import sign
from skill_actors.testing.prompt import prompt_tokens
from support import run_virtual

MODEL = "claude-sonnet-5-5"
SMALL = ModelFacts(context_tokens=1000, min_cache_tokens=100, context_editing=True, compaction=True, known=True)
LARGE = ModelFacts(context_tokens=500_000, min_cache_tokens=100, context_editing=True, compaction=True, known=True)
HEADERS = {"x-api-key": "sk-0123456789", "anthropic-version": "2026-10-21"}
WORDS_50K = "word " * 50_000
COMPACT = {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}


def user(*content: dict[str, Any] | str) -> Message:
    return {"role": "user", "content": [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]}


def assistant(*content: dict[str, Any]) -> Message:
    return {"role": "assistant", "content": list(content)}


def call(id: str, name: str = "t") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": {"command": "ls"}}


def result(id: str, content: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content}


def ask(*messages: Message, edits: Sequence[dict[str, Any]] = (), **fields: Any) -> ModelRequest:
    extra = {"context_management": {"edits": list(edits)}} if edits else {}
    betas = (COMPACTION_BETA, EDITING_BETA) if edits else ()
    return ModelRequest(**{"model": MODEL, "messages": messages, "extra": extra, "betas": betas, **fields})


def scripted(*answers: Answer, facts: ModelFacts = LARGE) -> ScriptedModel:
    return ScriptedModel(answers, meter=Meter(now=lambda: 0.0, facts=lambda _: facts))


def answer(model: ScriptedModel, request: ModelRequest) -> MessageDone:
    async def main() -> MessageDone:
        async with model.stream(request) as events:
            last = [event async for event in events][-1]
        assert isinstance(last, MessageDone)
        return last

    return run_virtual(main)


def price_nanousd(usage: Usage) -> int:
    cost = load_prices().cost_nanousd(MODEL, usage)
    assert cost is not None
    return cost


def test_a_prompt_beyond_the_window_is_refused_before_anything_is_generated() -> None:
    model = scripted(Reply([Text("never")]), facts=SMALL)
    with pytest.raises(ModelError, match=r"prompt is too long: \d+ tokens > 1000 maximum") as caught:
        answer(model, ask(user("word " * 1200)))
    assert (caught.value.code, caught.value.retryable, caught.value.status) == ("context_exceeded", False, 400)
    assert model.meter.bill == []
    assert answer(model, ask(user("hi"))).content == [{"type": "text", "text": "never"}]


def test_an_answer_ends_where_the_window_does() -> None:
    done = answer(scripted(Reply([Text("word " * 800)]), facts=SMALL), ask(user("word " * 500)))
    assert done.stop_reason == "model_context_window_exceeded"
    assert 480 < len(done.content[0]["text"].split()) < 500
    assert done.context_tokens == done.usage.total_tokens <= SMALL.context_tokens


def test_an_answer_has_no_more_tokens_than_it_may() -> None:
    done = answer(scripted(Reply([Text("word " * 800)])), ask(user("hi"), max_tokens=100))
    assert (done.stop_reason, done.usage.output_tokens) == ("max_tokens", 100)
    assert "word " * 90 in done.content[0]["text"]
    thinking = answer(scripted(Reply([Thinking("word " * 800), Text("so")])), ask(user("hi"), max_tokens=100))
    assert [block["type"] for block in thinking.content] == ["thinking"]
    assert thinking.content[0]["signature"] == sign(thinking.content[0]["thinking"])
    tiny = answer(scripted(Reply([Text("word " * 800)])), ask(user("hi"), max_tokens=1))
    assert (tiny.content, tiny.usage.output_tokens) == ([], 1)


def test_a_call_that_is_too_long_is_no_call() -> None:
    model = scripted(Reply([Text("Now."), ToolUse("t", {"command": "word " * 800})]))
    done = answer(model, ask(user("hi"), max_tokens=100))
    assert ([block["type"] for block in done.content], done.stop_reason) == (["text"], "max_tokens")


def test_what_tools_of_the_server_give_back_is_not_output_of_the_model() -> None:
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": "word " * 500}
    model = scripted(Reply([ServerToolUse("web_search", {}, "srvtoolu_1"), Whole(found), Text("so")]))
    done = answer(model, ask(user("hi"), max_tokens=100))
    assert (done.stop_reason, len(done.content)) == ("end_turn", 3)


def test_usage_of_a_reply_that_brings_its_own_is_left_alone_and_billed() -> None:
    usage = Usage(input_tokens=3, output_tokens=100_000, cache_read_tokens=7)
    model = scripted(Reply([Text("word " * 800)], usage=usage))
    assert answer(model, ask(user("hi"), max_tokens=10)).usage == usage
    assert model.meter.billed_nanousd == price_nanousd(usage)


def history(results: int, words: int = 1000) -> list[Message]:
    messages = [user("Look at everything.")]
    for number in range(results):
        messages.append(assistant({"type": "text", "text": "Next."}, call(f"toolu_{number}", f"t{number % 2}")))
        messages.append(user(result(f"toolu_{number}", "word " * words)))
    return messages


def clear(**fields: Any) -> dict[str, Any]:
    return {"type": "clear_tool_uses_20250919", "trigger": {"type": "input_tokens", "value": 5000}, **fields}


def test_old_results_are_cleared_beyond_the_trigger_and_the_answer_says_so() -> None:
    model = scripted(Reply([Text("one")]), Reply([Text("two")]))
    plain = answer(model, ask(*history(10)))
    done = answer(model, ask(*history(10), edits=[clear()]))
    assert plain.usage.prompt_tokens > 10_000
    assert 3000 < done.usage.prompt_tokens < 4000
    applied = edited({"messages": history(10), "context_management": {"edits": [clear()]}}, 10_100)[1]
    assert applied[0]["cleared_tool_uses"] == 7
    assert applied[0]["cleared_input_tokens"] == plain.usage.prompt_tokens - done.usage.prompt_tokens


def test_beyond_its_trigger_clearing_makes_each_prompt_another_one() -> None:
    def read(edits: Sequence[dict[str, Any]]) -> int:
        model = scripted(*(Reply([Text("ok")]) for _ in range(2)))
        answer(model, ask(*history(10), edits=edits, cache=True))
        return answer(model, ask(*history(11), edits=edits, cache=True)).usage.cache_read_tokens

    assert read([]) > 10_000
    assert read([clear()]) == 0


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({}, [7, 8, 9]),
        ({"keep": {"type": "tool_uses", "value": 1}}, [9]),
        ({"keep": {"type": "tool_uses", "value": 0}}, []),
        ({"keep": {"type": "tool_uses", "value": 50}}, list(range(10))),
        ({"exclude_tools": ["t0"]}, [0, 2, 4, 6, 7, 8, 9]),
        ({"clear_at_least": {"type": "input_tokens", "value": 6000}}, [7, 8, 9]),
        ({"clear_at_least": {"type": "input_tokens", "value": 9000}}, list(range(10))),
        ({"trigger": {"type": "tool_uses", "value": 10}}, list(range(10))),
        ({"trigger": {"type": "tool_uses", "value": 9}}, [7, 8, 9]),
        ({"trigger": {"type": "input_tokens", "value": 20_000}}, list(range(10))),
    ],
)
def test_which_results_are_cleared(fields: dict[str, Any], left: list[int]) -> None:
    body = {"messages": history(10), "context_management": {"edits": [clear(**fields)]}}
    read, _ = edited(body, 10_100)
    results = [block for message in read["messages"] for block in message["content"] if block["type"] == "tool_result"]
    assert [number for number, block in enumerate(results) if block["content"] != CLEARED] == left


def test_inputs_of_cleared_calls_are_cleared_where_asked_for() -> None:
    for inputs, kept in ((True, 3), (["t0"], 6), (False, 10)):
        body = {"messages": history(10), "context_management": {"edits": [clear(clear_tool_inputs=inputs)]}}
        read, _ = edited(body, 10_100)
        calls = [block for message in read["messages"] for block in message["content"] if block["type"] == "tool_use"]
        assert sum(block["input"] != {} for block in calls) == kept


def test_old_thinking_is_cleared() -> None:
    def thought(text: str) -> Message:
        return assistant({"type": "thinking", "thinking": text, "signature": sign(text)}, {"type": "text", "text": "x"})

    messages = [user("a"), thought("one " * 50), user("b"), thought("two " * 50), user("c")]
    for keep, kept in ((None, 1), ({"type": "thinking_turns", "value": 2}, 2), ("all", 2), ({"type": "all"}, 2)):
        edit = {"type": "clear_thinking_20251015"} | ({} if keep is None else {"keep": keep})
        body = {"messages": messages, "context_management": {"edits": [edit]}}
        assert check_context(body, [EDITING_BETA]) is None
        read, applied = edited(body, 100)
        blocks = [block for message in read["messages"] for block in message["content"]]
        assert sum(block["type"] == "thinking" for block in blocks) == kept
        assert [each["cleared_thinking_turns"] for each in applied] == ([1] if kept == 1 else [])


@pytest.mark.parametrize(
    ("edits", "betas", "why"),
    [
        ([COMPACT], [], "context_management: Extra inputs"),
        ([COMPACT], [EDITING_BETA], "needs the beta compact-2026-01-12"),
        ([clear()], [COMPACTION_BETA], "needs the beta context-management-2025-06-27"),
        ([{**COMPACT, "trigger": {"type": "input_tokens", "value": 49_999}}], [COMPACTION_BETA], "equal to 50000"),
        ([{**COMPACT, "trigger": {"type": "tool_uses", "value": 60_000}}], [COMPACTION_BETA], "trigger: Input should"),
        ([{**COMPACT, "pause_after_compaction": "yes"}], [COMPACTION_BETA], "valid boolean"),
        ([{**COMPACT, "keep": 3}], [COMPACTION_BETA], "keep: Extra inputs"),
        ([clear(keep={"type": "tool_uses", "value": -1})], [EDITING_BETA], "keep: Input should"),
        ([clear(), clear()], [EDITING_BETA], "may be given once"),
        ([clear(), {"type": "clear_thinking_20251015"}], [EDITING_BETA], "must come first"),
        ([{"type": "forget_everything"}], [EDITING_BETA], "does not match any of the expected tags"),
        ("all of them", [EDITING_BETA], "Input should be a valid list"),
    ],
)
def test_what_is_asked_wrongly_of_the_context_is_refused(edits: Any, betas: list[str], why: str) -> None:
    body = {"messages": [user("x")], "context_management": {"edits": edits}}
    assert why in (check_context(body, betas) or "")


def test_a_conversation_beyond_the_threshold_is_compacted_and_goes_on_from_its_summary() -> None:
    model = scripted(Reply([Text("Go on.")]), Reply([Text("Yes.")]))
    question = user("Remember the blue door. " + WORDS_50K)
    done = answer(model, ask(question, edits=[COMPACT]))
    summary, said = done.content
    assert (summary["type"], said["text"], done.stop_reason) == ("compaction", "Go on.", "end_turn")
    assert "blue door" in summary["content"]
    assert done.usage.prompt_tokens > 50_000  # the summary's call is billed, too
    assert done.context_tokens < 1000
    more = [assistant(summary, said), user("And?")]
    with_history = answer(model, ask(question, *more, edits=[COMPACT]))
    assert with_history.usage.prompt_tokens < 1000
    model.enqueue(Reply([Text("Yes.")]))
    assert answer(model, ask(*more, edits=[COMPACT])).usage == with_history.usage


def test_below_the_threshold_nothing_is_compacted() -> None:
    done = answer(scripted(Reply([Text("Hm.")])), ask(user("word " * 40_000), edits=[COMPACT]))
    assert [block["type"] for block in done.content] == ["text"]


def test_a_compaction_that_pauses_is_an_answer_of_its_own() -> None:
    model = scripted(Reply([Text("Go on.")]))
    question = user(WORDS_50K)
    pausing = {**COMPACT, "pause_after_compaction": True}
    paused = answer(model, ask(question, edits=[pausing]))
    assert ([block["type"] for block in paused.content], paused.stop_reason) == (["compaction"], "compaction")
    assert paused.usage.prompt_tokens > 50_000
    done = answer(model, ask(question, assistant(*paused.content), edits=[pausing]))
    assert [block.get("text") for block in done.content] == ["Go on."]
    assert len(model.meter.bill) == 2


def test_a_summary_that_failed_replaces_nothing() -> None:
    meter = Meter(facts=lambda _: LARGE, summarise=lambda _: None)
    model = ScriptedModel([Reply([Text("a")]), Reply([Text("b")])], meter=meter)
    done = answer(model, ask(user(WORDS_50K), edits=[COMPACT]))
    assert done.content[0] == {"type": "compaction", "content": None}
    assert done.usage.prompt_tokens > 100_000
    again = answer(model, ask(user(WORDS_50K), assistant(*done.content), user("And?"), edits=[COMPACT]))
    assert again.usage.prompt_tokens > 100_000


def test_a_summary_can_be_scripted_and_needs_the_beta_when_it_goes_back() -> None:
    model = scripted(Reply([Compaction("All of it."), Text("So.")]), Reply([Text("x")]))
    content = answer(model, ask(user("hi"))).content
    assert content[0] == {"type": "compaction", "content": "All of it."}
    with pytest.raises(ModelError, match="needs the beta"):
        answer(model, ask(user("hi"), assistant(*content), user("on")))
    assert answer(model, ask(user("hi"), assistant(*content), user("on"), betas=(COMPACTION_BETA,))).content


def test_only_a_summary_may_begin_or_end_the_messages_in_place_of_the_user() -> None:
    summary = {"type": "compaction", "content": "All.", "encrypted_content": "x", "signature": "s", "tool_changes": []}
    base = {"model": MODEL, "max_tokens": 10}
    assert check_request({**base, "messages": [assistant(summary), user("on")]}) is None
    assert check_request({**base, "messages": [user("a"), assistant(summary)]}) is None
    first = check_request({**base, "messages": [assistant({"type": "text", "text": "x"}, summary), user("on")]})
    assert "first message must use the `user` role" in (first or "")
    assert "compaction.content" in (
        check_request({**base, "messages": [assistant({"type": "compaction", "content": ""}), user("on")]}) or ""
    )


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        ({"type": "for ever"}, "of type `ephemeral`"),
        ({"type": "ephemeral", "ttl": "2h"}, "ttl of `5m` or `1h`"),
        ({"type": "ephemeral", "ttl": "1h"}, "must not come after"),
    ],
)
def test_a_breakpoint_that_the_api_does_not_know_is_refused(mark: dict[str, str], why: str) -> None:
    system = [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]
    content = [{"type": "text", "text": "x", "cache_control": mark}]
    body = {"model": MODEL, "max_tokens": 10, "system": system, "messages": [{"role": "user", "content": content}]}
    assert why in (check_request(body) or "")


def test_a_tool_that_is_searched_for_cannot_have_a_breakpoint() -> None:
    tool = {"name": "t", "input_schema": {"type": "object"}, "defer_loading": True}
    body = {"model": MODEL, "max_tokens": 10, "messages": [user("x")], "tools": [tool]}
    assert check_request(body) is None
    tool["cache_control"] = {"type": "ephemeral"}
    assert "defer_loading" in (check_request(body) or "")


def test_the_bill_is_what_the_price_table_says_of_the_usage() -> None:
    model = scripted(*(Reply([Text("ok")]) for _ in range(2)))
    request = ask(user("word " * 500), cache=True)
    first, second = answer(model, request), answer(model, request)
    assert first.usage.cache_write_5m_tokens == second.usage.cache_read_tokens > 500
    assert [entry.usage for entry in model.meter.bill] == [first.usage, second.usage]
    assert [entry.nanousd for entry in model.meter.bill] == [price_nanousd(u) for u in (first.usage, second.usage)]
    assert model.meter.billed_nanousd == price_nanousd(first.usage) + price_nanousd(second.usage)


def test_inference_in_one_country_and_the_fast_mode_cost_more_and_usage_says_so() -> None:
    plain = scripted(Reply([Text("ok")]))
    answer(plain, ask(user("hello there")))
    local = scripted(Reply([Text("ok")]))
    answer(local, ask(user("hello there"), extra={"inference_geo": "us"}))
    assert local.meter.billed_nanousd == pytest.approx(plain.meter.billed_nanousd * 1.1, abs=1)
    fast = scripted(Reply([Text("ok")]))
    answer(fast, ask(user("hello there"), model="claude-opus-5", extra={"speed": "fast"}))
    (entry,) = fast.meter.bill
    assert entry.nanousd == entry.usage.input_tokens * 10_000 + entry.usage.output_tokens * 50_000
    unknown = scripted(Reply([Text("ok")]))
    answer(unknown, ask(user("hello there"), extra={"speed": "fast"}))
    assert unknown.meter.bill[0].nanousd is None


def test_a_model_without_a_price_is_on_the_bill_without_one() -> None:
    model = scripted(Reply([Text("ok")]))
    answer(model, ask(user("hi"), model="somebody-elses"))
    assert (model.meter.bill[0].nanousd, model.meter.billed_nanousd) == (None, 0)


@pytest.fixture
def api() -> Iterator[FakeMessagesApi]:
    with serve_in_thread(FakeMessagesApi()) as served:
        yield served


def body(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": text}], **fields}


def post(api: FakeMessagesApi, data: Any, path: str = "/v1/messages", **headers: str) -> httpx.Response:
    return httpx.post(api.base_url + path, json=data, headers={**HEADERS, **headers}, trust_env=False, timeout=20)


COUNT = "/v1/messages/count_tokens"


def test_the_endpoint_counts_what_a_message_would_have_as_input(api: FakeMessagesApi) -> None:
    asked = {name: value for name, value in body("word " * 500).items() if name != "max_tokens"}
    counted = post(api, asked, COUNT).json()
    assert counted == {"input_tokens": prompt_tokens(asked)}
    usage = post(api, body("word " * 500)).json()["usage"]
    assert usage["input_tokens"] == counted["input_tokens"]
    assert len(api.bill) == 1


def test_counting_shows_what_clearing_would_do(api: FakeMessagesApi) -> None:
    asked = {"model": MODEL, "messages": history(10), "context_management": {"edits": [clear()]}}
    counted = post(api, asked, COUNT, **{"anthropic-beta": EDITING_BETA}).json()
    assert counted["context_management"]["original_input_tokens"] > 10_000 > counted["input_tokens"]


@pytest.mark.parametrize(
    ("data", "status", "why"),
    [
        (body(), 400, "max_tokens: Extra inputs are not permitted"),
        ({"model": MODEL, "messages": []}, 400, "at least one message"),
        ({"model": MODEL, "messages": [user(call("x"))]}, 400, "does not match any of the expected tags"),
        ([], 400, "not a JSON object"),
    ],
)
def test_the_endpoint_that_counts_refuses_as_the_other_does(
    api: FakeMessagesApi, data: Any, status: int, why: str
) -> None:
    refused = post(api, data, COUNT)
    assert (refused.status_code, why in refused.json()["error"]["message"]) == (status, True)


def test_the_endpoint_that_counts_wants_a_key_and_a_post(api: FakeMessagesApi) -> None:
    assert httpx.post(api.base_url + COUNT, json={}, trust_env=False, timeout=30).status_code == 401
    assert httpx.get(api.base_url + COUNT, headers=HEADERS, trust_env=False, timeout=30).status_code == 405


def test_an_answer_over_http_tells_iterations_and_edits_at_its_end(api: FakeMessagesApi) -> None:
    betas = {"anthropic-beta": f"{EDITING_BETA},{COMPACTION_BETA}"}
    asked = body(WORDS_50K, context_management={"edits": [clear(), COMPACT]})
    whole = post(api, asked, **betas).json()
    assert [each["type"] for each in whole["usage"]["iterations"]] == ["compaction", "message"]
    assert whole["context_management"] == {"applied_edits": []}
    streamed = post(api, {**asked, "stream": True}, **betas).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: ")]
    (last,) = [event for event in events if event["type"] == "message_delta"]
    assert [each["type"] for each in last["usage"]["iterations"]] == ["compaction", "message"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert deltas[0]["type"] == "compaction_delta"
    assert deltas[0]["content"] == whole["content"][0]["content"]
    assert api.bill[0].nanousd == api.bill[1].nanousd


def test_errors_are_not_billed_and_answers_are_however_they_end(api: FakeMessagesApi) -> None:
    for error in (HttpError(429), HttpError(529), HttpError(400), HangUp()):
        api.enqueue(error)
        if isinstance(error, HangUp):
            with pytest.raises(httpx.HTTPError):
                post(api, body(stream=True))
        else:
            assert post(api, body(stream=True)).status_code == error.status
    assert api.bill == []
    api.enqueue(Reply([Text("word " * 50)], fail=Cut(after=1)), Reply([Text("word " * 50)]))
    with pytest.raises(httpx.HTTPError):
        post(api, body(stream=True))
    post(api, body(stream=True))
    cut, whole = api.bill
    assert (cut.usage, cut.nanousd) == (whole.usage, whole.nanousd)
    assert (cut.request_id, api.billed_nanousd) == ("req_fake_000005", 2 * (whole.nanousd or 0))


def test_an_answer_that_is_lost_after_it_was_generated_is_billed_unless_it_becomes_an_error(
    api: FakeMessagesApi,
) -> None:
    api.interrupt("POST", "/v1/messages", HttpError(500), after=True)
    assert post(api, body()).status_code == 500
    assert api.bill == []
    api.interrupt("POST", "/v1/messages", HangUp(), after=True)
    with pytest.raises(httpx.HTTPError):
        post(api, body())
    assert len(api.bill) == 1


def test_an_answer_whose_client_has_gone_is_billed_whole(api: FakeMessagesApi) -> None:
    long = "word " * 80
    api.enqueue(Reply([Text(long)], delay_s=0.05), Reply([Text(long)]))
    url = f"{api.base_url}/v1/messages"
    with httpx.stream("POST", url, json=body(stream=True), headers=HEADERS, trust_env=False) as response:
        next(line for line in response.iter_lines() if "content_block_delta" in line)
    post(api, body(stream=True))
    gone, whole = api.bill
    assert gone.usage == whole.usage
    assert gone.usage.output_tokens > 80
