"""No call can use more than its bound: the fake API's counter, and its bill, are the judges."""

from __future__ import annotations

import base64
import unicodedata
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_kit import png
from ledger_kit import account, request
from skill_actors.models.base import ModelRequest, Usage
from skill_actors.models.facts import facts_of
from skill_actors.models.prices import load_prices
from skill_actors.models.request import count_body, request_body
from skill_actors.sessions.ledger.bound import CONTAINER_SKILL_TOKENS, IMAGE_TOKENS, PDF_TOKENS, CallBound, bound_of
from skill_actors.sessions.ledger.costs import CallCosts
from skill_actors.sessions.ledger.hold import Hold
from skill_actors.testing.metering import Meter

SONNET = "claude-sonnet-5-5"
ANY_TEXT = st.text(st.characters(), max_size=200) | st.text("ab \n\"'\\{}[]<\u200b\ud800𐍈日", max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
PICTURE = st.builds(
    lambda width, height: {
        "type": "image",
        "source": {
            "type": "base64",
            "media_type": "image/png",
            "data": base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8) + width.to_bytes(4) + height.to_bytes(4)).decode(),
        },
    },
    st.integers(1, 10_000),
    st.integers(1, 10_000),
)
TEXT = st.builds(lambda text: {"type": "text", "text": text}, ANY_TEXT)
DOCUMENT = st.builds(
    lambda source, title: {"type": "document", "source": source, "title": title},
    st.builds(lambda text: {"type": "text", "media_type": "text/plain", "data": text}, ANY_TEXT)
    | st.builds(lambda blocks: {"type": "content", "content": blocks}, st.lists(TEXT | PICTURE, max_size=3))
    | st.builds(
        lambda pages: {
            "type": "base64",
            "media_type": "application/pdf",
            "data": base64.b64encode(b"%PDF" + b"/Type /Page " * pages).decode(),
        },
        st.integers(0, 600),
    ),
    ANY_TEXT,
)
RESULT = st.builds(
    lambda content: {"type": "tool_result", "tool_use_id": "toolu_1", "content": content},
    ANY_TEXT | st.lists(TEXT | PICTURE | DOCUMENT, max_size=3),
)
USER = st.lists(TEXT | PICTURE | DOCUMENT | RESULT, max_size=4)
CALL = st.builds(lambda input: {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {"a": input}}, JSON)
THOUGHT = st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "c2ln"}, ANY_TEXT)
ASSISTANT = st.lists(TEXT | CALL | THOUGHT, max_size=3)
TOOL = st.builds(
    lambda text, schema: {"name": "t", "description": text, "input_schema": {"type": "object", "properties": schema}},
    ANY_TEXT,
    st.dictionaries(ANY_TEXT, JSON, max_size=3),
)


@st.composite
def requests(draw: st.DrawFn) -> ModelRequest:
    messages = [
        {"role": role, "content": draw(blocks)}
        for _ in range(draw(st.integers(1, 3)))
        for role, blocks in (("user", USER | ANY_TEXT), ("assistant", ASSISTANT))
    ]
    return ModelRequest(
        model=draw(st.sampled_from([SONNET, "claude-haiku-4-5", "unknown-model"])),
        system=draw(ANY_TEXT),
        messages=messages[: draw(st.integers(1, len(messages)))],
        tools=draw(st.lists(TOOL, max_size=3)),
        max_tokens=draw(st.integers(1, 100_000)),
        cache=draw(st.booleans()),
    )


@settings(max_examples=400, deadline=None)
@given(requests())
def test_the_api_never_counts_more_tokens_than_the_bound_of_the_bytes(made: ModelRequest) -> None:
    counted = Meter().count(count_body(made))["input_tokens"]
    facts = facts_of(made.model)
    bound = bound_of(made, facts)
    window = facts.context_tokens if facts.known else counted
    assert min(counted, window) <= bound.prompt_tokens  # the API refuses more than the window, before it bills
    assert bound.output_tokens == made.max_tokens


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=2000))
def test_a_text_has_no_more_tokens_than_bytes(text: str) -> None:
    bound = bound_of(request(text), facts_of(SONNET))
    assert bound.prompt_tokens >= len(text.encode("utf-8", "replace"))


