"""Which skills lists of names and patterns permit."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from skill_actors.skills.choice import SkillRules, is_pattern

NAMES = ("pdf", "pdf-forms", "tides", "Tides", "résumé", "odd[1]")


def permitted(rules: SkillRules) -> list[str]:
    return [name for name in NAMES if rules.permits(name)]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, list(NAMES)),
        ([], []),
        ({}, list(NAMES)),
        ({"allow": None, "deny": None}, list(NAMES)),
        ({"allow": []}, []),
        ({"allow": ["*"]}, list(NAMES)),
        (["pdf"], ["pdf"]),
        (["pdf*"], ["pdf", "pdf-forms"]),
        (["?df", "tide[st]"], ["pdf", "tides"]),
        ({"deny": ["pdf"]}, ["pdf-forms", "tides", "Tides", "résumé", "odd[1]"]),
        ({"allow": ["pdf*"], "deny": ["*-forms"]}, ["pdf"]),
        ({"allow": ["pdf"], "deny": ["*"]}, []),
        ({"deny": ["*df*", "[tT]*", "re\u0301sume\u0301"]}, ["odd[1]"]),
        (["odd[1]"], ["odd[1]"]),
        (["df", "pd", "pdf\n"], []),
    ],
)
def test_denied_wins_and_names_are_matched_whole(
    setting: Sequence[str] | Mapping[str, Any] | None, expected: list[str]
) -> None:
    rules = SkillRules.of_setting(setting)
    assert permitted(rules) == expected
    assert not rules.permits_all or expected == list(NAMES)


def test_look_alike_spelling_does_not_get_past_a_denial() -> None:
    rules = SkillRules(deny=("file",))
    assert not rules.permits("\ufb01le")
    assert not SkillRules(deny=("\ufb01le",)).permits("file")


def test_pattern_with_many_stars_is_judged_at_once() -> None:
    assert not SkillRules(allow=("a*" * 90 + "b",)).permits("a" * 64)


@pytest.mark.parametrize(
    ("text", "expected"), [("pdf", False), ("pdf*", True), ("?", True), ("[a]", True), ("", False)]
)
def test_patterns_are_told_from_names(text: str, expected: bool) -> None:
    assert is_pattern(text) is expected
