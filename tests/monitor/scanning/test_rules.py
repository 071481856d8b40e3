# ruff: noqa: RUF001 - letters that look alike are what it is about
"""Rules are data: checked when they are read, named when they are wrong, and the same when they come back."""

from __future__ import annotations

from typing import Any

import pytest

from skilld_monitor.scanning import DIRECTIONS, RuleError, builtin, read_rules, rules_as_json

RULE: dict[str, Any] = {
    "id": "shop.project-name",
    "category": "sensitive_data",
    "severity": "high",
    "kind": "words",
    "match": ["blue heron", "Operation Teapot"],
}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": "Has Spaces"}, "id"),
        ({"id": 5}, "id"),
        ({"category": "other"}, "category"),
        ({"severity": "awful"}, "severity"),
        ({"kind": "guess"}, "kind"),
        ({"match": "text"}, "match"),
        ({"match": []}, "match"),
        ({"match": ["\u200b"]}, "match"),
        ({"kind": "pattern", "match": "("}, "match"),
        ({"kind": "pattern", "match": "a*"}, "match"),
        ({"kind": "pattern", "match": "(a+)+b"}, "match"),
        ({"kind": "pattern", "match": r"(?:\s+\w+)*end"}, "match"),
        ({"kind": "pattern", "match": "a" * 30_000}, "match"),
        ({"confidence": 2}, "confidence"),
        ({"confidence": True}, "confidence"),
        ({"mask": "paint"}, "mask"),
        ({"check": "luck"}, "check"),
        ({"directions": ["up"]}, "directions"),
        ({"directions": "input"}, "directions"),
        ({"unless": ["("]}, "unless"),
        ({"needs": [1]}, "needs"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_rule_that_cannot_be_used_is_named_with_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(RuleError, match=field) as caught:
        read_rules([{**RULE, **changes}])
    assert caught.value.field == field
    assert caught.value.rule == str({**RULE, **changes}["id"])


@pytest.mark.parametrize("missing", ["category", "severity", "kind", "match"])
def test_a_rule_without_what_it_needs_says_so(missing: str) -> None:
    with pytest.raises(RuleError, match=f"{missing}: is missing"):
        read_rules([{name: value for name, value in RULE.items() if name != missing}])


def test_two_rules_of_one_name_are_an_error() -> None:
    with pytest.raises(RuleError, match="two rules"):
        read_rules([RULE, RULE])


def test_words_are_found_where_they_stand_alone_however_they_are_written() -> None:
    rules = read_rules([RULE])
    for text in (
        "the Blue Heron flies",
        "BLUE  HERON",
        "blue_heron",
        "ｂｌｕｅ ｈｅｒｏｎ",
        "about operation\nteapot.",
    ):
        assert [finding.rule for finding in rules.scan(text)] == ["shop.project-name"], text
    for text in ("blue herons", "skyblue heron", "blue", "the heron is blue"):
        assert rules.scan(text) == [], text


def test_a_rule_holds_for_its_directions_alone() -> None:
    rules = read_rules([{**RULE, "directions": ["output"]}])
    assert {direction for direction in DIRECTIONS if rules.scan("blue heron", direction)} == {"output"}


def test_what_an_excuse_begins_before_is_no_finding_and_one_that_stands_near_excuses_nothing() -> None:
    rule = {**RULE, "kind": "command", "match": r"\bfire\b", "unless": [r"\bdo not fire\b"]}
    rules = read_rules([rule])
    assert rules.scan("please do not fire") == []
    assert len(rules.scan("do not fire, but then fire")) == 1
    assert len(rules.scan("fire (do not fire)")) == 1


def test_the_gravest_of_those_that_overlap_stands_for_them_and_others_are_told_apart() -> None:
    rules = read_rules(
        [
            {**RULE, "id": "low", "severity": "low", "kind": "pattern", "match": "abcdef"},
            {**RULE, "id": "high", "kind": "pattern", "match": "defghi"},
            {**RULE, "id": "command", "category": "dangerous_commands", "kind": "pattern", "match": "cde"},
        ]
    )
    found = rules.scan("xx abcdefghi xx")
    assert [(finding.rule, finding.start, finding.end) for finding in found] == [("high", 3, 12), ("command", 5, 8)]


def test_alerts_follow_severity() -> None:
    for severity, alert in (("low", "suspicious"), ("medium", "suspicious"), ("high", "dangerous")):
        (finding,) = read_rules([{**RULE, "severity": severity}]).scan("blue heron")
        assert finding.alert == alert


def test_rules_come_back_as_they_went_and_are_of_the_same_version() -> None:
    again = read_rules(rules_as_json(builtin()))
    assert again.version == builtin().version
    assert [rule.id for rule in again.rules] == [rule.id for rule in builtin().rules]
    assert read_rules([RULE]).version != read_rules([{**RULE, "severity": "low"}]).version


def test_no_rule_at_all_finds_nothing() -> None:
    assert read_rules([]).mask({"a": "rm -rf /"}) == ({"a": "rm -rf /"}, [])


def test_every_built_in_rule_says_what_it_is() -> None:
    for rule in builtin().rules:
        assert rule.description
        assert rule.id.split(".")[0] in ("secret", "personal", "command", "prompt")
        assert rule.starts or rule.needs or rule.id.startswith("personal.") or rule.kind == "key", rule.id
