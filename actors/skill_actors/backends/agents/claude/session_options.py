"""What a session may say about its `claude`, checked against what the operator permits. Pure.

Nothing here takes a path, and nothing the name of a program: what an agent may reach is its folder's business, and the
operator's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from skill_actors.backends.agents.claude.options import NAME, PERMISSION_MODES, UNASKED_MODES, ClaudeOptions
from skill_actors.backends.base import OptionRefused

__all__ = ["EFFORTS", "SessionOptions", "check", "is_model"]

EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
_MAX_ENTRIES: Final = 200
_MAX_AGENTS_BYTES: Final = 65_536
_MAX_VALUE_CHARS: Final = 4096
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/\[\]-]{0,127}")
_TOOL: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}")
_RULE: Final = re.compile(r"[A-Za-z][^\x00-\x1f\x7f]{0,255}")  # a tool, or one with what of it in brackets
_BETA: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_AGENT_KEYS: Final = frozenset({"description", "prompt", "tools", "disallowedTools", "model"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How one session's agent works.

    Args:
        permission_mode: what happens with calls that no rule permits: "default" asks, "dontAsk" denies, "plan" changes
            nothing; the others need the operator's permission.
        tools: the program's own tools that it has; None for all of them.
        allowed_tools: rules for calls that are not asked about, such as "Bash(git log *)".
        disallowed_tools: rules for calls that are denied.
        max_turns: how often its model may answer in one turn.
        max_budget_usd: what one turn may cost.
        effort: how much its model is to think.
        fallback_model: where the model is overloaded; several with commas.
        system_prompt: "append" puts ours after the program's own, "replace" in its place.
        agents: helpers that it may call, by name: description, prompt, tools, disallowedTools, model.
        betas: of the API, by name.
        bare: without hooks, plugins, memory files and what else it would look for by itself.
        slash_commands: a prompt may be a command of the program, such as /compact.
        exclude_dynamic_sections: what differs by host goes from the system prompt to the first message.
        project_settings: settings files in the folder count.
        environment: variables that the operator lets sessions set.

    """

    permission_mode: str = "default"
    tools: tuple[str, ...] | None = None
    allowed_tools: tuple[str, ...] = ()
    disallowed_tools: tuple[str, ...] = ()
    max_turns: int | None = None
    max_budget_usd: float | None = None
    effort: str | None = None
    fallback_model: str | None = None
    system_prompt: str = "append"
    agents: Mapping[str, Any] = field(default_factory=dict)
    betas: tuple[str, ...] = ()
    bare: bool = False
    slash_commands: bool = False
    exclude_dynamic_sections: bool = False
    project_settings: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> SessionOptions:
        """From what `check` returned."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
        }
        return cls(**values)


def is_model(value: object) -> bool:
    """Whether this can be a model's name; one that is an option of the command line cannot."""
    return isinstance(value, str) and _MODEL.fullmatch(value) is not None


def check(options: Mapping[str, Any], operator: ClaudeOptions, *, is_root: bool) -> dict[str, Any]:
    """A session's options, JSON-ready: those that were given, and never None.

    Args:
        is_root: whether the program will run as root.

    Raises:
        OptionRefused: there is no such option, its value makes no sense, or the operator does not permit it.

    """
    known = [entry.name for entry in fields(SessionOptions)]
    accepted: dict[str, Any] = {}
    for name, value in sorted(options.items()):
        if name not in known:
            raise OptionRefused(NAME, name, value, f"there is none such; there are {', '.join(sorted(known))}")
        if value is None:
            continue
        if problem := _CHECKS[name](value):
            raise OptionRefused(NAME, name, value, problem)
        if problem := _forbidden(name, value, operator, is_root):
            raise OptionRefused(NAME, name, value, problem)
        accepted[name] = list(value) if isinstance(value, tuple) else value
    return accepted


