"""What each preset makes of the usual calls, and that the manual says the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from policy_kit import bash_call, ruled
from skill_actors.backends.base import ToolCall
from skill_actors.sessions.policy import PRESETS, Policy
from skill_actors.sessions.policy.presets import READING

MANUAL = Path(__file__).parents[4] / "docs/policy.md"
TOOLS = (
    "view",
    "bash_tool",
    "create_file",
    "str_replace",
    "load_skill",
    "hand_over",
    "code_execution",
    "x_read",
    "x_write",
    "mcp__x__look",
    "mcp__x__change",
)


def call(tool: str, **input: Any) -> ToolCall:
    return ToolCall(id="t", name=tool, input=input)


# What the calls of the manual's table are.
CALLS: dict[str, tuple[ToolCall, bool]] = {
    "`view`, `load_skill`": (call("view", path="/etc/passwd"), False),
    "`create_file`, `str_replace` in the workspace": (call("create_file", path="a/b"), False),
    "a command that plainly reads (`grep -r x . \\| wc -l`)": (bash_call("grep -r x . | wc -l"), False),
    "any other command, confined": (bash_call("make > out"), True),
    "any other command, not confined": (bash_call("make > out"), False),
    "a native skill's `_read` tool": (call("x_read"), False),
    "its other tools": (call("x_write"), False),
    "a tool of a [tool server](mcp-servers.md) that the operator says only reads": (call("mcp__x__look"), False),
    "any other tool of a tool server": (call("mcp__x__change"), False),
    "`hand_over` to a hosted place": (call("hand_over", name="a", **{"from": "local", "to": "cloud"}), True),
    "`hand_over` between other places": (call("hand_over", name="a", **{"from": "local", "to": "box"}), True),
    "`code_execution` by the API": (call("code_execution"), False),
}


def verdict(preset: str, asked: ToolCall, *, confined: bool = False) -> str:
    policy = Policy(
        tools=TOOLS,
        rules=[ruled(preset=preset)],
        place="local",
        backend="local",
        backends={"local": "local", "box": "docker", "cloud": "anthropic"},
        natives={"x_read": "x", "x_write": "x"},
        sources={"mcp__x__look": ("x", True), "mcp__x__change": ("x", False)},
        workspace="/desk",
        confined=confined,
    )
    return policy.decide(asked).verdict


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of the manual, without its head."""
    text = MANUAL.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    head = next(number for number, line in enumerate(rows) if set(line) <= set("|-: "))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[head + 1 :]][: len(CALLS)]


@pytest.mark.skipif(not MANUAL.exists(), reason="looks at the repository's folders, and this is a copy of the tests")
def test_the_manual_says_of_every_preset_what_it_does() -> None:
    found = {
        name: [verdict(preset, asked, confined=confined) for preset in PRESETS]
        for name, (asked, confined) in CALLS.items()
    }
    assert {cells[0]: cells[1:] for cells in table("Presets")} == found


@pytest.mark.skipif(not MANUAL.exists(), reason="looks at the repository's folders, and this is a copy of the tests")
def test_the_manual_lists_the_commands_that_plainly_read() -> None:
    text = MANUAL.read_text(encoding="utf-8").split("plainly reads", 2)[2].split("\n\n", 1)[0]
    listed = set(re.findall(r"`([^`]+)`", text))
    assert {pattern.removesuffix(" **") for pattern in READING} <= listed


@pytest.mark.parametrize("preset", ["read-only", "guarded"])
@pytest.mark.parametrize(
    "line",
    [
        "ls > x",
        "cat <> x",
        "tee x",
        "sort -o x y",
        "sort --output=x y",
        "sort -no x",
        "uniq x y",
        "find . -delete",
        "find . -fprint x",
        "find . -exec touch {} +",
        "sed -i s/a/b/ x",
        "sed w/x y",
        "printf -v x y",
        "test -v 'a[$(id)]'",
        "cat x | sh",
        "date -s 2020-01-01",
        "./cat x",
        "env",
        "env cat x; curl http://x",
        "sudo cat x",
        "cp a b",
        "xargs cat",
    ],
)
def test_what_only_looks_like_reading_is_not_allowed(preset: str, line: str) -> None:
    assert verdict(preset, bash_call(line)) != "allow"


@pytest.mark.parametrize(
    "line",
    ["ls -la | sort -u | uniq -c | head", "env LANG=C grep -rn 'a b' src 2>/dev/null", "find . -name '*.py' -size +1k"],
)
def test_reading_in_many_steps_is_allowed(line: str) -> None:
    assert verdict("read-only", bash_call(line)) == verdict("guarded", bash_call(line)) == "allow"


def test_guarded_asks_before_a_file_outside_of_the_workspace_is_written() -> None:
    for path in ("../x", "/etc/x", "a/../../x"):
        assert verdict("guarded", call("create_file", path=path)) == "ask"
