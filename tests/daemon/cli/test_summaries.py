"""The list of commands: what each does, as its own help says it, and none imported for it."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from skilld.cli.app import skillctl
from skilld.cli.help_pages import help_pages
from skilld.cli.summaries import SUMMARIES

LOADED = (
    "import sys\n"
    "from skilld.cli.app import skillctl\n"
    "try:\n"
    "    skillctl.main({arguments!r})\n"
    "finally:\n"
    "    print([name for name in sys.modules if name.startswith('skilld.cli.commands.')], file=sys.stderr)\n"
)


def test_each_command_is_listed_with_the_first_sentence_of_its_own_help() -> None:
    context = click.Context(skillctl)
    own = {name: skillctl.get_command(context, name) for name in skillctl.list_commands(context)}
    assert {name: found.get_short_help_str(10_000) for name, found in own.items() if found is not None} == SUMMARIES


@pytest.mark.parametrize("width", [50, 80, 200])
def test_the_list_is_the_one_that_click_would_write(width: int) -> None:
    context = click.Context(skillctl, info_name="skillctl")
    own, ours = click.HelpFormatter(width=width), click.HelpFormatter(width=width)
    click.Group.format_commands(skillctl, context, own)
    skillctl.format_commands(context, ours)
    assert ours.getvalue() == own.getvalue() != ""


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_no_command_is_imported_to_be_listed(arguments: list[str]) -> None:
    program = LOADED.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_complete_without_being_imported(shell: str) -> None:
    env = {"_SKILLCTL_COMPLETE": f"{shell}_complete", "COMP_WORDS": "skillctl app", "COMP_CWORD": "1"}
    env |= {"COMP_CWORD": "app"} if shell == "fish" else {}
    result = CliRunner().invoke(skillctl, [], env=env, prog_name="skillctl")
    assert "approvals" in result.stdout
    assert "approve" in result.stdout
    assert "attach" not in result.stdout


def test_pages_of_the_manual_are_those_of_all_commands() -> None:
    top = {page.words[1] for page in help_pages(skillctl, ("skillctl",)) if len(page.words) == 2}
    assert top == set(SUMMARIES)
