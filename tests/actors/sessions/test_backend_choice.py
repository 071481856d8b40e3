"""The setting `backends` of a session."""

from __future__ import annotations

from typing import Any

import pytest

from skill_actors.sessions.backend_choice import BackendChoice, choices_of, choices_to_json


def test_names_and_objects_are_read_and_written_back_in_one_way() -> None:
    """What was stored by earlier versions are names, and stay names."""
    setting = ["docker", {"backend": "docker", "name": "big", "options": {"cpus": 2, "image": None}}]
    choices = choices_of(setting)
    assert choices == (BackendChoice("docker", "docker"), BackendChoice("docker", "big", {"cpus": 2}))
    written = choices_to_json(choices)
    assert written == ["docker", {"backend": "docker", "name": "big", "options": {"cpus": 2}}]
    assert choices_of(written) == choices


def test_an_object_that_says_no_more_than_a_name_is_written_as_the_name() -> None:
    assert choices_to_json(choices_of([{"backend": "local", "name": None, "options": {}}])) == ["local"]


DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ([], "a list of 1 to 16"),
        ("local", "a list of 1 to 16"),
        ({"backend": "local"}, "a list of 1 to 16"),
        (["local"] * 17, "a list of 1 to 16"),
        ([7], "expected names of backends"),
        ([""], "text of 1 to 200"),
        ([{"name": "x"}], "text of 1 to 200"),
        ([{"backend": "local\0"}], "text of 1 to 200"),
        ([{"backend": "local", "nme": "x"}], "unknown field 'nme'"),
        ([{"backend": "local", "name": "Big"}], "lower case"),
        ([{"backend": "local", "name": "a\n"}], "lower case"),
        ([{"backend": "local", "name": "a" * 33}], "at most 32"),
        ([{"backend": "local", "options": ["cpus"]}], "have to be an object"),
        ([{"backend": "local", "options": {"cpus": float("nan")}}], "not JSON"),
        ([{"backend": "local", "options": {"x": DEEP}}], "not JSON"),
        ([{"backend": "local", "options": {"x": "y" * 20_000}}], "longer than"),
        (["local", "local"], "more than once"),
        (["local", {"backend": "docker", "name": "local"}], "more than once"),
    ],
)
def test_what_is_no_choice_is_refused_in_words(setting: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        choices_of(setting)
