"""The pages of the manual and what stands in their blocks, for the tests that hold them to the program."""

from __future__ import annotations

import itertools
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from skilld.cli.app import skillctl

__all__ = [
    "COMMANDS",
    "ROOT",
    "WITHOUT_MODEL",
    "WITH_MODEL",
    "Block",
    "blocks",
    "calls",
    "indented_blocks",
    "page_names",
    "parsed",
    "runnable",
]

ROOT: Final = Path(__file__).parents[1]
COMMANDS: Final = ("sh", "bash", "console", "shell", "")  # what a fence says whose block somebody is to type

# The pages whose commands test_doc_commands types, by the daemon that it types them to.
WITHOUT_MODEL: Final = (
    "docs/approvals.md",
    "docs/budgets.md",
    "docs/choose-a-backend.md",
    "docs/cli.md",
    "docs/first-hour.md",
    "docs/http.md",
    "docs/install.md",
    "docs/monitoring-agent.md",
    "docs/monitoring.md",
    "docs/monitoring-sinks.md",
    "docs/operate.md",
    "docs/policy.md",
    "docs/secure.md",
    "docs/security-scanning.md",
    "docs/upgrade.md",
    "docs/workshop-file.md",
    "docs/workshop.md",
)
WITH_MODEL: Final = (
    "docs/files.md",
    "docs/hybrid.md",
    "docs/long-conversations.md",
    "docs/skills.md",
    "docs/steering.md",
)

_FENCE: Final = re.compile(
    r"(?:^ *<!-- (?P<mark>not run|run by): (?P<why>[^\n]+) -->\n+)?"
    r"^(?P<indent> *)(?P<fence>```|~~~)(?P<kind>[^\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_GENERATED: Final = "docs/reference/"  # from the program's own help, by scripts/reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block.

    Args:
        kind: what the fence says, such as "sh" or "json session".
        mark: "not run", with the reason in `why`; "run by", with the test's path there; empty for the test of pages.

    """

    page: str
    line: int
    kind: str
    text: str
    mark: str
    why: str

    @property
    def is_command(self) -> bool:
        return self.kind.strip() in COMMANDS

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def page_names() -> list[str]:
    """README.md, the manual, and what is told beside examples and skills; paths within the repository."""
    places = (ROOT / "docs", ROOT / "examples", ROOT / "skills")
    found = [page for place in places for page in place.rglob("*.md") if page.name != "SKILL.md"]
    names = [str(page.relative_to(ROOT)) for page in found if "_build" not in page.parts]
    return sorted(["README.md", *names]) if (ROOT / "README.md").is_file() else []


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    text = (ROOT / page).read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start("fence")) + 1,
            kind=found["kind"],
            text=textwrap.dedent(found["text"]),
            mark=found["mark"] or "",
            why=found["why"] or "",
        )
        for found in _FENCE.finditer(text)
    ]


def indented_blocks(page: str) -> Iterator[tuple[int, str]]:
    """Blocks that are one by their indentation alone: line and first line. Those of generated pages do not count."""
    if page.startswith(_GENERATED):
        return
    lines = _FENCE.sub(lambda found: "\n" * found[0].count("\n"), (ROOT / page).read_text()).split("\n")
    for number, line in enumerate(lines[1:], 2):
        if line.startswith("    ") and not lines[number - 2].strip():
            yield number, line.strip()


def runnable(page: str) -> str:
    """The page's commands that the test of pages types, one after the other."""
    return "".join(block.text for block in blocks(page) if block.is_command and not block.mark)


def calls(line: str) -> Iterator[tuple[str, ...]]:
    """Each call of skillctl in a line that a shell would read, up to what the shell makes of it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for is_operator, words in itertools.groupby(lexer, lambda word: set(word) <= set("();<>|&")):
        call = tuple(words)
        if not is_operator and "skillctl" in call:
            yield call[call.index("skillctl") :]


def parsed(arguments: Sequence[str]) -> click.Command:
    """The command that is called so, after click has taken all options and arguments. Nothing is run."""
    command: click.Command = skillctl
    context, rest = command.make_context("skillctl", list(arguments)), list(arguments)
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest and command.invoke_without_command:
            return command
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, found.make_context(name, list(rest), parent=context)
    return command
