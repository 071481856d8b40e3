"""Text of others, shown where people decide: inert, on one line, and never two texts as one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.sessions.policy import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rm -rf 'a b' # é 漢 🙂", "rm -rf 'a b' # é 漢 🙂"),
        ("a\x1b[2J\x1b]0;x\x07b", "a\\x1b[2J\\x1b]0;x\\x07b"),
        ("safe\r\nrm", "safe\\r\\nrm"),
        ("a\tb\x7f\x9b", "a\\tb\\x7f\\x9b"),
        ("\u202etxt.exe\u2066", "\\u202etxt.exe\\u2066"),
        ("r\u200bm\ufeff\u00adx\u2028", "r\\u200bm\\ufeff\\xadx\\u2028"),
        ("a\u00a0b\u3000c\u3164d\u2800", "a\\xa0b\\u3000c\\u3164d\\u2800"),
        ("a\ufe0f\U000e0041\U000e0100\ue000\ud800", "a\\ufe0f\\U000e0041\\U000e0100\\ue000\\ud800"),
        ("\\x1b \\n", "\\\\x1b \\\\n"),
    ],
)
def test_what_cannot_be_seen_or_has_an_effect_is_its_escape(text: str, expected: str) -> None:
    assert shown(text) == expected


@given(text=st.text(alphabet=st.characters(codec=None)))
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    line = shown(text)
    assert all(unicodedata.category(char)[0] not in "C" and (char == " " or not char.isspace()) for char in line)
    assert line.encode().decode() == line


@given(one=st.text(max_size=5), other=st.text(max_size=5))
def test_two_texts_never_look_the_same(one: str, other: str) -> None:
    assert (shown(one) == shown(other)) == (one == other)
