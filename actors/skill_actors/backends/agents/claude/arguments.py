"""The command line and the environment of one `claude` process. Pure.

No prompt, no system prompt and no secret is in a command line: it has a bound, and every user of the host can read it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from skill_actors.backends.agents.base import AgentRequest, AgentSpec
from skill_actors.backends.agents.claude.options import ClaudeOptions
from skill_actors.backends.agents.claude.session_options import SessionOptions

__all__ = [
    "FLAGS",
    "Places",
    "Shape",
    "command_line",
    "environment",
    "fits",
    "initialization",
    "mcp_configuration",
    "shape_of",
]

# What the help of a usable program lists. `--max-turns` and `--permission-prompt-tool` are not in it, and are taken.
FLAGS: Final = frozenset(
    {
        "--allowedTools",
        "--bare",
        "--betas",
        "--disable-slash-commands",
        "--disallowedTools",
        "--effort",
        "--exclude-dynamic-system-prompt-sections",
        "--fallback-model",
        "--fork-session",
        "--include-partial-messages",
        "--input-format",
        "--json-schema",
        "--max-budget-usd",
        "--mcp-config",
        "--model",
        "--output-format",
        "--permission-mode",
        "--print",
        "--replay-user-messages",
        "--resume",
        "--setting-sources",
        "--settings",
        "--strict-mcp-config",
        "--tools",
        "--verbose",
    }
)
_DUPLEX: Final = (
    *("--input-format", "stream-json", "--output-format", "stream-json", "--verbose"),
    *("--include-partial-messages", "--replay-user-messages", "--permission-prompt-tool", "stdio"),
)
_CAP_KEPT: Final = 0.5  # of what a turn may cost: a process with less than this left of its cap is not used for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a process finds its own: all of it below the folder of the backend.

    Args:
        home: HOME, with nothing in it.
        config: where the program keeps its sessions.
        temporary: TMPDIR.
        mcp: a file that lists servers of tools; None for none.
        system: a file with the system prompt, where it cannot be said otherwise.

    """

    home: Path
    config: Path
    temporary: Path
    mcp: Path | None = None
    system: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a process has for its whole life: a turn that wants something else needs another one."""

    model: str | None
    effort: str | None
    max_tokens: int | None
    schema: Mapping[str, Any] | None
    cap_usd: float | None = field(compare=False, default=None)


def shape_of(operator: ClaudeOptions, session: SessionOptions, spec: AgentSpec, request: AgentRequest) -> Shape:
    """What the process for this request must have."""
    caps = [cap for cap in (request.max_cost_usd, session.max_budget_usd) if cap is not None]
    return Shape(
        model=request.model or spec.model or operator.model or None,
        effort=request.effort or session.effort,
        max_tokens=request.max_tokens,
        schema=request.schema,
        cap_usd=min(caps, default=None),
    )


def fits(has: Shape, wanted: Shape, spent_usd: float) -> bool:
    """Whether a process that has spent so much already will do. The program's cap is for its life, not for a turn."""
    if has != wanted:
        return False
    if has.cap_usd is None or wanted.cap_usd is None:
        return has.cap_usd == wanted.cap_usd
    return wanted.cap_usd * _CAP_KEPT <= has.cap_usd - spent_usd <= wanted.cap_usd


def command_line(
    operator: ClaudeOptions,
    session: SessionOptions,
    shape: Shape,
    places: Places,
    *,
    resume: str | None,
    fork: bool,
) -> list[str]:
    """All of argv."""
    words = [operator.program, "--print", *(_DUPLEX if operator.duplex else ("--output-format", "json"))]
    words += _values(
        {
            "--model": shape.model,
            "--permission-mode": session.permission_mode,
            "--tools": None if session.tools is None else (session.tools or [""]),
            "--allowedTools": session.allowed_tools or None,
            "--disallowedTools": [*operator.disallowed_tools, *session.disallowed_tools] or None,
            "--max-turns": session.max_turns or operator.max_turns or None,
            "--max-budget-usd": None if shape.cap_usd is None else f"{shape.cap_usd:.6f}",
            "--effort": shape.effort,
            "--fallback-model": session.fallback_model,
            "--betas": session.betas or None,
            "--setting-sources": "project" if session.project_settings else "",
            "--settings": _settings(operator),
            "--mcp-config": places.mcp,
        }
    )
    words.append("--strict-mcp-config")
    words += ["--bare"] * session.bare
    words += ["--disable-slash-commands"] * (not session.slash_commands)
    words += ["--exclude-dynamic-system-prompt-sections"] * session.exclude_dynamic_sections
    if not operator.duplex:
        words += _values({f"{_system_flag(session)}-file": places.system, "--json-schema": _json(shape.schema)})
    words += _values({"--resume": resume})
    return [*words, *["--fork-session"] * (fork and resume is not None)]


