"""Where an expression without `starts` can begin is worked out, and nothing that it fits is left out by that."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scan_kit import corpus
from skilld_monitor.scanning import builtin, read_rules
from skilld_monitor.scanning.beginnings import Beginnings
from skilld_monitor.scanning.folding import fold
from skilld_monitor.scanning.rules import Rule

RULE: dict[str, Any] = {"id": "x", "category": "sensitive_data", "severity": "high", "kind": "pattern"}
ANYWHERE = [rule for rule in builtin().rules if rule.beginnings is not None and rule.kind != "key"]
UNUSUAL = [
    r"\d{3}-\d{2}-\d{4}",
    r"(?P<secret>[A-Z]{2}\d\d)[a-z]{1,3}",
    r"(?:AB|CD|\d\d)-x{2,4}",
    r"(\d)\1-\d\d",
    r"([ab])\d\1\d{3}",
    r"(a|-)?12",
    r"(?:(a)|b)12(?(1)x|y)",
    r"(?i:ab)12",
    r"(?i)ab-1",
    r"(?s)a.-1",
    r"(?m:^)\d\d-\d",
    r"(?x) 12 - \d",
    r"(?<=a)12-\d",
    r"(?<!a)12-\d",
    r"[+(2](?<!\w[+(2])(?:(?<=\+)1\d|(?<=\()2\d\)|(?<=2)1-\d)",
    r"(?=1)\d\d-\d",
    r"\w{1,4}@\w",
    r"[\w.-](?<!a[\w.-])[\w.-]{0,3}@[a-z]",
    r"[^@\s]{1,3}@",
    r".{1,3}@b",
    r"[ab]{2}[1-3]{2,4}?:",
    r"[ab]+@",
    r"[é1]{1,3}@",
    r"[^a]\d-\d",
    r"[\d-]{4}b",
    r"(?:12){2}",
    r"(?:1-?){3}2",
    r"\D\d\D\d\S\s",
    r"1(?:2|-)(?:@|A)b",
    r"[9-忽]{3}",
    r"é12",
    r"1\b-2",
]
if hasattr(re, "NOFLAG") and hasattr(re, "_parser"):  # since Python 3.11
    UNUSUAL += [r"(?>1|12)-2", r"\d++-1", r"a?+12-1"]
LETTERS = st.sampled_from("aabAB1122--@@.+( )\n:xé٣१é忽?K\u212a²İ")


@pytest.mark.parametrize("match", UNUSUAL)
@settings(max_examples=100, deadline=None)
@given(text=st.text(LETTERS, max_size=24))
def test_an_expression_however_unusual_is_found_as_if_it_were_tried_at_every_letter(match: str, text: str) -> None:
    rule = Rule({**RULE, "match": match})
    spread = text + " " * 3_000  # in a short text it is tried at every letter anyway
    folded = fold(spread)
    assert list(rule.find(folded, 0, len(folded.plain), ())) == [
        match.span(match.lastgroup or 0) for match in rule.pattern.finditer(folded.plain)
    ]


@pytest.mark.parametrize("rule", ANYWHERE, ids=lambda rule: rule.id)
@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(st.sampled_from([line["text"] for line in corpus()]) | st.text(LETTERS, max_size=12), max_size=8),
    begin=st.integers(0, 40),
)
def test_the_rules_that_come_along_find_what_they_do_at_every_letter(rule: Rule, parts: list[str], begin: int) -> None:
    folded = fold(" ".join(parts) + " " * 3_000)
    end = len(folded.plain) - 1_000
    every = {match.start() for match in rule.pattern.finditer(folded.plain, begin, end)}
    assert rule.beginnings is not None
    places = rule.beginnings.places(folded, begin, end)
    assert places is None or every <= set(places)
    assert places is None or places == sorted(set(places))


@pytest.mark.parametrize(
    ("match", "text", "places"),
    [
        (r"\d{3}-\d{2}-\d{4}", "no 123-45-6789, 12-3", [3]),
        (r"[A-Z]{2}\d{2}(?: ?\d{4}){3}", "DE12 and DEF1", [0]),
        (r"([ -])\d{2}\1\d{2}", "x 12 34-12-34-12 3", [1, 7, 10]),
        (r"\w{1,9}@\w", "to ab@c, or @b", [3, 4]),
        (r"(?:ab|cd)[^x]{3}", "abc cdx", None),
        (r"\s\d", "all of it", None),
    ],
)
def test_it_is_tried_only_where_it_can_begin(match: str, text: str, places: list[int] | None) -> None:
    folded = fold(text + "." * 3_000)
    assert Beginnings(re.compile(match)).places(folded, 0, len(folded.plain)) == places


def test_where_digits_of_another_alphabet_stand_an_expression_is_tried_at_every_letter() -> None:
    rules = read_rules([{**RULE, "match": r"\d{3}-\d{2}-\d{4}"}])
    text = "١٢٣-٤٥-٦٧٨٩ and 123-45-6789" + "." * 3_000
    assert [text[found.start : found.end] for found in rules.scan(text)] == ["١٢٣-٤٥-٦٧٨٩", "123-45-6789"]


def test_a_text_full_of_beginnings_is_tried_at_every_letter_at_once() -> None:
    folded = fold("123-45-6789 " * 2_000)
    assert Beginnings(re.compile(r"\d{3}-\d{2}-\d{4}")).places(folded, 0, len(folded.plain)) is None
    assert Beginnings(re.compile(r"\w{1,9}@\w")).places(fold("a@b " * 2_000), 0, 8_000) is None


@pytest.mark.parametrize(
    ("match", "text"),
    [
        (r"(?:\d{4}(?<=\d{2})-\d{4}|AKIA\d{4})", "no 1234-5678"),
        (r"\d{3}:(?<=1:|2:)\d{4}", "no 131:5678"),
        (r"\b(?:[A-Z]{4}(?<!ABCD)\d{6}|AKIA\d{4})", "no WXYZ123456"),
    ],
)
def test_what_looks_back_at_several_letters_leaves_no_way_out(match: str, text: str) -> None:
    assert re.search(match, text)
    assert read_rules([{**RULE, "match": match}]).scan(text)
