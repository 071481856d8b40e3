"""What agents call their tools, and what rules call them. Pure.

Rules speak of `bash_tool`, `view`, `create_file` and `str_replace`, whoever runs them. A call of an agent's own tool is
judged by both names, so that a rule about either holds; one that has no counterpart is judged by its own name alone,
and never as something weaker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from skill_actors.backends.base import ToolCall

__all__ = ["AGENT_TOOLS", "as_judged", "is_read_only"]

AGENT_TOOLS: Final = frozenset(
    {
        "AskUserQuestion",
        "BashOutput",
        "ExitPlanMode",
        "Glob",
        "Grep",
        "KillShell",
        "LS",
        "MultiEdit",
        "NotebookEdit",
        "NotebookRead",
        "Skill",
        "SlashCommand",
        "Task",
        "TodoWrite",
        "WebFetch",
        "WebSearch",
    }
)
"""Tools of agents that have no counterpart here, so that rules can name them; others by a pattern (mcp__db__*)."""


@dataclass(frozen=True, slots=True)
class _Counterpart:
    """A tool of ours, and by the names of its inputs those of the agent's tool."""

    tool: str
    inputs: Mapping[str, str]


_COUNTERPARTS: Final[Mapping[str, _Counterpart]] = {
    "Bash": _Counterpart("bash_tool", {"command": "command", "description": "description"}),
    "Read": _Counterpart("view", {"path": "file_path"}),
    "Write": _Counterpart("create_file", {"path": "file_path", "file_text": "content"}),
    "Edit": _Counterpart("str_replace", {"path": "file_path", "old_str": "old_string", "new_str": "new_string"}),
    "MultiEdit": _Counterpart("str_replace", {"path": "file_path"}),
    "NotebookEdit": _Counterpart("str_replace", {"path": "notebook_path"}),
}
_READ_ONLY: Final = frozenset({"Read", "Glob", "Grep", "LS", "NotebookRead", "TodoRead"})


def as_judged(id: str, tool: str, input: Mapping[str, Any]) -> ToolCall:
    """The call as rules see it. An input that is missing is missing for them too, which no rule takes for harmless."""
    counterpart = _COUNTERPARTS.get(tool)
    if counterpart is None:
        return ToolCall(id=id, name=tool, input=input)
    given = {ours: input[theirs] for ours, theirs in counterpart.inputs.items() if theirs in input}
    return ToolCall(id=id, name=counterpart.tool, input=given)


def is_read_only(tool: str) -> bool:
    """Whether a call of this tool changes nothing."""
    return tool in _READ_ONLY
