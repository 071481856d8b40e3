"""docs/library.md: its code runs as a whole, its tables say what there is."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from skill_actors import library
from skill_actors.library import CALLBACKS, KINDS, Session
from skill_actors.library.settings import Options, Settings

PAGE = Path(__file__).parents[3] / "docs/library.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the page is in the repository")


def rows(heading: str) -> list[list[str]]:
    """The cells of the last table below a heading."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


def test_the_page_runs_as_a_whole(tmp_path: Path) -> None:
    text = PAGE.read_text()
    found = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    page = [""] * text.count("\n")  # so that a traceback has its lines
    for block in found:
        first = text.count("\n", 0, block.start(1))
        page[first : first + block[1].count("\n")] = block[1].splitlines()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(page)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_each_kind_of_error_is_there_with_its_details() -> None:
    told = {words(row[0])[0]: (words(row[1]), row[2]) for row in rows("Errors")[1:]}
    assert told.keys() == KINDS.keys()
    for code, kind in KINDS.items():
        assert told[code][0] == list(kind.details), code
        assert (told[code][1] == "yes") == kind.retryable, code


def test_each_callback_is_there() -> None:
    told = [name for row in rows("Callbacks")[1:] for name in words(row[0])]
    assert sorted(told) == sorted(CALLBACKS)


def test_each_option_is_there_and_constructors_take_exactly_these() -> None:
    names = {field.name for field in dataclasses.fields(Settings)} - {"callbacks"}
    assert Options.__annotations__.keys() == names | CALLBACKS.keys()
    table = rows("Constructors")
    start = next(number for number, row in enumerate(table) if row[0] == "option")
    told = [name for row in table[start + 1 :] for name in words(row[0])]
    assert sorted(told) == sorted(names)
    for row in table[start + 1 :]:
        [*same] = words(row[0])
        default = next(field.default for field in dataclasses.fields(Settings) if field.name == same[0])
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert float(row[2]) == default, row


def test_each_method_of_a_session_is_there() -> None:
    said = "".join(re.findall(r"`([^`]*)`", PAGE.read_text()))
    for name in dir(Session):
        assert name.startswith("_") or name in said, name


CONJURES = {
    *("Session.new_local/2", "new_docker/2", "new_native/2", "new_docker!/2", "new_anthropic!/2"),
    *("Session.new_anthropic/2", "Session.chat/3", "Backend.get/1", "add_message/2", "get_messages/1"),
    *("reset_messages/1", "get_created_files/1", "execution_mode/1", "container_id/1", "session_id/1", "skills/1"),
    *("context/1", "storage/1", "storage_strategy/1", "cleanup/1", "Conjure.Registry", "Conjure.Error"),
    *("on_tool_call", "on_tool_result", "on_pause", "on_response", "on_file_*"),
}


def test_readers_from_conjure_find_each_function_and_what_is_named_for_it_is_there() -> None:
    table = rows("Coming from Conjure")[1:]
    assert {name for row in table for name in re.findall(r"`([^`]+)`", row[0])} == CONJURES
    options = Options.__annotations__.keys()
    for row in table:
        for name in words(row[1]):
            assert hasattr(library, name) or hasattr(Session, name) or name in {"execution_mode", *options}, name
