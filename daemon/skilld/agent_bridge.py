"""The workshop's tools for those agents that are to have them: `skillctl mcp`, as a server of the agent's program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from skill_actors.backends.agents.base import McpServer
from skill_actors.backends.tool_source import WORKSHOP
from skill_actors.errors import Refused
from skill_actors.sessions.agents.bridge import NO_BRIDGE, Bridge
from skill_actors.store.base import SessionRecord

__all__ = ["SERVER", "bridge_of", "check_tools", "skillctl"]

SERVER: Final = WORKSHOP
"""What programs call the server: its tools are mcp__workshop__NAME to their models."""


def bridge_of(record: SessionRecord, socket: Path) -> Bridge:
    """What the program of a conversation is given.

    Args:
        socket: of this daemon. Whom the bridge acts for the daemon sees by itself: `--agent` says only in whose name
            the agent claims, and keeps it from waiting for itself.

    """
    wanted = record.settings.get("workshop_tools")
    if not wanted:
        return NO_BRIDGE
    tools = [] if wanted is True else [str(name) for name in wanted]
    name = str(record.settings.get("agent", "")).partition(".")[2]
    command = [*skillctl(), "mcp", *(("--agent", name) if name else ())]
    command += [word for tool in tools for word in ("--allow", tool)]
    server = McpServer(command=tuple(command), environment={"SKILLD_SOCKET": str(socket)})
    return Bridge(servers={SERVER: server}, reads=_reads())


@cache
def skillctl() -> Sequence[str]:
    """The program that belongs to this daemon, whatever else is on anybody's PATH. Looks for a file."""
    beside = Path(sys.executable).with_name("skillctl")
    # -P: the folder that it is started in is an agent's, and nothing there is to be taken for a module of ours.
    return (str(beside),) if beside.exists() else (sys.executable, "-P", "-m", "skilld.cli")


def check_tools(wanted: bool | Sequence[str]) -> None:
    """Raise Refused("bad_request") unless there are these tools."""
    if isinstance(wanted, bool):
        return
    from skilld.mcp.scope import Scope  # not before somebody asks: it brings the client with it
    from skilld.mcp.tools import TOOLS

    try:
        Scope.of(TOOLS, allow=wanted)
    except ValueError as error:
        raise Refused("bad_request", f"workshop_tools: {error}") from error


@cache
def _reads() -> frozenset[str]:
    from skilld.mcp.tools import TOOLS

    return frozenset(f"mcp__{SERVER}__{tool.name}" for tool in TOOLS if tool.reads)
