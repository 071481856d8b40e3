"""Secrets in what tools print: gone whole, in pieces, cut through, overlapping; everything else as it was."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skill_actors.backends.redaction import HIDDEN, Redactor

LETTERS = "ab"
values = st.lists(st.text(LETTERS, min_size=8, max_size=12), min_size=1, max_size=3)
texts = st.text(LETTERS + "c", max_size=60)


def shown(redactor: Redactor, pieces: list[str]) -> str:
    stream = redactor.stream()
    return "".join([*(stream.feed(piece) for piece in pieces), stream.end()])


def test_values_are_replaced_and_nothing_else() -> None:
    redactor = Redactor(["s3cr3t-token"])
    assert redactor.text("a s3cr3t-token b s3cr3t-tokens3cr3t-token") == "a *** b ******"
    assert redactor.text("s3cr3t-toke") == "s3cr3t-toke"
    assert Redactor().text("x") == "x"
    assert not Redactor()
    assert "s3cr3t" not in repr(redactor)


@pytest.mark.parametrize("value", ['quo"te\\slash', "tab\there-and-more", "\u00fcml\u00e4ut-is-long", "a b/c?d&e=fgh"])
def test_value_is_found_as_json_and_urls_write_it(value: str) -> None:
    redactor = Redactor([value])
    for form in (
        value,
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        json.dumps(value).replace("/", "\\/"),
        quote(value, safe=""),
        re.sub("%..", lambda escape: escape[0].lower(), quote(value, safe="")),
        quote(value),
        quote_plus(value),
        quote(value, safe="!'()*"),
        quote(value, safe="!'()*;/?:@&=+$,#"),
        urlencode({"": value}).removeprefix("="),
    ):
        assert redactor.text(f"<{form.strip(chr(34))}>") == "<***>"


def test_lines_of_a_key_are_found_one_by_one() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADAN\nx\n-----END KEY-----"
    assert Redactor([key]).text("     1\t-----BEGIN KEY-----\n     2\tMIIEvQIBADAN\n     3\tx") == (
        "     1\t***\n     2\t***\n     3\tx"
    )


@given(values, texts)
@example(["abababab", "babababa"], "cababababac")
def test_no_value_is_left_whole_and_what_is_far_from_one_stays(secrets: list[str], text: str) -> None:
    hidden = Redactor(secrets).text(text)
    assert not any(secret in hidden for secret in secrets)
    if not any(secret in text for secret in secrets):
        assert hidden == text


@given(values, st.lists(st.text(LETTERS + "c", max_size=9), max_size=12))
@example(["abcabcab"], ["abca", "bcab"])
@example(["aaaaaaaa"], ["aaaaa"] * 10)
def test_pieces_hide_what_the_whole_hides(secrets: list[str], pieces: list[str]) -> None:
    redactor = Redactor(secrets)
    whole = "".join(pieces)
    seen = shown(redactor, pieces)
    assert not any(secret in seen for secret in secrets)
    # No character of a value is shown, however the text was cut.
    covered = sum(end - start for start, end in redactor.spans(whole))
    assert len(seen.replace("*", "")) <= len(whole) - covered
    if not covered and not redactor.begun(whole, 4):
        assert seen == whole


@given(values, texts, st.integers(0, 60), st.integers(0, 60))
def test_where_the_middle_is_missing_no_half_of_a_value_is_left(
    secrets: list[str], text: str, one: int, two: int
) -> None:
    first, last = sorted((min(one, len(text)), min(two, len(text))))
    head, tail = Redactor(secrets).cut(text[:first], text[last:])
    assert not any(head.endswith(secret[:size]) for secret in secrets for size in range(4, len(secret)))
    assert not any(tail.startswith(secret[-size:]) for secret in secrets for size in range(4, len(secret)))


def test_stream_is_late_only_by_what_may_be_a_value() -> None:
    stream = Redactor(["s3cr3t-token"]).stream()
    assert stream.feed("plain s3cr") == "plain "
    assert stream.feed("ap ") == "s3crap "
    assert stream.feed("s3cr3t-to") == ""
    assert stream.feed("ken!") == "***!"
    assert stream.feed("s3cr3t-t") == ""
    assert stream.end() == HIDDEN  # it broke off
