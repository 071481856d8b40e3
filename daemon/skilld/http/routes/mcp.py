"""The workshop for programs that speak MCP: streamable HTTP, as the protocol has it."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skilld.http.peer import Peer
from skilld.http.route import Call, Route
from skilld.http.services import McpServer
from skilld.http.sse import SSE

__all__ = ["ROUTES"]


class _McpAnswer(Response):
    """What the MCP server answers; it reads the request itself."""

    def __init__(self, server: McpServer, peer: Peer) -> None:
        super().__init__()
        self._server = server
        self._peer = peer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._server.serve(self._peer, scope, receive, send)


async def answer(call: Call) -> Response:
    return _McpAnswer(call.services.mcp(), call.peer)


_JSON: Final = "application/json"

ROUTES: Final = (
    Route(
        method="POST",
        path="/mcp",
        handler=answer,
        permission="read",
        summary="A message of the Model Context Protocol: its tools are the workshop; each needs what its route needs.",
        media=(_JSON, SSE),
    ),
    Route(
        method="GET",
        path="/mcp",
        handler=answer,
        permission="read",
        summary="What the MCP server says by itself in a session of an earlier protocol.",
        media=(SSE,),
    ),
    Route(
        method="DELETE",
        path="/mcp",
        handler=answer,
        permission="read",
        summary="End a session of an earlier protocol.",
    ),
)
