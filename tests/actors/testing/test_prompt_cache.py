"""The cache of prompts in the fake API, by what the API documents about its own."""

from __future__ import annotations

from typing import Any

import pytest

from skill_actors.models import Usage
from skill_actors.testing import PromptCache
from skill_actors.testing.prompt import prompt_of, prompt_tokens

LONG = "word and then " * 600
MIN_TOKENS = 1024


def text(said: str, ttl: str | None = None) -> dict[str, Any]:
    mark = {} if ttl is None else {"cache_control": {"type": "ephemeral", "ttl": ttl}}
    return {"type": "text", "text": said, **mark}


def body(*content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(content)}], **fields}


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.cache = PromptCache(lambda: self.now_s)

    def take(self, asked: dict[str, Any], model: str = "m") -> Usage:
        usage = self.cache.take(model, prompt_of(asked), MIN_TOKENS)
        assert usage.prompt_tokens == prompt_tokens(asked)
        return usage


def test_what_is_written_is_read_again_and_only_at_a_breakpoint() -> None:
    at = Clock()
    asked = body(text(LONG, "5m"), text("tail"))
    first = at.take(asked)
    assert (first.cache_read_tokens, first.cache_write_1h_tokens) == (0, 0)
    assert first.input_tokens == 1
    again = at.take(asked)
    assert (again.cache_read_tokens, again.cache_write_5m_tokens) == (first.cache_write_5m_tokens, 0)
    assert at.take(body(text(LONG), text("tail"))).cache_read_tokens == 0


def test_a_change_before_the_breakpoint_is_another_prompt() -> None:
    at = Clock()
    asked = body(text(LONG, "5m"), system=LONG, tools=[{"name": "t", "input_schema": {}}])
    at.take(asked)
    assert at.take(asked).cache_read_tokens > 0
    for changed in (
        {**asked, "system": LONG + "."},
        {**asked, "tools": [{"name": "u", "input_schema": {}}]},
        {**asked, "messages": [{"role": "assistant", "content": asked["messages"][0]["content"]}]},
        {**asked, "tool_choice": {"type": "any"}},
        {**asked, "thinking": {"type": "enabled", "budget_tokens": 1024}},
    ):
        assert at.take(changed).cache_read_tokens == 0
    assert at.take(asked, "another-model").cache_read_tokens == 0


def test_a_choice_of_tools_changes_messages_but_neither_tools_nor_system() -> None:
    at = Clock()
    asked = body(text(LONG, "5m"), system=[text(LONG, "5m")])
    system_tokens = prompt_tokens({**asked, "messages": []})
    at.take(asked)
    assert at.take({**asked, "tool_choice": {"type": "none"}}).cache_read_tokens == system_tokens


@pytest.mark.parametrize(("added", "found"), [(0, True), (19, True), (20, False), (40, False)])
def test_a_breakpoint_looks_back_over_twenty_blocks_with_its_own(added: int, found: bool) -> None:
    at = Clock()
    written = at.take(body(text(LONG, "5m"))).cache_write_5m_tokens
    more = [text(f"block {number}") for number in range(added - 1)]
    asked = body(text(LONG), *more, text("end", "5m")) if added else body(text(LONG, "5m"))
    assert at.take(asked).cache_read_tokens == (written if found else 0)


def test_a_prefix_below_the_minimum_is_not_kept() -> None:
    at = Clock()
    asked = body(text("short", "5m"), text("tail"))
    assert [at.take(asked) for _ in range(2)] == [Usage(input_tokens=prompt_tokens(asked))] * 2


@pytest.mark.parametrize(("ttl", "lifetime_s"), [("5m", 300), ("1h", 3600)])
def test_an_entry_lasts_for_its_time_after_its_last_use(ttl: str, lifetime_s: float) -> None:
    at = Clock()
    asked = body(text(LONG, ttl))
    at.take(asked)
    for _ in range(3):
        at.now_s += lifetime_s - 1
        assert at.take(asked).cache_read_tokens > 0
    at.now_s += lifetime_s
    assert at.take(asked).cache_read_tokens == 0


def test_what_is_written_for_an_hour_is_told_apart() -> None:
    at = Clock()
    asked = body(text(LONG, "1h"), text(LONG, "5m"), text("tail"))
    first = at.take(asked)
    assert first.cache_write_1h_tokens > first.cache_write_5m_tokens - 10 > 0
    at.now_s += 301
    later = at.take(asked)
    assert (later.cache_read_tokens, later.cache_write_1h_tokens) == (first.cache_write_1h_tokens, 0)
    assert later.cache_write_5m_tokens == first.cache_write_5m_tokens


def test_the_longest_entry_is_read_and_nothing_before_its_end_is_written() -> None:
    at = Clock()
    whole = at.take(body(text(LONG), text(LONG, "5m"))).cache_write_5m_tokens
    second = at.take(body(text(LONG, "5m"), text(LONG, "5m")))
    assert (second.cache_read_tokens, second.cache_write_5m_tokens) == (whole, 0)
    assert at.take(body(text(LONG, "5m"))).cache_read_tokens == 0


def test_a_mark_of_the_request_itself_is_at_its_last_block() -> None:
    at = Clock()
    mark = {"cache_control": {"type": "ephemeral"}}
    first = at.take(body(text(LONG), **mark))
    assert at.take(body(text(LONG), text("more"), **mark)).cache_read_tokens == first.cache_write_5m_tokens > 0


def test_everything_can_be_forgotten() -> None:
    at = Clock()
    at.take(body(text(LONG, "5m")))
    at.cache.clear()
    assert at.take(body(text(LONG, "5m"))).cache_read_tokens == 0