def test_what_a_tokenizer_may_make_longer_counts_as_long() -> None:
    empty = bound_of(request(""), facts_of("unknown")).prompt_tokens
    for first in range(0x80, 0x110000, 0x80):
        text = "".join(chr(code) for code in range(first, first + 0x80) if not 0xD800 <= code < 0xE000)
        longer = sum(len(unicodedata.normalize("NFKC", char).encode()) for char in text)
        bound = bound_of(request(text), facts_of("unknown")).prompt_tokens - empty
        assert bound >= max(longer, len(text.encode())), hex(first)


def test_what_the_endpoint_does_not_count_is_added_to_its_count() -> None:
    skills = [{"type": "anthropic", "skill_id": name, "version": "latest"} for name in ("pdf", "xlsx")]
    made = request("word " * 50_000, extra={"container": {"skills": skills}})
    bound = bound_of(made, facts_of(SONNET))
    assert bound.counted(1000).prompt_tokens == 1000 * 1.05 + 500 + 2 * CONTAINER_SKILL_TOKENS


RATES = st.sampled_from(sorted(load_prices().rates))
COUNT = st.integers(0, 2_000_000)


@settings(max_examples=500, deadline=None)
@given(RATES, COUNT, COUNT, COUNT, COUNT, st.integers(0, 128_000), st.integers(0, 20), st.sampled_from(["", "us"]))
def test_no_usage_within_the_tokens_costs_more_than_the_worst_case(
    model: str, plain: int, read: int, written: int, hour: int, output: int, searches: int, geo: str
) -> None:
    """Whatever way the input is split over the cache, and into whichever tier of prices it falls."""
    usage = Usage(
        input_tokens=plain,
        cache_read_tokens=read,
        cache_write_5m_tokens=written,
        cache_write_1h_tokens=hour,
        output_tokens=output,
        web_search_requests=searches,
        inference_geo=geo,
    )
    prices = load_prices()
    worst = prices.worst_nanousd(
        model, input_tokens=usage.prompt_tokens + 7, output_tokens=output, searches=searches, long_cache=hour > 0
    )
    cost = prices.cost_nanousd(model, usage)
    assert cost is not None
    assert worst is not None
    assert cost <= worst


def test_pictures_and_documents_have_their_documented_maxima_and_not_the_size_of_their_bytes() -> None:
    data = base64.b64encode(png(600, 600)).decode() * 100
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    made = ModelRequest(model="unknown", messages=[{"role": "user", "content": [picture, picture]}])
    assert 2 * IMAGE_TOKENS < bound_of(made, facts_of("unknown")).prompt_tokens < 2 * IMAGE_TOKENS + 1000
    pdf = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}
    made = ModelRequest(model="unknown", messages=[{"role": "user", "content": [pdf]}])
    assert bound_of(made, facts_of("unknown")).prompt_tokens > PDF_TOKENS
    known = ModelRequest(model=SONNET, messages=made.messages)
    assert bound_of(known, facts_of(SONNET)).prompt_tokens == facts_of(SONNET).context_tokens


def test_a_result_of_the_apis_own_tool_that_holds_a_document_is_bounded_as_one() -> None:
    nested = {"type": "web_fetch_result", "content": {"type": "document", "source": {"type": "base64", "data": "JVBE"}}}
    block = {"type": "web_fetch_tool_result", "tool_use_id": "srvtoolu_1", "content": nested}
    made = ModelRequest(model="unknown", messages=[{"role": "assistant", "content": [block]}])
    assert bound_of(made, facts_of("unknown")).prompt_tokens > PDF_TOKENS


LONG = "word " * 50_000


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "t", "name": "n", "input": {"type": "image", "source": LONG}},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"type": "image", "source": {"type": "file", "a": LONG}}},
        {"type": "image", "source": LONG},
        {"type": "image", "source": {"type": "base64", "data": ""}, "title": LONG},
        {"type": "text", "text": '"type": "image", "source": ' + LONG},
        {"type": "document", "source": {"type": "content", "content": LONG}},
        {"type": "document", "source": {"type": "text", "data": LONG}},
        {"type": "tool_result", "tool_use_id": "t", "content": LONG},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": LONG}]},
    ],
)
def test_text_that_calls_itself_a_picture_is_bounded_as_text(block: dict[str, object]) -> None:
    made = ModelRequest(model="unknown", messages=[{"role": "assistant", "content": [block]}])
    assert bound_of(made, facts_of("unknown")).prompt_tokens > len(LONG)