def _forbidden(name: str, value: Any, operator: ClaudeOptions, is_root: bool) -> str | None:
    """Why the operator does not permit it, in words; None if it is permitted."""
    unasked = name in ("allowed_tools", "project_settings") or (name == "permission_mode" and value in UNASKED_MODES)
    if unasked and value and not operator.unasked:
        return "it would keep calls from being asked about; the operator permits that with backends.claude_cli.unasked"
    if name == "permission_mode" and value == "bypassPermissions":
        if not operator.bypass:
            return "the operator does not permit it; backends.claude_cli.bypass = true would"
        if is_root and not operator.sandboxed:
            return "the program refuses it to root; backends.claude_cli.sandboxed = true says that root is in a sandbox"
    if name == "max_turns" and operator.max_turns and value > operator.max_turns:
        return f"the operator permits at most {operator.max_turns} (backends.claude_cli.max_turns)"
    if name == "agents" and value and not operator.duplex:
        return "there are none where each turn is a process of its own (backends.claude_cli.duplex)"
    if name == "environment" and (odd := sorted(value.keys() - set(operator.session_variables))):
        return f"the operator lets sessions set no variable {odd[0]} (backends.claude_cli.session_variables)"
    return None


Problem = Callable[[Any], str | None]


def _one_of(*words: str) -> Problem:
    return lambda value: None if value in words else f"it must be one of {', '.join(words)}"


def _entries(form: re.Pattern[str], what: str) -> Problem:
    def problem(value: Any) -> str | None:
        is_list = isinstance(value, Sequence) and not isinstance(value, str) and len(value) <= _MAX_ENTRIES
        if is_list and all(isinstance(entry, str) and form.fullmatch(entry) for entry in value):
            return None
        return f"it must be a list of at most {_MAX_ENTRIES} {what}"

    return problem


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "it must be true or false"


def _count(value: Any) -> str | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000
    return None if fits else "it must be a whole number from 1 to 10000"


def _money(value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and math.isfinite(value) and value > 0 else "it must be a sum of dollars above 0"


def _models(value: Any) -> str | None:
    fits = isinstance(value, str) and len(value) <= 512 and all(is_model(name) for name in value.split(","))
    return None if fits else "it must be a model's name, or several with commas"


def _agents(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return "it must be a table of agents by name"
    for name, agent in value.items():
        if not (isinstance(name, str) and _TOOL.fullmatch(name) and isinstance(agent, Mapping)):
            return "it must be a table of agents by name"
        if odd := sorted(map(str, agent.keys() - _AGENT_KEYS)):
            return f"an agent has no {odd[0]}; it has {', '.join(sorted(_AGENT_KEYS))}"
        if not all(isinstance(agent.get(key), str) for key in ("description", "prompt")):
            return "each agent must have a description and a prompt"
        if not is_model(agent.get("model", "inherit")):
            return "the model of an agent must be a model's name"
        if any(_entries(_TOOL, "")(agent.get(key, [])) for key in ("tools", "disallowedTools")):
            return "tools and disallowedTools of an agent must be lists of tools"
    too_long = len(json.dumps(value)) > _MAX_AGENTS_BYTES
    return f"it may have {_MAX_AGENTS_BYTES} bytes" if too_long else None


def _variables(value: Any) -> str | None:
    fits = isinstance(value, Mapping) and all(
        isinstance(text, str) and len(text) <= _MAX_VALUE_CHARS and "\0" not in text for text in value.values()
    )
    return None if fits else f"it must be a table of texts of at most {_MAX_VALUE_CHARS} characters"


_CHECKS: Final[Mapping[str, Problem]] = {
    "permission_mode": _one_of(*PERMISSION_MODES),
    "tools": _entries(_TOOL, "tools"),
    "allowed_tools": _entries(_RULE, "rules"),
    "disallowed_tools": _entries(_RULE, "rules"),
    "max_turns": _count,
    "max_budget_usd": _money,
    "effort": _one_of(*EFFORTS),
    "fallback_model": _models,
    "system_prompt": _one_of("append", "replace"),
    "agents": _agents,
    "betas": _entries(_BETA, "names"),
    "bare": _flag,
    "slash_commands": _flag,
    "exclude_dynamic_sections": _flag,
    "project_settings": _flag,
    "environment": _variables,
}
