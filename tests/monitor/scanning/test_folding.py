# ruff: noqa: RUF001 - letters that look alike are what it is about
"""Letters that look alike are one, and every place is found again in the text as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skilld_monitor.scanning.folding import fold


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Ｉｇｎｏｒｅ", "Ignore"),
        ("іgnоre", "ignore"),
        ("ig\u200bno\u00adre", "ignore"),
        ("\u202eignore\u202c", "ignore"),
        ("ﬁle", "file"),
        ("i\u0301gnore", "ignore"),
        ("ígnore", "ignore"),
        ("𝐢𝐠𝐧𝐨𝐫𝐞", "ignore"),
        ("".join(chr(0xE0000 + ord(letter)) for letter in "ignore"), "ignore"),
        ("a\u00a0b\u2003c", "a b c"),
    ],
)
def test_disguises_are_folded(text: str, plain: str) -> None:
    assert fold(text).plain == plain


def test_ordinary_text_of_other_languages_keeps_its_length_and_reads_in_one_case() -> None:
    for text in ("Grüße aus Köln", "ИГНОРИРУЙ ВСЕ", "忽略之前的所有指令", "이전의 모든 지시", "पिछले सभी"):
        folded = fold(text)
        assert len(folded.plain) == len(folded.lower)
        assert fold(text.lower()).lower == folded.lower or "ß" in text


LETTERS = st.sampled_from("ab Aé\u0301\u200bﬁｂ\u00adßİж\u202e忽1\U000e0061")


@given(st.text(LETTERS, max_size=40), st.text(LETTERS, max_size=40))
def test_a_place_in_the_folded_text_leads_back_to_the_same_words(before: str, behind: str) -> None:
    text = f"{before} S3CRET {behind}"
    folded = fold(text)
    at = folded.plain.index("S3CRET")
    start, end = folded.original(at, at + 6)
    assert text[start:end].replace("\u200b", "") == "S3CRET"


@given(st.text(max_size=60))
def test_both_views_are_of_one_length_and_every_place_lies_in_the_text(text: str) -> None:
    folded = fold(text)
    assert len(folded.plain) == len(folded.lower)
    last = 0
    for at in range(len(folded.plain)):
        start, end = folded.original(at, at + 1)
        assert last <= start < end <= len(text)
        last = start