def environment(
    operator: ClaudeOptions, session: SessionOptions, shape: Shape, places: Places, *, language: str = "C.UTF-8"
) -> dict[str, str]:
    """All of the environment. With a key file the key is not in it: the program reads it when it needs it."""
    own: dict[str, str | None] = {
        "ANTHROPIC_API_KEY": None if operator.api_key_file else _key(operator),
        "ANTHROPIC_BASE_URL": operator.base_url or ("http://localhost" if operator.socket else None),
        "ANTHROPIC_UNIX_SOCKET": operator.socket or None,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": None if shape.max_tokens is None else str(shape.max_tokens),
        "IS_SANDBOX": "1" if operator.sandboxed else None,
    }
    return {
        "LANG": language,
        "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",  # `@path` in a message would be read unasked, wherever it is
        **session.environment,
        **operator.environment,
        "PATH": operator.path,
        "HOME": str(places.home),
        "TMPDIR": str(places.temporary),
        "CLAUDE_CODE_TMPDIR": str(places.temporary),
        "CLAUDE_CONFIG_DIR": str(places.config),
        # What ends in the background begins a turn that nobody has asked for.
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # Else a turn begins while its servers of tools still start, and its model is offered none of theirs.
        "MCP_CONNECTION_NONBLOCKING": "0",
        "MCP_CONNECT_TIMEOUT_MS": "30000",
        "CLAUDE_CODE_MAX_RETRIES": str(operator.max_retries),
        "DISABLE_AUTOUPDATER": "1",
        **{name: value for name, value in own.items() if value is not None},
    }


def initialization(session: SessionOptions, shape: Shape, system: str) -> dict[str, Any]:
    """The request that opens a conversation with a process: what has no place in a command line."""
    said: dict[str, Any] = {"subtype": "initialize"}
    if system:
        said["systemPrompt" if session.system_prompt == "replace" else "appendSystemPrompt"] = system
    if shape.schema is not None:
        said["jsonSchema"] = shape.schema
    if session.agents:
        said["agents"] = session.agents
    return said


def mcp_configuration(spec: AgentSpec) -> dict[str, Any] | None:
    """The file that lists the session's servers of tools; None where it has none."""
    servers: dict[str, Any] = {}
    for name, server in spec.mcp.items():
        if server.url is not None:
            servers[name] = {"type": "http", "url": server.url, "headers": dict(server.headers)}
        else:
            program, *arguments = server.command
            servers[name] = {
                "type": "stdio",
                "command": program,
                "args": arguments,
                "env": dict(server.environment),
            }
    return {"mcpServers": servers} if servers else None


def _system_flag(session: SessionOptions) -> str:
    return "--system-prompt" if session.system_prompt == "replace" else "--append-system-prompt"


def _key(operator: ClaudeOptions) -> str | None:
    """With a socket the program wants some key, though nobody looks at it."""
    return operator.api_key or ("none" if operator.socket else None)


def _settings(operator: ClaudeOptions) -> str | None:
    if not operator.api_key_file:
        return None
    return json.dumps({"apiKeyHelper": f"cat {shlex.quote(operator.api_key_file)}"})


def _json(schema: Mapping[str, Any] | None) -> str | None:
    return None if schema is None else json.dumps(schema)


def _values(flags: Mapping[str, str | int | Path | Sequence[str] | None]) -> list[str]:
    words: list[str] = []
    for flag, value in flags.items():
        if value is None:
            continue
        words += [flag, *([str(value)] if isinstance(value, str | int | Path) else value)]
    return words
