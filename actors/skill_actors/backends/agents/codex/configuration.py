"""What the program is configured with for one conversation, in its own words. Pure.

Nothing of it stands in a command line, which every user of the host can read: the server gets it over its stdin, and a
single turn finds it in a profile of its own, a file that only the daemon's user can read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from skill_actors.backends.agents.base import AgentSpec, McpServer
from skill_actors.backends.agents.codex.options import KEY_VARIABLE, NAME, CodexOptions, SessionChoice
from skill_actors.backends.base import BackendUnavailable

__all__ = ["PROVIDER", "approval_of", "as_toml", "configuration", "provider", "sandbox_of"]

PROVIDER: Final = "skilld"
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SERVER_START_S: Final = 30
_SERVER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def sandbox_of(choice: SessionChoice, operator: CodexOptions) -> str:
    """The mode of the sandbox that the conversation's commands run in."""
    return choice.sandbox or operator.sandbox


def approval_of(choice: SessionChoice, operator: CodexOptions) -> str:
    """When the program asks. No part of `configuration`: the strictest can be told to the server only."""
    return choice.approval or operator.approval


def provider(operator: CodexOptions) -> dict[str, Any]:
    """What holds for all conversations: where the models are, and that nothing is reported to anybody else."""
    common: dict[str, Any] = {"analytics": {"enabled": False}, "check_for_update_on_startup": False}
    if not operator.has_key:
        return common
    ours = {
        "name": "skilld",
        "base_url": operator.base_url,
        "env_key": KEY_VARIABLE,
        "wire_api": "responses",
        "request_max_retries": operator.retries,
        "stream_max_retries": operator.retries,
    }
    return {**common, "model_provider": PROVIDER, "model_providers": {PROVIDER: ours}}


def configuration(spec: AgentSpec, choice: SessionChoice, operator: CodexOptions) -> dict[str, Any]:
    """What holds for one conversation, beside `provider`.

    The key is kept out of the environment of commands. Further agents of the program's own are off: what they take is
    told for threads that nobody here asked for.

    Raises:
        BackendUnavailable: for a server of tools that cannot be named to the program.

    """
    sandbox = sandbox_of(choice, operator)
    made: dict[str, Any] = {
        "sandbox_mode": sandbox,
        "web_search": choice.web_search,
        "shell_environment_policy": {"exclude": [KEY_VARIABLE], "ignore_default_excludes": False},
        "agents": {"enabled": False},
        # Else its server trusts a folder by itself, and takes what lies in its .codex for the user's own settings.
        "projects": {str(spec.folder): {"trust_level": "untrusted"}},
    }
    if sandbox == "workspace-write":
        made["sandbox_workspace_write"] = {"network_access": choice.network, "exclude_slash_tmp": True}
    if spec.system:
        made["developer_instructions"] = spec.system
    if choice.features:
        made["features"] = dict(choice.features)
    if choice.effort:
        made["model_reasoning_effort"] = choice.effort
    if spec.mcp:
        # With nobody to ask, the program refuses every call that is not approved beforehand.
        mode = "approve" if approval_of(choice, operator) == "never" else "prompt"
        made["mcp_servers"] = {name: _server(name, server, mode) for name, server in spec.mcp.items()}
    return made


def _server(name: str, server: McpServer, mode: str) -> dict[str, Any]:
    if not _SERVER.fullmatch(name):
        raise BackendUnavailable(f"{NAME}: a server of tools is called {name!r:.100}: letters, digits, _ and - only")
    # Else a turn would begin while the server still starts, and its model would be offered none of the tools.
    common = {"default_tools_approval_mode": mode, "required": True, "startup_timeout_sec": _SERVER_START_S}
    if server.url is not None:
        return {**common, "url": server.url, "http_headers": dict(server.headers)}
    program, *arguments = server.command
    return {**common, "command": program, "args": arguments, "env": dict(server.environment)}


def as_toml(table: Mapping[str, Any]) -> str:
    """The table as a TOML document: one key a line, tables in line."""
    return "".join(f"{_key(name)} = {value(entry)}\n" for name, entry in table.items())


def value(entry: Any) -> str:
    """A value as TOML has it: texts, numbers, truths, lists and tables of these."""
    match entry:
        case bool() | int() | float():
            return json.dumps(entry)
        case str():
            return json.dumps(entry, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Mapping():
            return "{" + ", ".join(f"{_key(name)} = {value(item)}" for name, item in entry.items()) + "}"
        case Sequence():
            return "[" + ", ".join(value(item) for item in entry) + "]"
        case _:
            raise TypeError(f"TOML has no {type(entry).__name__}")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else value(name)
