"""What the model reads of a finished call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from skill_actors.backends.link import Done, Output, Spill
from skill_actors.backends.output import clean, compose, outcome_of


def whole(text: str) -> Output:
    return Output(head=text, chars=len(text))


def shown(max_chars: int = 30_000, output_file: str | None = None, **fields: Any) -> str:
    done = replace(Done(outcome="exited", code=0), **fields)
    return compose(done, timeout_s=1.5, max_chars=max_chars, output_file=output_file)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "(no output)"),
        ({"stdout": whole("a\n")}, "a"),
        ({"stdout": whole("a\n\n")}, "a\n"),
        ({"stderr": whole("e\n")}, "[stderr]\ne"),
        ({"stdout": whole("a"), "stderr": whole("e"), "code": 2}, "a\n[stderr]\ne\n[exit code 2]"),
        ({"code": -9}, "[ended by signal 9 (SIGKILL)]"),
        ({"code": -99}, "[ended by signal 99]"),
        ({"code": 127, "error": "x: No such file", "errno": 2}, "[the command could not be started: x: No such file]"),
        ({"outcome": "refused", "code": None, "error": "why"}, "[the command was not started: why]"),
        (
            {"outcome": "timeout", "code": -9, "stdout": whole("a")},
            "a\n[timed out after 1.5 s; the command and all it had started were killed]",
        ),
        (
            {"stdout": whole("a"), "ended": 2, "left": 1},
            "a\n[2 processes that it left in the background were killed]\n[1 of its processes could not be killed]",
        ),
    ],
)
def test_streams_come_first_and_notes_after_them(fields: dict[str, Any], text: str) -> None:
    assert shown(**fields) == text


@pytest.mark.parametrize("max_chars", [1, 50, 601, 2_000, 10_000])
@pytest.mark.parametrize(("out_chars", "err_chars"), [(0, 0), (100, 0), (50_000, 0), (0, 50_000), (50_000, 50_000)])
def test_no_limit_is_ever_exceeded(max_chars: int, out_chars: int, err_chars: int) -> None:
    def stream(char: str, chars: int) -> Output:
        rest = max(0, chars - max_chars)
        return Output(head=char * min(chars, max_chars), tail=char * min(rest, max_chars), chars=chars)

    spill = Spill(bytes=9, cut=False, error=None)
    text = shown(max_chars, "file", stdout=stream("o", out_chars), stderr=stream("e", err_chars), spill=spill, code=1)
    assert 0 < len(text) <= max_chars


def test_beginning_and_end_are_kept_of_what_is_too_long() -> None:
    long = Output(head="BEGIN" + "." * 1_995, tail="." * 1_997 + "END", chars=90_000)
    text = shown(2_000, "f.txt", stdout=long, stderr=whole("E" * 100), spill=Spill(bytes=90_100, cut=False, error=None))
    assert text.startswith("BEGIN...")
    assert "...\n[... 88700 characters are left out ...]\n..." in text
    assert "END\n[stderr]\n" + "E" * 100 + "\n[the output is cut; the whole (90100 bytes" in text
    assert text.endswith("is in f.txt]")


@pytest.mark.parametrize(
    ("spill", "words"),
    [
        (Spill(bytes=7, cut=True, error=None), "its first 7 bytes are in f.txt"),
        (Spill(bytes=7, cut=False, error="No space left on device"), "has only 7 bytes: No space left"),
        (None, "[the output is cut]"),
    ],
)
def test_where_the_rest_is_or_is_not_is_said(spill: Spill | None, words: str) -> None:
    assert words in shown(1_000, "f.txt", stdout=Output(head="x" * 1_000, tail="y" * 1_000, chars=9_000), spill=spill)


def test_text_has_no_nul_and_no_half_characters() -> None:
    assert clean("a\0b\ud800c") == "a\ufffdb?c"


@pytest.mark.parametrize(
    ("done", "outcome"),
    [
        (Done(outcome="exited", code=0), "ok"),
        (Done(outcome="exited", code=1), "error"),
        (Done(outcome="exited", code=None, error="x"), "error"),
        (Done(outcome="timeout", code=-9), "timeout"),
        (Done(outcome="cancelled"), "cancelled"),
        (Done(outcome="lost"), "error"),
        (Done(outcome="refused"), "error"),
    ],
)
def test_only_exit_code_zero_is_ok(done: Done, outcome: str) -> None:
    assert outcome_of(done) == outcome
