"""The section [policy]."""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from skilld.config.section import Names, Seconds, Section

if TYPE_CHECKING:
    from skill_actors.sessions.policy import RuleSet

__all__ = ["PolicyConfig", "Preset", "policy_rules"]

Preset = Literal["", "read-only", "guarded", "workspace", "full"]


class PolicyConfig(Section):
    """What calls of tools may do; names of Claude Code's tools become ours."""

    preset: Preset = ""
    deny: Names = Field(default=(), strict=False)
    ask: Names = Field(default=(), strict=False)
    rules: Annotated[tuple[Mapping[str, Any], ...], Field(strict=False)] = ()
    approval_timeout_s: Seconds = 3600.0

    @field_validator("deny", "ask")
    @classmethod
    def _are_tools(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Imported where it is needed: the command line checks configurations, and this takes a while.
        from skill_actors.skills.allowed_tools import TOOL_NAMES, tool_ruled

        tools = [tool_ruled(name) for name in value]
        if None in tools:
            known = ", ".join(sorted({*TOOL_NAMES, *TOOL_NAMES.values(), "load_skill", "code_execution", "hand_over"}))
            raise ValueError(f"{value[tools.index(None)]!r} is no tool; there are {known}, and those of native skills")
        return tuple(tool for tool in tools if tool is not None)

    @field_validator("rules")
    @classmethod
    def _are_rules(cls, value: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
        from skill_actors.sessions.policy import parse_rules

        parse_rules(value, "rules", _uid)
        return value


def policy_rules(config: PolicyConfig) -> RuleSet:
    """The operator's rules: what `deny` lists, then `rules`, then what `ask` lists, then the preset. Blocks.

    Raises:
        ValueError: a user that a rule names is not known any more.

    """
    from skill_actors.sessions.policy import RuleSet, parse_rules, preset_set, tool_rules

    rules = (
        *tool_rules("deny", config.deny, "policy.deny"),
        *parse_rules(config.rules, "policy.rules", _uid),
        *tool_rules("ask", config.ask, "policy.ask"),
        *(preset_set(config.preset) if config.preset else ()),
    )
    return RuleSet("daemon", rules)


def _uid(name: str) -> int:
    """Raises KeyError."""
    return pwd.getpwnam(name).pw_uid
