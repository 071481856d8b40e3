"""A trace is drawn whole, whatever programs made of it, and nothing in it steers a terminal."""

from __future__ import annotations

import time
from typing import Any

import pytest

from skilld.cli.span_tree import draw_trace, duration_text, trace_summary

EVENT: dict[str, Any] = {
    "agent": "shop",
    "channel": "LLM",
    "level": "INFO",
    "data": {},
    "parent": None,
    "span": None,
    "duration_ms": None,
    "status": None,
    "model": None,
    "input_tokens": None,
    "output_tokens": None,
    "cost_usd": None,
}


def event(id: int, at_ms: float = 0, **given: Any) -> dict[str, Any]:
    return {**EVENT, "id": id, "name": f"n{id}", "time": f"2026-01-01T00:00:{at_ms / 1000:09.6f}Z", **given}


def span(id: int, name: str, parent: str | None = None, at_ms: float = 0, took_ms: float = 1, **given: Any) -> Any:
    about = {"span": name, "parent": parent, "duration_ms": took_ms, "status": "ok", "name": name}
    return event(id, at_ms, **{**about, **given})


def drawn(*events: dict[str, Any], columns: int = 100) -> list[str]:
    return [line.text for line in draw_trace(events, columns)]


def names(*events: dict[str, Any]) -> list[str]:
    """What stands at the left."""
    return [line.split("█")[0].rstrip() for line in drawn(*events)]


USED: dict[str, Any] = {"model": "m", "input_tokens": 120, "output_tokens": 45, "cost_usd": 0.0012}
TRACE = [
    span(3, "chat m", "top", 100, 500, **USED),
    event(2, 150, span="chat m", name="cache.miss", level="WARNING", data={"key": "k"}),
    span(4, "tool", "top", 700, 200, status="error", data={"error.type": "TimeoutError"}),
    span(1, "top", None, 0, 1000),
    event(5, 950, span="top", name="done"),
]


def test_a_trace_is_a_tree_with_bars_on_one_axis() -> None:
    assert drawn(*TRACE) == [
        "top                      █████████████████████████   1.00 s ok",
        "├─ chat m                  █████████████             500 ms ok 120 in 45 out $0.0012",
        '│  └─ · WARNING LLM cache.miss {"key": "k"}',
        "├─ tool                                   ██████     200 ms error TimeoutError",
        "└─ · INFO LLM done",
    ]
    assert [line.failed for line in draw_trace(TRACE, 100)] == [False, False, False, True, False]


def test_what_is_deeper_stands_below_its_parent_whichever_line_is_drawn_beside_it() -> None:
    events = [
        span(1, "top", took_ms=100),
        span(2, "one", "top", 10),
        span(3, "in one", "one", 11),
        span(4, "last", "top", 20),
        span(5, "in last", "last", 21),
        span(6, "deepest", "in last", 22),
        span(7, "beside", "last", 23),
    ]
    assert names(*events) == [
        "top",
        "├─ one",
        "│  └─ in one",
        "└─ last",
        "   ├─ in last",
        "   │  └─ deepest",
        "   └─ beside",
    ]


def test_it_adds_up() -> None:
    assert trace_summary(TRACE) == {
        "agents": ["shop"],
        "begin": "2026-01-01T00:00:00.000000Z",
        "duration_ms": 1000.0,
        "spans": 3,
        "events": 2,
        "errors": 1,
        "input_tokens": 120,
        "output_tokens": 45,
        "cost_usd": 0.0012,
    }
    assert trace_summary([])["cost_usd"] is None


def test_a_span_whose_parent_is_missing_stands_alone_and_says_so() -> None:
    assert names(span(1, "orphan", "0123456789abcdef"), event(2, 5, span="gone")) == [
        "orphan (of 01234567, which is not here)",
        "· INFO LLM n2",
    ]


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_spans_that_are_each_others_parents_are_drawn_once(length: int) -> None:
    circle = [span(n, f"s{n}", f"s{(n + 1) % length}", n) for n in range(length)]
    below = span(99, "below", "s0", 99)
    lines = names(*circle, below, span(100, "top", None, 100))
    assert len(lines) == length + 2
    assert len({line.split("─ ")[-1].split(" (")[0] for line in lines}) == length + 2
    assert sum("are a circle" in line for line in lines) == (length > 1)


def test_a_span_that_is_there_twice_is_drawn_twice_and_its_children_once() -> None:
    assert names(span(1, "a"), span(2, "a", None, 1), span(3, "b", "a", 2)) == ["a", "└─ b", "a"]


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_line_is_longer_than_the_terminal_or_steers_it(columns: int) -> None:
    hostile = "\x1b[31m\n\r\t\u202e" + "x" * 300
    lines = drawn(
        span(1, hostile, data={"error.type": hostile}, model=hostile),
        event(2, 0, span=hostile, name=hostile, data={hostile: hostile}),
        columns=columns,
    )
    assert len(lines) == 2
    assert all(len(line) <= columns and line.isprintable() for line in lines)


def test_times_that_are_none_and_no_time_at_all_are_drawn() -> None:
    assert len(drawn({**span(1, "a"), "time": None}, span(2, "b", None, 5, 0), {**event(3), "time": None})) == 3
    assert len(drawn({**span(1, "a"), "time": None})) == 1
    assert drawn() == []


def test_what_is_nested_very_deeply_stays_on_the_screen() -> None:
    chain = [span(n, f"s{n}", f"s{n - 1}" if n else None, n) for n in range(3000)]
    began_s = time.perf_counter()
    lines = drawn(*chain)
    assert time.perf_counter() - began_s < 5, "it takes 0.05 s"
    assert len(lines) == 3000
    assert max(len(line) for line in lines) <= 100


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [(0.0004, "0 µs"), (0.25, "250 µs"), (1.234, "1.23 ms"), (512, "512 ms"), (1240, "1.24 s"), (90_000, "1.5 min")],
)
def test_durations_are_for_people(duration_ms: float, text: str) -> None:
    assert duration_text(duration_ms) == text


def test_what_was_found_stands_below_the_span_or_event_it_was_found_in() -> None:
    rule = {
        "severity": "high",
        "category": "sensitive_data",
        "rule": "card",
        "direction": "output",
        "sample": "**\x1b[2J",
    }
    findings = [{**rule, "event": 5, "sample": ""}, {**rule, "event": 1, "severity": "low"}, {**rule, "event": 99}]
    lines = list(draw_trace(TRACE, 100, findings))
    assert [line.text for line in lines if "card" in line.text] == [
        "│  ! low sensitive_data card (output): ** [2J",
        "      ! high sensitive_data card (output)",
    ]
    assert [line.failed for line in lines if "card" in line.text] == [False, True]
    assert lines[1].text.startswith("│  !"), "below the span, above what it called"
