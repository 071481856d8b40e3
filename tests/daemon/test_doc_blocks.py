"""What the manual's blocks hold: configurations that are taken, JSON that is some, and commands that a test types."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from shutil import copyfile

import click
import pytest

from doc_kit import ROOT, WITH_MODEL, WITHOUT_MODEL, blocks, calls, indented_blocks, page_names, parsed
from skill_actors.models.prices import load_prices
from skill_actors.workshop.setup_file.definition import read_file
from skill_actors.workshop.setup_file.reading import read_setup
from skill_actors.workshop.workflows.definition import read_workflow
from skilld.config import load_config
from skilld.monitor.inspection.rule_files import layered, read_rule_file

PAGES = page_names()
FIGURES = ("docs/benchmarks.md", "docs/design/")  # figures as programs printed them, and diagrams
SETUP = {"agents", "profiles", "workers", "schedules"}  # sections of a setup file
OTHERS = {"case", "project"}  # tests of a skill, a package's entry points: TOML, and no configuration
PROGRAM = re.compile(r"(\$ |sudo |\w+=\S* )*(skillctl|skilld|python3?|systemctl|make|pip|curl|apt(-get)?|git|cd)( |$)")

pytestmark = pytest.mark.skipif(not PAGES, reason="reads the manual, and this is a copy of the tests")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_commands_is_typed_by_a_test_or_says_why_not(page: str) -> None:
    for block in blocks(page):
        if not block.is_command or block.mark == "not run":
            continue
        if block.mark == "run by":
            test = ROOT / block.why.partition(",")[0]
            assert test.is_file(), f"{block}: there is no {test}"
            assert Path(page).name in test.read_text(), f"{block}: {test} does not read this page"
        elif page != "README.md":  # that has a test of its own
            assert page in (*WITHOUT_MODEL, *WITH_MODEL), f"{block}: name the page in tests/doc_kit.py, or say why not"
            assert block.kind == "sh", f"{block}: what is typed begins with ```sh"


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_in_a_block_without_a_fence(page: str) -> None:
    found = list(indented_blocks(page))
    if page.startswith(FIGURES):
        assert [line for _, line in found if PROGRAM.match(line)] == []
    else:
        assert found == [], "say by a fence what it is"


@pytest.mark.parametrize("page", PAGES)
def test_every_configuration_that_a_page_shows_is_taken(page: str, tmp_path: Path) -> None:
    for number, block in enumerate(block for block in blocks(page) if block.kind == "toml"):
        file = tmp_path / f"{number}.toml"
        file.write_text(block.text)
        keys = tomllib.loads(block.text).keys()
        if "price" in keys:
            assert load_prices(file).has("our-model"), block
        elif "stage" in keys:
            assert read_workflow(tomllib.loads(block.text)).stage, block
        elif "rule" in keys:
            assert layered([read_rule_file(file)]).rules, block
        elif keys & SETUP:
            copyfile(ROOT / "examples/workflows/release.toml", tmp_path / "release.toml")
            assert read_file(read_setup(file).data).agents, block
        elif not keys & OTHERS:
            load_config(file, {"HOME": str(tmp_path)}, {})


@pytest.mark.parametrize("page", PAGES)
def test_every_json_that_a_page_shows_is_some(page: str) -> None:
    for block in blocks(page):
        kind = block.kind.partition(" ")[0]
        for text in [block.text] if kind == "json" else block.text.splitlines() if kind == "jsonl" else []:
            json.loads(text)


def test_the_pages_that_are_typed_have_something_to_type() -> None:
    for page in (*WITHOUT_MODEL, *WITH_MODEL):
        assert any(block.is_command and not block.mark for block in blocks(page)), page


# The reference is made from the program's help: its examples are held to the program here, not typed.


def examples() -> list[tuple[str, ...]]:
    """The calls in the examples of the reference."""
    text = (ROOT / "docs/reference/cli.md").read_text() if PAGES else ""
    shown = re.findall(r"^```text\nExamples?:\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return sorted({call for block in shown for line in block.splitlines() for call in calls(line)})


def test_the_reference_has_examples() -> None:
    assert len(examples()) > 60


@pytest.mark.parametrize("call", examples(), ids=" ".join)
def test_every_example_of_the_reference_is_a_call_that_there_is(call: tuple[str, ...]) -> None:
    assert parsed(call[1:]).callback is not None


def test_an_example_that_is_none_is_found() -> None:
    with pytest.raises(click.UsageError):
        parsed(["send", "--no-such-option", "x"])
    with pytest.raises(click.UsageError):
        parsed(["skills", "sned"])
