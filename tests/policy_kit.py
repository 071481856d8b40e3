"""Rules for tests, as an operator would write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skill_actors.backends.base import ToolCall
from skill_actors.sessions.policy import RuleSet, parse_rules, preset_set, tool_rules

__all__ = ["bash_call", "ruled"]


def ruled(*rules: Any, deny: Sequence[str] = (), ask: Sequence[str] = (), preset: str | None = None) -> RuleSet:
    """The operator's rules: in the order of the configuration."""
    return RuleSet(
        "daemon",
        (
            *tool_rules("deny", sorted(deny), "policy.deny"),
            *parse_rules(rules),
            *tool_rules("ask", sorted(ask), "policy.ask"),
            *(() if preset is None else preset_set(preset)),
        ),
    )


def bash_call(command: Any) -> ToolCall:
    """A call of the shell."""
    return ToolCall(id="t", name="bash_tool", input={"command": command})
