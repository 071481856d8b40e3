"""A tool server as a conversation's source of tools."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trio

from skill_actors.backends.base import BackendUnavailable, ToolContext, ToolResult
from skill_actors.backends.redaction import Redactor
from skill_actors.backends.tool_source import SourceTool, SourceUser
from skill_actors.mcp.errors import ServerFailed, SessionGone
from skill_actors.mcp.listing import read_listing
from skill_actors.mcp.options import ServerOptions
from skill_actors.mcp.results import read_result
from skill_actors.mcp.server import Connect, ServerKey, ToolServer, ToolServersRef

if TYPE_CHECKING:
    from skill_actors.mcp.connection import Connection

__all__ = ["ServerSource"]

_log = logging.getLogger(__name__)


class ServerSource:
    """The tools of one server, for one conversation. A ToolSource.

    Args:
        find: the living supervisor of servers; None while there is none.
        connect: opens a connection to the server.
        hidden: texts that no answer may hold: the server's own secrets. Blocks.

    """

    def __init__(
        self,
        options: ServerOptions,
        user: SourceUser,
        *,
        find: Callable[[], ToolServersRef | None],
        connect: Connect,
        hidden: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._options = options
        self._key = ServerKey(options.name, user.owner_uid, "" if options.shared else user.session)
        self._find = find
        self._connect = connect
        self._hidden = hidden
        self._told: Sequence[SourceTool] | None = None
        self._told_by: Connection | None = None
        self.left_out: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        return self._options.name

    async def tools(self) -> Sequence[SourceTool]:
        """The tools, as they were told last where the server says nothing else. Raises BackendUnavailable."""
        try:
            told: Sequence[SourceTool] = await self._in_session(self._listed)
        except ServerFailed as error:
            raise BackendUnavailable(f"the tool server {self.name}: {await self._shown(str(error))}") from error
        return told

    async def _listed(self, server: ToolServer) -> Sequence[SourceTool]:
        connection = await server.ready()
        if self._told is None or self._told_by is not connection or connection.signals.changed:
            most = 2 * self._options.max_tools
            raw = await connection.tools(most)
            told, self.left_out = await trio.to_thread.run_sync(read_listing, raw, self._options)
            if self.left_out:
                _log.warning("tool server %s: tools are left out: %s", self.name, dict(list(self.left_out.items())[:5]))
            self._told, self._told_by = told, connection
        self._servers().survived(self._key)
        return self._told

    async def call(self, tool: str, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Make one call, once; see `ToolSource.call`. Raises BackendUnavailable if it was not made."""
        limit_s = min(self._options.timeout_s, context.timeout_s)
        server: list[ToolServer] = []

        async def make(running: ToolServer) -> Mapping[str, Any]:
            server[:] = [running]
            return await (await running.ready()).call(tool, arguments)

        try:
            with trio.move_on_after(limit_s):
                result = read_result(await self._in_session(make))
                return replace(result, content=await self._shown(result.content))
        except ServerFailed as error:
            return await self._failed(str(error), made=bool(server))
        if server:
            server[0].doubt()
        late = f"{self.name} has not answered within {limit_s:g} s; it was told to stop, and may have done some of it"
        return ToolResult(content=f"[{late}]", outcome="timeout")

    async def _failed(self, why: str, *, made: bool) -> ToolResult:
        shown = f"the tool server {self.name}: {await self._shown(why)}"
        if not made:
            raise BackendUnavailable(shown)
        return ToolResult(content=f"[{shown}]", outcome="error")

    async def _in_session(self, ask: Callable[[ToolServer], Awaitable[Any]]) -> Any:
        """Ask the server; in another session if it has forgotten the one there was. Raises ServerFailed."""
        try:
            return await self._asked(ask)
        except SessionGone:
            return await self._asked(ask)

    async def _asked(self, ask: Callable[[ToolServer], Awaitable[Any]]) -> Any:
        servers = self._servers()
        if rest_s := servers.rests(self._key):
            raise ServerFailed(f"it asks to be left alone for another {rest_s:.0f} s")
        server = await servers.use(self._key, self._connect, idle_s=self._options.idle_s)
        try:
            with server.used():
                return await ask(server)
        finally:
            if server.signals.rest_s:
                servers.rest(self._key, server.signals.rest_s)
                server.signals.rest_s = 0.0

    def _servers(self) -> ToolServersRef:
        servers = self._find()
        if servers is None:
            raise ServerFailed("tool servers are being started again; try again in a moment")
        return servers

    async def _shown(self, text: str) -> str:
        hidden = await trio.to_thread.run_sync(self._hidden)
        return Redactor(hidden).text(text)

    async def close(self) -> None:
        """End the server, if it is this conversation's own. May be called twice."""
        self._told = self._told_by = None
        servers = self._find()
        if servers is not None and not self._options.shared:
            await servers.release(self._key)
