"""`allowed-tools` as rules about our tools: which calls a skill asks to make without being asked each time.

A rule grants no more than it surely means. `Bash(git:*)` covers a plain command whose first word is `git`; as soon as
the shell could make something else of the line (`;`, `&&`, `|`, `$(...)`, redirection, a second line), it covers
nothing, and no more does a line too long to be judged at once. A word that names a file of the skill means that file:
`Bash(scripts/fetch.py:*)` covers the skill's own script where it lies, and not one of this name in the workspace. What
is not understood grants nothing and is reported.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from skill_actors.skills.activation import LOAD_SKILL

__all__ = ["MAX_LINE_CHARS", "TOOL_NAMES", "ToolRule", "covers", "read_rules", "tool_called", "tool_ruled"]

MAX_LINE_CHARS: Final = 16_384

# Names that Claude Code gives to what these tools do.
TOOL_NAMES: Final[Mapping[str, str]] = {
    "Bash": "bash_tool",
    "Read": "view",
    "Write": "create_file",
    "Edit": "str_replace",
}
_OURS: Final = frozenset({*TOOL_NAMES.values(), LOAD_SKILL, "code_execution", "hand_over"})
_PLACED: Final = re.compile(rf"[a-z][a-z0-9-]{{0,31}}_(?:{'|'.join(TOOL_NAMES.values())})")
_OF_SERVER: Final = re.compile(r"mcp__[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*__[A-Za-z0-9_-]+")
_NATIVE: Final = re.compile(r"[\w-]+_(?:execute|read|write|modify)")
_WRITTEN: Final = re.compile(r"([^\s,()]+)(?:\(([^()]*)\))?")
_SHELL_MEANS_MORE: Final = frozenset(";&|<>`$()\\\n\r\0")
_SHELL_REPLACES: Final = frozenset("*?[{~")  # with names of files, say: then a word of a rule is not what is run


@dataclass(frozen=True, slots=True)
class ToolRule:
    """Calls of `tool` (every tool with "*"); of bash_tool, where `words` is set, only commands that fit.

    Args:
        words: the first words of the command.
        exact: whether they are all its words.

    """

    tool: str
    words: tuple[str, ...] | None = None
    exact: bool = False

    def located(self, root: str, files: Collection[str]) -> ToolRule:
        """The rule of a skill whose folder the tools see as `root` and that has these files."""
        if self.words is None:
            return self
        plain = [(word, str(PurePosixPath(word))) for word in self.words]
        return replace(self, words=tuple(f"{root}/{path}" if path in files else word for word, path in plain))

    def covers(self, tool: str, words: Sequence[str] | None) -> bool:
        """Whether a call of this tool is meant; `words` are those of its command, None if that is not plain."""
        if self.tool not in ("*", tool):
            return False
        if self.words is None or words is None:
            return self.words is None
        return tuple(words if self.exact else words[: len(self.words)]) == self.words


def covers(rules: Iterable[ToolRule], tool: str, input: Mapping[str, Any], argv: Sequence[str] | None = None) -> bool:
    """Whether one of the rules covers the call.

    Args:
        rules: those of one skill, located.
        tool: its name.
        input: as the tool gets it.
        argv: the words that are run, if no shell reads the command.

    """
    words = argv if argv is not None else _plain_words(input.get("command"))
    return any(rule.covers(tool, words) for rule in rules)


def read_rules(written: Iterable[str]) -> tuple[tuple[ToolRule, ...], tuple[str, ...]]:
    """The rules, and those of the names that mean nothing here and grant nothing."""
    rules: list[ToolRule] = []
    unknown: list[str] = []
    for text in written:
        rule = _rule(text)
        if rule is None:
            unknown.append(text)
        else:
            rules.append(rule)
    return tuple(rules), tuple(unknown)


def tool_called(name: str) -> str | None:
    """Our name of the tool of this name, ours or Claude Code's; None if there is no such one."""
    name = TOOL_NAMES.get(name, name)
    return name if name in _OURS or _NATIVE.fullmatch(name) else None


def tool_ruled(name: str) -> str | None:
    """The same, and also for a tool of a further place of a conversation, such as `build_bash_tool`, or of a server."""
    return tool_called(name) or (name if _PLACED.fullmatch(name) or _OF_SERVER.fullmatch(name) else None)


def _rule(text: str) -> ToolRule | None:
    match = _WRITTEN.fullmatch(text)
    if match is None:
        return None
    name, scope = match.groups()
    if name == "*":
        return ToolRule("*") if scope is None else None
    tool = tool_called(name)
    if tool is None or scope is None:
        return None if tool is None else ToolRule(tool)
    return _scoped(scope.strip()) if tool == "bash_tool" else None


def _scoped(scope: str) -> ToolRule | None:
    """`git:*` and `git *` mean commands that begin with these words, `git status` means just this one."""
    if scope == "*":
        return ToolRule("bash_tool")
    start = scope[:-2].rstrip() if scope.endswith((":*", " *")) else scope
    words = _plain_words(start) if _SHELL_REPLACES.isdisjoint(start) else None
    return ToolRule("bash_tool", tuple(words), exact=start == scope) if words and words[0] else None


def _plain_words(line: object) -> Sequence[str] | None:
    """The words of a line that is one plain command to every shell, also if some of them are replaced."""
    if not isinstance(line, str) or len(line) > MAX_LINE_CHARS or not _SHELL_MEANS_MORE.isdisjoint(line):
        return None
    try:
        return shlex.split(line)
    except ValueError:
        return None