# -- the API's own tools -----------------------------------------------------------------------------------------


def served(**tool: Any) -> CallBound:
    return bound_of(request(model=SONNET, tools=[{"name": "x", **tool}]), facts_of(SONNET))


@pytest.mark.parametrize("kind", ["custom", "bash_20250124", "text_editor_20250728", "memory_20250818"])
def test_tools_that_the_caller_runs_end_the_sampling(kind: str) -> None:
    assert served(type=kind).work.rounds == 1


def test_tools_that_the_api_runs_let_it_read_the_growing_prompt_again() -> None:
    bound = served(type="code_execution_20260521")
    assert (bound.work.rounds, bound.output_tokens) == (10, 10 * bound.answer_tokens)
    rounds = [bound.prompt_tokens + n * (25_000 + bound.answer_tokens) for n in range(10)]
    assert bound.input_tokens == sum(rounds)
    assert bound.work.container_s == 3600


def test_no_round_reads_more_than_the_window() -> None:
    bound = served(type="some_tool_of_tomorrow_20991231")  # how much it returns is not known
    window = facts_of(SONNET).context_tokens
    assert bound.input_tokens == bound.prompt_tokens + 9 * window


def test_searches_are_bounded_by_what_the_request_allows() -> None:
    assert served(type="web_search_20250305", max_uses=3).work.searches == 3
    assert served(type="web_search_20250305").work.searches == 30


def test_tools_on_servers_of_others_and_summaries_count_as_further_samplings() -> None:
    facts = facts_of(SONNET)
    remote = bound_of(request(model=SONNET, extra={"mcp_servers": [{"type": "url"}]}), facts)
    assert remote.work.rounds == 10
    edits = {"context_management": {"edits": [{"type": "compact_20260112"}]}}
    assert bound_of(request(model=SONNET, extra=edits), facts).work.rounds == 2


def test_an_hour_in_the_cache_is_priced_as_such() -> None:
    block = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    made = ModelRequest(model=SONNET, messages=[{"role": "user", "content": [block]}])
    assert bound_of(made, facts_of(SONNET)).long_cache
    assert not bound_of(request(model=SONNET, cache=True), facts_of(SONNET)).long_cache
    assert "1h" not in str(request_body(request("x" * 50_000, model=SONNET, cache=True)))


# -- what a call is settled at -----------------------------------------------------------------------------------


def settled(made: ModelRequest, usage: Usage, seconds: float = 0.0) -> Decimal:
    """US dollars."""
    costs = CallCosts(load_prices())
    bound = bound_of(made, facts_of(made.model))
    hold = Hold(id=1, account=account(), day="", model=made.model, bound=bound, amounts=costs.worst(made.model, bound))
    used = costs.used(hold, made.model, usage, seconds)
    assert used.priced
    assert used.nanousd <= hold.amounts.nanousd
    return Decimal(used.nanousd) / 10**9


RUNS_CODE = [{"type": "code_execution_20260521", "name": "code_execution"}]


def test_a_container_is_paid_by_time_and_for_five_minutes_at_least() -> None:
    made = request(model=SONNET, tools=RUNS_CODE)
    five_minutes = Decimal("0.05") * 5 / 60
    ran = Usage(code_execution_requests=1)
    assert settled(made, ran, 1) == pytest.approx(five_minutes)
    assert settled(made, ran, 600) == pytest.approx(2 * five_minutes)
    assert settled(made, Usage(), 600) == 0  # it was offered and not used


def test_a_container_that_files_were_put_into_is_paid_also_if_nothing_ran() -> None:
    upload = {"type": "container_upload", "file_id": "file_1"}
    made = ModelRequest(model=SONNET, messages=[{"role": "user", "content": [upload]}], tools=RUNS_CODE)
    assert settled(made, Usage(), 1) > 0


def test_what_was_asked_for_and_is_dearer_is_paid_also_if_the_answer_does_not_mention_it() -> None:
    usage = Usage(input_tokens=100)
    plain = settled(request(model="claude-opus-5"), usage)
    assert settled(request(model="claude-opus-5", extra={"inference_geo": "us"}), usage) == plain * Decimal("1.1")
    assert settled(request(model="claude-opus-5", extra={"speed": "fast"}), usage) == plain * 2
    assert settled(request(model="claude-opus-5"), Usage(input_tokens=100, service_tier="batch")) == plain / 2
