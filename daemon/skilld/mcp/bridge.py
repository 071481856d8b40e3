"""The MCP server: lists the tools that are allowed, calls them, and ends when its input does.

One process for each program that is served, started by that program. It acts as the user who runs it, with the rights
that the daemon gives to this user and to whatever descends from the daemon itself; no port is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import trio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from skill_actors import __version__
from skilld.client import AsyncClient
from skilld.mcp.calling import answer_of_call
from skilld.mcp.claims import Claims
from skilld.mcp.desk import Desk
from skilld.mcp.lines import LineReader, LineWriter
from skilld.mcp.scope import Scope
from skilld.mcp.tool import Tool

if TYPE_CHECKING:
    from anyio import AsyncFile
    from mcp.server.context import ServerRequestContext

__all__ = ["serve", "server_of"]

_NAME: Final = "skilld-workshop"
_INSTRUCTIONS: Final = (
    "Agents with names, a board of work, and values that they share. ask waits for an answer; cast does not, and await "
    "takes the id of its turn. A wait that takes too long gives you the id of the turn, which goes on."
)


async def serve(socket: str | None, scope: Scope, *, wait_s: float) -> None:
    """Serve MCP on standard input and output until the input ends, or nobody reads the output any more.

    Args:
        socket: of the daemon; found as `socket_path` tells if None.
        wait_s: how long tools wait whose caller names no time, in seconds.

    """
    async with AsyncClient(socket) as client, trio.open_nursery() as nursery:
        claims = Claims(client)
        nursery.start_soon(claims.run)
        server = server_of(scope, Desk(client=client, claims=claims, agent=scope.agent, wait_s=wait_s))
        try:
            await _run(server)
        except* BrokenPipeError:  # whoever started this is gone
            pass
        finally:
            await claims.give_back()
            nursery.cancel_scope.cancel()


async def _run(server: Server[Any]) -> None:
    reader, writer = cast("AsyncFile[str]", LineReader(0)), cast("AsyncFile[str]", LineWriter(1))
    async with stdio_server(reader, writer) as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def server_of(scope: Scope, desk: Desk) -> Server[Any]:
    """An MCP server with these tools; it is run by whoever has the streams."""

    async def list_tools(
        _: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_listed(each) for each in scope.tools.values()])

    async def call_tool(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        async def progress(waited_s: float, what: str) -> None:
            await context.session.report_progress(waited_s, message=what)

        return await _called(scope, desk.for_call(progress), params.name, params.arguments or {})

    return Server(
        _NAME, version=__version__, instructions=_INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool
    )


async def _called(scope: Scope, desk: Desk, name: str, arguments: Mapping[str, Any]) -> types.CallToolResult:
    text, failed = await answer_of_call(scope, desk, name, arguments)
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=failed)


def _listed(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.schema(),
        annotations=types.ToolAnnotations(read_only_hint=tool.reads),
    )
