"""Sections of the backends that are whole agents: the `claude` and `codex` programs, and commands of the operator's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from skilld.config.section import Bound, Count, CredentialName, FilePath, Seconds, Section

__all__ = ["AGENT_SECTIONS", "AgentBudget", "ClaudeConfig", "CodexConfig", "CommandConfig"]

AGENT_SECTIONS = ("claude_cli", "codex_cli")

Listed = tuple[Annotated[str, Field(min_length=1, max_length=300)], ...]
Texts = dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")], str]
Words = tuple[Annotated[str, Field(max_length=4096)], ...]
Pointer = Annotated[str, Field(max_length=300)]
Usd = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_HERE = (
    *("CronCreate", "CronDelete", "CronList", "EnterWorktree", "ExitWorktree", "ScheduleWakeup"),
    "SendMessage",
)


class AgentBudget(Section):
    """What all agent backends have: what a turn may set aside where a cap bounds it."""

    turn_budget_usd: Usd = 10.0
    turn_budget_tokens: Annotated[int, Field(ge=1, le=10**12)] = 4_000_000
    answer_budget_usd: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = 0.0

    def options(self) -> dict[str, Any]:
        """As the backend takes them: without what is the daemon's."""
        ours = {*AgentBudget.model_fields, "api_key_credential"}
        return {name: _plain(value) for name, value in self.model_dump(exclude=ours).items() if value is not None}


class ClaudeConfig(AgentBudget):
    """How the `claude` program is run: `skill_actors.backends.agents.claude.options`."""

    program: str = "claude"
    path: str = _PATH
    model: str = ""
    api_key_file: FilePath | None = None
    api_key_credential: CredentialName = "claude-api-key"
    base_url: str = ""
    socket: FilePath | None = None
    environment: Texts = Field(default={}, repr=False)
    session_variables: Listed = Field(default=(), strict=False)
    max_processes: Count = 8
    idle_close_s: Seconds = 120.0
    memory_bytes: Bound = 4 << 30
    max_retries: Annotated[int, Field(ge=0, le=100)] = 4
    max_turns: Annotated[int, Field(ge=0, le=100_000)] = 0
    disallowed_tools: Listed = Field(default=_NOT_HERE, strict=False)
    unasked: bool = False
    bypass: bool = False
    sandboxed: bool = False
    duplex: bool = True


class CodexConfig(AgentBudget):
    """How the `codex` program is run: `skill_actors.backends.agents.codex.options`."""

    program: str = "codex"
    path: str = _PATH
    folder: FilePath | None = None
    api_key_file: FilePath | None = None
    api_key_credential: CredentialName = "codex-api-key"
    base_url: str = "https://api.openai.com/v1"
    environment: Texts = Field(default={}, repr=False)
    model: str = ""
    sandbox: Literal["read-only", "workspace-write", "danger-full-access"] = "workspace-write"
    approval: Literal["untrusted", "on-request", "never"] = "untrusted"
    unasked: bool = False
    bypass: bool = False
    network: bool = False
    web_search: bool = False
    features: Listed = Field(default=(), strict=False)
    warm: bool = True
    max_processes: Count = 8
    idle_close_s: Seconds = 300.0
    memory_bytes: Bound = 0
    retries: Annotated[int, Field(ge=0, le=100)] = 4
    start_s: Seconds = 30.0


class CommandConfig(AgentBudget):
    """A program that performs a turn and ends: `skill_actors.backends.agents.command.options`."""

    argv: Words = Field(strict=False, min_length=1)
    resume: Words = Field(default=(), strict=False)
    output: Literal["text", "json", "lines"] = "text"
    result: Pointer = "/result"
    session: Pointer = ""
    cost: Pointer = ""
    failed: Pointer = ""
    model: str = ""
    environment: Texts = Field(default={}, repr=False)
    path: str = _PATH
    timeout_s: Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)] = 0.0
    max_processes: Count = 8
    memory_bytes: Bound = 0
    output_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 4 << 20


def _plain(value: Any) -> Any:
    """As a backend's own options have it."""
    if isinstance(value, Path):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else value
