"""Facts of models, and what the API is asked to do about a long conversation."""

from __future__ import annotations

import pytest

from skill_actors.models import ModelFacts, facts_of, load_prices
from skill_actors.models.context_management import (
    COMPACTION_BETA,
    EDITING_BETA,
    MIN_COMPACTION_TOKENS,
    context_management,
)
from skill_actors.models.facts import parse_facts
from skill_actors.testing.betas import BETAS
from skill_actors.testing.context_edits import check_context

ENTRY = """
[[model]]
models = ["a", "b"]
context_tokens = 1000
max_output_tokens = 100
min_cache_tokens = 10
context_editing = true
compaction = false
"""


def test_a_model_is_found_by_its_id_with_and_without_a_date() -> None:
    assert facts_of("claude-haiku-4-5") == facts_of("claude-haiku-4-5-20251001")
    assert facts_of("claude-haiku-4-5").context_tokens == 200_000
    assert facts_of("claude-fable-5-1").compaction


def test_a_model_that_is_not_listed_has_cautious_facts_and_says_so() -> None:
    unknown = facts_of("somebody-elses-model")
    assert unknown == ModelFacts()
    assert (unknown.known, unknown.compaction, unknown.context_editing) == (False, False, False)
    assert facts_of("claude-fable-5-1").known


def test_every_model_with_a_price_has_facts() -> None:
    assert [model for model in load_prices().rates if model != "offline" and not facts_of(model).known] == []


def test_a_file_of_facts_is_read_as_it_is_written() -> None:
    assert parse_facts(ENTRY, "x")["b"] == ModelFacts(
        context_tokens=1000, max_output_tokens=100, min_cache_tokens=10, context_editing=True, known=True
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (ENTRY + ENTRY, "model 2: a is listed twice"),
        (ENTRY.replace("compaction = false", ""), "unknown or missing key 'compaction'"),
        (ENTRY + "known = true", "unknown or missing key 'known'"),
        (ENTRY.replace("1000", '"1000"'), "context_tokens must be a int"),
        (ENTRY.replace("true", "1"), "context_editing must be a bool"),
        (ENTRY.replace("= 10\n", "= -1\n"), "min_cache_tokens must be a int"),
    ],
)
def test_a_wrong_file_of_facts_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_facts(text, "x")


def test_nothing_is_asked_of_a_model_that_offers_nothing() -> None:
    assert context_management(ModelFacts(), compact_at_tokens=100_000, clear_at_tokens=1) == ({}, ())
    assert context_management(facts_of("claude-opus-5"), compact_at_tokens=None) == ({}, ())


def test_compaction_is_asked_for_with_its_beta_and_never_below_the_apis_minimum() -> None:
    extra, betas = context_management(facts_of("claude-opus-5"), compact_at_tokens=1000)
    edit = {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": MIN_COMPACTION_TOKENS}}
    assert (extra, betas) == ({"context_management": {"edits": [edit]}}, (COMPACTION_BETA,))
    extra, _ = context_management(
        facts_of("claude-opus-5"), compact_at_tokens=800_000, instructions="Be brief.", pause=True
    )
    assert extra["context_management"]["edits"][0] == {
        "type": "compact_20260112",
        "trigger": {"type": "input_tokens", "value": 800_000},
        "instructions": "Be brief.",
        "pause_after_compaction": True,
    }


def test_what_is_asked_for_is_taken_by_the_api() -> None:
    extra, betas = context_management(
        facts_of("claude-opus-5"), compact_at_tokens=90_000, clear_at_tokens=40_000, clear_at_least_tokens=5000
    )
    assert betas == (EDITING_BETA, COMPACTION_BETA)
    assert set(betas) <= BETAS
    assert [edit["type"] for edit in extra["context_management"]["edits"]] == [
        "clear_tool_uses_20250919",
        "compact_20260112",
    ]
    body = {"messages": [{"role": "user", "content": "x"}], **extra}
    assert check_context(body, betas) is None
    assert "compact-2026-01-12" in (check_context(body, [EDITING_BETA]) or "")
    assert check_context(body, []) == "context_management: Extra inputs are not permitted"


def test_a_model_that_clears_but_does_not_compact_is_asked_for_that_alone() -> None:
    extra, betas = context_management(facts_of("claude-sonnet-4-5"), compact_at_tokens=90_000, clear_at_tokens=40_000)
    assert betas == (EDITING_BETA,)
    assert len(extra["context_management"]["edits"]) == 1
