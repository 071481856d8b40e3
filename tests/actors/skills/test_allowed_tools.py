"""Which calls `allowed-tools` cover: no more than they surely mean."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from skill_actors.skills import Skill, load_skill
from skill_actors.skills.allowed_tools import MAX_LINE_CHARS, TOOL_NAMES, covers, read_rules, tool_called, tool_ruled

ROOT = "/skills/0"


def runs(rule: str, command: str, files: tuple[str, ...] = ()) -> bool:
    """Whether bash_tool may run the command, for a skill with these files."""
    rules, unknown = read_rules([rule])
    assert unknown == ()
    return covers([rule.located(ROOT, files) for rule in rules], "bash_tool", {"command": command})


def test_names_of_claude_code_mean_our_tools() -> None:
    assert dict(TOOL_NAMES) == {"Bash": "bash_tool", "Read": "view", "Write": "create_file", "Edit": "str_replace"}
    for written, tool in TOOL_NAMES.items():
        rules, _ = read_rules([written])
        assert covers(rules, tool, {})
        assert not any(covers(rules, other, {}) for other in TOOL_NAMES.values() if other != tool)


@pytest.mark.parametrize("name", ["view", "bash_tool", "create_file", "str_replace", "load_skill", "log_fetcher_read"])
def test_our_own_names_mean_themselves(name: str) -> None:
    assert tool_called(name) == name
    assert covers(read_rules([name])[0], name, {})


def test_a_star_means_every_tool() -> None:
    assert covers(read_rules(["*"])[0], "whatever", {})


@pytest.mark.parametrize(
    "written",
    [
        *("bash", "Grep", "WebFetch", "mcp__x__y", "Read(/etc/*)", "*(x)", "Bash()", "Bash(:*)", "Bash(git:*"),
        *("Bash(a*b)", "Bash(git;rm:*)", "Bash('open)", "Bash($(id):*)", "", "Read Write"),
        *("Bash(./run?.sh:*)", "Bash([ab].sh:*)", "Bash(~/bin/x:*)", "Bash(git {log,push}:*)", "Bash('':*)"),
    ],
)
def test_what_is_not_understood_grants_nothing_and_is_named(written: str) -> None:
    rules, unknown = read_rules([written, "Read"])
    assert unknown == (written,)
    assert [rule.tool for rule in rules] == ["view"]


@pytest.mark.parametrize("rule", ["Bash(git:*)", "Bash(git *)", "bash_tool(git:*)"])
def test_a_prefix_covers_commands_that_begin_with_its_words(rule: str) -> None:
    assert runs(rule, "git")
    assert runs(rule, "git log --oneline")
    assert runs(rule, '"git" log')
    assert not runs(rule, "gitk")
    assert not runs(rule, "PATH=/tmp git log")
    assert not runs(rule, "env git log")


def test_a_command_without_a_star_is_covered_word_by_word() -> None:
    assert runs("Bash(git status)", "git  status")
    assert not runs("Bash(git status)", "git status --short")
    assert not runs("Bash(git log:*)", "git status")
    assert runs("Bash(*)", "anything; at all")


@pytest.mark.parametrize(
    "tail",
    [
        *("; rm -rf x", "&& id", "| sh", "& id", "$(id)", "`id`", "> out", "< in", "\nid", "\rid", "<(id)", "\\\nid"),
        *("'", "${IFS}id", "\0", "(id)"),
    ],
)
def test_a_line_of_which_the_shell_could_make_more_is_not_covered(tail: str) -> None:
    assert not runs("Bash(git:*)", f"git log {tail}")
    assert not runs("Bash(git:*)", f"git log{tail}")


def test_a_line_too_long_to_be_judged_at_once_is_not_covered() -> None:
    assert runs("Bash(git:*)", "git " + "x" * (MAX_LINE_CHARS - 4))
    assert not runs("Bash(git:*)", "git " + "x" * (MAX_LINE_CHARS - 3))


def test_words_that_no_shell_reads_are_taken_as_they_are() -> None:
    rules, _ = read_rules(["Bash(python3 run.py:*)", "Bash(make test)"])
    for argv, covered in (
        (("python3", "run.py", "a; id", "$x"), True),
        (("make", "test"), True),
        (("make", "test", "all"), False),
        (("python3 run.py",), False),
    ):
        assert covers(rules, "bash_tool", {"command": "python3 run.py"}, argv) is covered


def test_a_call_without_a_command_is_not_covered() -> None:
    rules, _ = read_rules(["Bash(git:*)"])
    for wrong in ({}, {"command": 7}, {"command": ["git"]}, {"command": None}):
        assert not covers(rules, "bash_tool", wrong)


def test_a_file_of_the_skill_is_meant_where_it_lies_and_not_in_the_workspace() -> None:
    files = ("SKILL.md", "scripts/fetch.py")
    assert not runs("Bash(./scripts/fetch.py:*)", "./scripts/fetch.py", files)
    assert runs("Bash(./scripts/fetch.py:*)", f"{ROOT}/scripts/fetch.py", files)
    rule = "Bash(python3 scripts/fetch.py:*)"
    assert runs(rule, f"python3 {ROOT}/scripts/fetch.py --all", files)
    assert not runs(rule, "python3 scripts/fetch.py --all", files)
    assert not runs(rule, f"python3 {ROOT}/scripts/../evil.py", files)
    assert runs("Bash(make test)", "make test", files)


def test_the_loader_reports_what_grants_nothing(tmp_path: Path, make_skill: Callable[..., Path]) -> None:
    folder = make_skill(tmp_path / "tides", extra="allowed-tools: Bash(git:*) Read(/etc/*) Grep Read")
    skill = load_skill(folder)
    assert isinstance(skill, Skill)
    (found,) = skill.diagnostics
    assert (found.code, found.line) == ("unknown_tool", 4)
    assert "'Read(/etc/*)', 'Grep'" in found.message
    assert "Bash(git" not in found.message


# Pieces that shells have ideas about.
PIECES = [
    *("git", " ", "\t", "log", "'", '"', "#", "~", "{a,b}", "*", "?", "[x]", "!", "%", "=", "a=b", "-c", "^", "time"),
    *("\u00a0", "\u3000", "\x0b", "\x0c", "\x01", ":", "@", "+", ";", "&", "|", "$x", "`", "(", ")", "<", "\\", "\n"),
]


def test_what_a_prefix_covers_is_one_plain_command_for_bash() -> None:
    """Bash is asked itself."""
    rules, _ = read_rules(["Bash(git:*)"])
    chance = random.Random(7)
    lines = {"git" + "".join(chance.choices(PIECES, k=chance.randint(1, 5))) for _ in range(20_000)}
    covered = [line for line in sorted(lines) if covers(rules, "bash_tool", {"command": line})]
    assert len(covered) > 100
    for line in covered:
        program = f"git() {{ printf 'ran '; }}\n{line}"
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=20, check=False)
        assert (done.stdout, done.stderr) == ("ran ", ""), line


@pytest.mark.parametrize(
    ("name", "called", "ruled"),
    [
        ("Bash", "bash_tool", "bash_tool"),
        ("code_execution", "code_execution", "code_execution"),
        ("hand_over", "hand_over", "hand_over"),
        ("build_bash_tool", None, "build_bash_tool"),
        ("build-2_view", None, "build-2_view"),
        ("Build_view", None, None),
        ("build_rm", None, None),
    ],
)
def test_a_rule_of_the_operator_may_name_a_tool_of_one_place(name: str, called: str | None, ruled: str | None) -> None:
    assert tool_called(name) == called
    assert tool_ruled(name) == ruled
