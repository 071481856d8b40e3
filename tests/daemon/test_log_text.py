"""What is logged cannot steer a terminal, nor pass for another record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from skilld.log_text import indented, visible

HOSTILE = "name\x1b[2J\x07\x9b31m\rnext\u2028line\u202etxt\x7f\ud800 ok\ttab \u00fc"
PROGRAM = """
import logging, sys
from skilld.logs import set_up_logging
set_up_logging(sys.argv[1], "info", to_journal=sys.argv[2] == "yes")
log = logging.getLogger("skilld.test")
hostile = sys.stdin.buffer.read().decode("utf-8", "surrogatepass")
log.warning("made %s", hostile + "\\n2026-01-01 00:00:00 ERROR skilld: forged")
try:
    raise ValueError(hostile)
except ValueError:
    log.exception("failed")
"""


def logged(format: str, *, to_journal: bool) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, format, "yes" if to_journal else "no"],
        input=HOSTILE.encode("utf-8", "surrogatepass"),
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent,
        check=True,
    )
    return done.stderr.decode()


def test_control_characters_are_shown_and_letters_stay() -> None:
    shown = visible(HOSTILE)
    assert "\\x1b[2J\\x07\\x9b31m\\rnext\\u2028line\\u202etxt\\x7f" in shown
    assert shown.endswith(" ok\ttab ü")


def test_only_the_first_line_of_a_record_begins_at_the_margin() -> None:
    assert indented("one\ntwo\n\nthree") == ["one", "    two", "    ", "    three"]


@pytest.mark.parametrize("to_journal", [False, True])
def test_text_holds_no_control_character_and_no_forged_line(to_journal: bool) -> None:
    text = logged("text", to_journal=to_journal)
    assert [char for char in text if not char.isprintable() and char not in "\n\t"] == []
    beginnings = [line for line in text.splitlines() if "skilld.test: " in line]
    assert len(beginnings) == 2
    (forged,) = [line for line in text.splitlines() if "forged" in line]
    assert forged.removeprefix("<4>").startswith("    ")
    assert "ValueError: name\\x1b[2J" in text


def test_json_holds_no_control_character_either() -> None:
    lines = logged("json", to_journal=False).splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    made, failed = (json.loads(line) for line in lines)
    assert made["message"].startswith("made name\\x1b[2J")
    assert "ValueError: name\\x1b[2J" in failed["error"]
