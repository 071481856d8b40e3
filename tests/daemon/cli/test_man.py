"""The manual pages: one for each command, with all that its help has, in a form that man takes without a word."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from skilld.cli.app import skillctl
from skilld.cli.help_pages import HelpPage, Paragraph, help_pages
from skilld.cli.man_pages import man_page

PAGES = {page.words[1:]: page for page in help_pages(skillctl, ("skillctl",))}


def rendered(source: str) -> str:
    """As a terminal shows it, without line breaks."""
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-P-c"], input=source, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    plain = re.sub(".\b", "", done.stdout)
    return " ".join(plain.split())


def test_there_is_a_page_for_every_command(tmp_path: Path) -> None:
    folder = tmp_path / "man1"
    assert CliRunner().invoke(skillctl, ["man", "--all", str(folder)]).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {"-".join(("skillctl", *words)) + ".1" for words in PAGES}
    assert {(), ("send",), ("skills", "push"), ("config", "check"), ("man",)} <= set(PAGES)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff, which man is made of, is not installed")
def test_man_takes_every_page_and_shows_every_option_as_it_is_typed() -> None:
    shown = rendered("".join(man_page(page, "1.0", "Exit codes: 0 done.") for page in PAGES.values()))
    for page in PAGES.values():
        for term, _ in page.options:
            assert term in shown, (page.words, term)
    assert 'skillctl send "analyze the log /var/log/dpkg.log"' in shown


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff, which man is made of, is not installed")
def test_text_is_never_taken_for_a_request() -> None:
    hostile = HelpPage(
        words=("skillctl", "x"),
        usage="[OPTIONS]",
        summary="Sum.",
        text=(
            Paragraph(text=".so /etc/passwd", verbatim=False),
            Paragraph(text='\'sy rm\n\\fBback\\slash ~/x `y` ^z "q"', verbatim=True),
        ),
        options=((".x", "'sp"),),
        commands=(),
        epilog="",
    )
    shown = rendered(man_page(hostile, "1.0", ".ab stop"))
    for text in (".so /etc/passwd", "'sy rm", '\\fBback\\slash ~/x `y` ^z "q"', ".x", "'sp", ".ab stop"):
        assert text in shown, shown


def test_one_page_goes_to_a_pipe_as_its_source() -> None:
    shown = CliRunner().invoke(skillctl, ["man", "skills", "push"])
    assert shown.exit_code == 0
    assert shown.stdout.startswith('.TH "SKILLCTL\\-SKILLS\\-PUSH" "1"')
    assert CliRunner().invoke(skillctl, ["man"]).stdout.startswith('.TH "SKILLCTL" "1"')


@pytest.mark.parametrize("wrong", [["nothing"], ["send", "more"], ["send", "--all", "x"]])
def test_what_is_no_command_is_wrong_use(wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(skillctl, ["man", *wrong]).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = CliRunner().invoke(skillctl, ["man", "--all", str(tmp_path / "file" / "man1")])
    assert done.exit_code == 1
    assert done.stderr.startswith("skillctl: error: cannot write to ")
