"""The workshop's tools for agents whose turns the daemon performs itself: the same tools, without a program between.

What they do they do as the agent, whose rights are those of an agent's program that comes over the socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import trio

from skill_actors.backends.base import BackendUnavailable, ToolContext, ToolResult
from skill_actors.backends.tool_source import SourceTool, SourceUser, ToolSource
from skill_actors.errors import Refused
from skilld.agent_bridge import SERVER
from skilld.http.peer import Peer
from skilld.mcp.inside_desk import McpDesk

if TYPE_CHECKING:
    from skilld.mcp.scope import Scope

__all__ = ["WorkshopSources"]


class WorkshopSources:
    """Opens them for the conversations that have the setting. `desk` is the desk as it is now, or raises NotStarted."""

    def __init__(self, desk: Callable[[], McpDesk]) -> None:
        self._desk = desk

    async def check(self, owner_uid: int, settings: Mapping[str, Any]) -> None:
        """Nothing that a client sets is of concern here."""

    def open(self, user: SourceUser) -> Sequence[ToolSource]:
        wanted = user.settings.get("workshop_tools")
        if not wanted:
            return ()
        peer = Peer(uid=user.owner_uid, gid=-1, pid=0, agent=user.session, own=True)
        return (_Workshop(self._desk, peer, () if wanted is True else tuple(wanted)),)


class _Workshop:
    """One conversation's."""

    def __init__(self, desk: Callable[[], McpDesk], peer: Peer, allow: Sequence[str]) -> None:
        self._desk = desk
        self._peer = peer
        self._allow = allow
        self._scope: Scope | None = None

    @property
    def name(self) -> str:
        return SERVER

    async def tools(self) -> Sequence[SourceTool]:
        return [
            SourceTool(name=tool.name, description=tool.description, input_schema=tool.schema(), reads=tool.reads)
            for tool in self._tools().tools.values()
        ]

    async def call(self, tool: str, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        from skilld.mcp.calling import answer_of_call

        began = trio.current_time()
        try:
            async with self._desk().desk(self._peer) as desk:
                with trio.move_on_after(context.timeout_s):
                    text, failed = await answer_of_call(self._tools(), desk, tool, arguments)
                    return ToolResult(content=text, outcome="error" if failed else "ok", duration_ms=_since_ms(began))
        except Refused as refused:
            raise BackendUnavailable(f"the workshop cannot be reached: {refused}") from refused
        told = f"{tool} was not done within {context.timeout_s:g} s; what it has begun goes on"
        return ToolResult(content=told, outcome="timeout", duration_ms=_since_ms(began))

    async def close(self) -> None:
        self._desk().let_go(self._peer)

    def _tools(self) -> Scope:
        from skilld.mcp.scope import Scope
        from skilld.mcp.tools import TOOLS

        if self._scope is None:
            self._scope = Scope.of(TOOLS, allow=self._allow)
        return self._scope


def _since_ms(began: float) -> int:
    return round((trio.current_time() - began) * 1000)
