"""Skills by name and by pattern, without a registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from skill_actors.skills import Skill, find, find_matching, index


def skill(name: str, description: str = "Does things") -> Skill:
    return Skill(name=name, description=description, root=Path("/skills") / name, digest=name)


SKILLS = index(skill(name) for name in ("my-pdf", "pdf", "pdf-forms", "a[b", "xlsx"))


def test_an_index_is_sorted_and_cannot_be_changed() -> None:
    assert list(SKILLS) == sorted(SKILLS)
    with pytest.raises(TypeError):
        SKILLS["new"] = skill("new")  # type: ignore[index]


def test_the_first_of_equal_names_holds() -> None:
    found = index([skill("pdf", "First"), skill("pdf", "Second")])
    assert [each.description for each in found.values()] == ["First"]


def test_a_skill_is_found_by_its_whole_name_only() -> None:
    assert find(SKILLS, "pdf") is SKILLS["pdf"]
    assert find(SKILLS, "pd") is None
    assert find(SKILLS, "PDF") is None


def test_a_name_is_found_in_another_spelling_of_the_same_characters() -> None:
    composed = index([skill("caf\u00e9")])
    assert find(composed, "cafe\u0301") is composed["caf\u00e9"]
    assert find_matching(composed, "cafe\u0301*") == (composed["caf\u00e9"],)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("pdf", ["pdf"]),
        ("pdf*", ["pdf", "pdf-forms"]),
        ("*pdf", ["my-pdf", "pdf"]),
        ("*pdf*", ["my-pdf", "pdf", "pdf-forms"]),
        ("?lsx", ["xlsx"]),
        ("[px]*", ["pdf", "pdf-forms", "xlsx"]),
        ("*", ["a[b", "my-pdf", "pdf", "pdf-forms", "xlsx"]),
        ("", []),
        ("p.f", []),
        ("pdf|xlsx", []),
        ("[", []),
        ("a[b", ["a[b"]),
        ("*(*", []),
    ],
)
def test_a_pattern_is_held_against_the_whole_name(pattern: str, names: list[str]) -> None:
    assert [each.name for each in find_matching(SKILLS, pattern)] == names


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    long = index([skill("a" * 60)])
    assert find_matching(long, "*a" * 40 + "b") == ()
