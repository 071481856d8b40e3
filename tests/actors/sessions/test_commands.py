"""Which messages run a skill's entry command."""

from __future__ import annotations

import pytest

from skill_actors.sessions.commands import SlashCommand, parse_command

SKILLS = ("tides", "caf\u00e9", "a:b")


@pytest.mark.parametrize(
    ("text", "skill", "arguments"),
    [
        ("/tides", "tides", ""),
        ("/tides  'a b' c ", "tides", "'a b' c "),
        ("/tides\ta", "tides", "a"),
        ("/tides\nsecond line", "tides", "second line"),
        ("/a:b x", "a:b", "x"),
        ("/cafe\u0301 x", "caf\u00e9", "x"),  # as some keyboards write it
    ],
)
def test_a_message_that_begins_with_the_name_of_a_skill(text: str, skill: str, arguments: str) -> None:
    assert parse_command(text, SKILLS) == SlashCommand(skill, arguments)


@pytest.mark.parametrize(
    "text", ["", "/", "/ tides", "/\u00a0tides", " /tides", "/tide", "/Tides", "//tides", "tides", "/etc"]
)
def test_every_other_message_is_an_ordinary_one(text: str) -> None:
    assert parse_command(text, SKILLS) is None
