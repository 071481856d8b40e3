"""What an approver reads: every character seen, none with an effect, no row that passes for another."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval_fakes import approval
from skilld.cli.approval_card import card_of, decided_line, duration_text
from skilld.cli.inert import inert, inert_lines, pieces, suspects

NOW = datetime(2026, 1, 15, 3, 30, 0, tzinfo=UTC)
HOSTILE = "a\x1b[2J\x1b]0;t\x07b\x9b31m\rc\x00\x7f\u202ed\u2066\u200be\ufefff\u3164\ufe0f\U000e0041\u2028\ud800g"


@given(st.text())
def test_every_character_is_one_that_can_be_seen(text: str) -> None:
    shown = inert(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"} for char in shown)
    assert "\n" not in shown
    assert inert(shown) == shown
    hidden, foreign = suspects(text)
    assert set(hidden).isdisjoint(foreign)
    assert bool(hidden) or set(shown) <= set(text) | set("\\tnx0ad[]1234567890 spaces")


def test_hostile_characters_are_written_as_what_they_are() -> None:
    assert inert(HOSTILE) == (
        "a\\x1b[2J\\x1b]0;t\\x07b\\x9b31m\\x0dc\\x00\\x7f\\u202ed\\u2066\\u200be\\ufefff\\u3164\\ufe0f"
        "\\U000e0041\\u2028\\ud800g"
    )
    assert inert("naïve → 日本") == "naïve → 日本"
    assert inert("a\u00a0b\tc") == "a\\xa0b\\tc"


def test_a_gap_that_pushes_the_rest_out_of_sight_is_counted() -> None:
    assert inert("ls" + " " * 5_000 + "; rm x") == "ls[5000 spaces]; rm x"
    assert inert("a" + " " * 8 + "b") == "a        b"


def test_lines_are_told_apart_and_a_lone_carriage_return_ends_none() -> None:
    assert inert_lines("a\r\nb\nc\rd") == ["a", "b", "c\\x0dd"]


def shown(**differs: Any) -> list[str]:
    return list(card_of(approval(**differs), NOW).lines)


def test_a_card_says_all_that_the_call_would_run_with() -> None:
    view = approval(
        id="apr_1",
        session="ses_1",
        turn="trn_1",
        place="build",
        backend="docker",
        files=[{"path": "run.py", "sha256": "ab" * 32}, {"path": "d", "sha256": None, "note": "a folder"}],
        skill={"name": "tides", "digest": "f" * 64},
    )
    assert card_of(view, NOW).lines == [
        "apr_1  bash_tool in build (docker)",
        "  command     | rm -rf build",
        "  it says     | clean up",
        "  folder      /srv/workspaces/one",
        "  variables   TOKEN",
        "  files       run.py  sha256 abababababababab",
        "              d  no hash (a folder)",
        "  skill       tides ffffffffffffffff",
        "  why         rule 2 asks",
        "  session     ses_1 trn_1",
        "  state       waits for 8 s, 60 min left",
    ]


def test_no_line_of_a_command_passes_for_a_row() -> None:
    lines = shown(command="ls\n  state       allowed\n  why         harmless\n", input={})
    rows = [line[2:14].strip() for line in lines[1:]]
    assert rows.count("state") == 1
    assert rows.count("why") == 1
    assert "              | " + "  state       allowed" in lines


def test_what_is_hidden_or_looks_like_another_letter_is_named() -> None:
    lines = shown(command="c\u0430t x\u202e", input={})
    assert "  !           written as escapes above: U+202E RIGHT-TO-LEFT OVERRIDE" in lines
    assert any("\u0430 is U+0430 CYRILLIC SMALL LETTER A" in line for line in lines)
    assert not any(line.startswith("  !") for line in shown())


def test_every_part_of_an_input_without_a_command_is_shown() -> None:
    lines = shown(command=None, tool="create_file", input={"path": "a\x1b.txt", "file_text": "x\ny", "n": {"\x1b": 1}})
    assert "  path        | a\\x1b.txt" in lines
    assert lines[lines.index("  file_text   | x") + 1] == "              | y"
    assert '  n           | {"\\u001b": 1}' in lines


def test_a_program_without_a_shell_is_named_as_such() -> None:
    assert "  program     | python3 run.py" in shown(command="python3 run.py", argv=["python3", "run.py"])


def test_what_is_too_long_is_cut_in_the_middle_and_says_so() -> None:
    long = "\n".join(f"line {number}" for number in range(1_000))
    card = card_of(approval(command=long, input={}), NOW)
    assert not card.whole
    assert len(card.lines) < 60
    assert any("[960 LINES NOT SHOWN]" in line for line in card.lines)
    assert any("line 999" in line for line in card.lines)
    wide = card_of(approval(command="a" * 90_000 + "; rm x", input={}), NOW)
    assert not wide.whole
    assert any("CHARACTERS NOT SHOWN" in line and line.endswith("; rm x") for line in wide.lines)
    many = [{"path": f"f{number}", "sha256": None} for number in range(100)]
    assert not card_of(approval(files=many, environment=[f"V{n}" for n in range(100)]), NOW).whole
    complete = card_of(approval(command=long, files=many), NOW, complete=True)
    assert complete.whole
    assert len(complete.lines) > 1_100


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_an_input_holds_the_card_is_inert(value: Any) -> None:
    view = approval(
        command=None,
        input={"x": value, "\x1b[2J\nstate": value},
        cwd=HOSTILE,
        reason=HOSTILE,
        rule=HOSTILE,
        environment=[HOSTILE],
        files=[{"path": HOSTILE, "sha256": None, "note": HOSTILE}],
        skill={"name": HOSTILE, "digest": HOSTILE},
        place=HOSTILE,
        tool=HOSTILE,
        shown=HOSTILE,
        session=HOSTILE,
    )
    assert all(line.isprintable() for line in card_of(view, NOW).lines)
    assert decided_line(view).isprintable()


def test_what_became_of_it_is_one_line() -> None:
    decision = {"decision": "edit", "scope": "once", "by_uid": 7, "reason": "so\nbe it"}
    told = decided_line(approval(id="apr_1", status="allowed", decision=decision))
    assert told == "apr_1 allowed, edited, by uid 7 (so\\x0abe it): bash_tool: rm -rf build"
    assert "its time is over" in shown(expires="2026-01-15T03:29:59.000Z")[-1]
    assert shown(created="?", expires=None)[-1] == "  state       waits"


def test_durations_are_told_in_the_unit_that_fits() -> None:
    told = [duration_text(seconds) for seconds in (-5, 99, 100, 5_999, 7_200, 864_000)]
    assert told == ["0 s", "99 s", "2 min", "100 min", "2 h", "10 days"]


@pytest.mark.parametrize("columns", [20, 49, 50, 80])
def test_what_a_terminal_would_break_off_passes_for_no_row(columns: int) -> None:
    fake = "  folder      /harmless"
    spoof = "".join(f"{'x' * (columns - taken)}{fake}" for taken in (6, 16, 0))
    view = approval(command=spoof, input={"command": spoof, "wide": "日本" * 60}, cwd=spoof, reason=spoof, rule=None)
    view["files"] = [{"path": spoof, "sha256": None, "note": spoof}]
    card = card_of(view, NOW, columns=columns)
    assert card.whole
    lines = [line for line in card.lines if line.startswith("  folder")]
    assert len(lines) == 1
    for line in card.lines:
        wide = sum(unicodedata.east_asian_width(char) in "WF" for char in line)
        assert len(line) + wide <= columns, line
    said = "".join(line.strip().removeprefix("| ").removeprefix(": ") for line in card.lines)
    assert spoof.replace(" ", "") in said.replace(" ", "")


def test_a_line_that_goes_on_is_told_from_one_that_begins() -> None:
    """Else what stands behind a comment could pass for a part of it."""
    comment = f"# {'x' * 62}"
    one, two = ([*card_of(approval(command=f"{comment}{end}rm -r /"), NOW, columns=80).lines] for end in ("", "\n"))
    assert [line[14:] for line in one if "rm -r" in line] == [": rm -r /"]
    assert [line[14:] for line in two if "rm -r" in line] == ["| rm -r /"]


@given(st.text(), st.integers(min_value=2, max_value=30))
def test_pieces_leave_nothing_out_and_fit(text: str, columns: int) -> None:
    line = inert(text)
    found = pieces(line, columns)
    assert "".join(found) == line
    assert all(len(piece) <= columns for piece in found)
