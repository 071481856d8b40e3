"""A small server of tools, a resource and a prompt, made with the official SDK: `python monitor_mcp_server.py [PORT]`
serves on its streams, or over HTTP at the port, 0 for a free one, which it prints."""

from __future__ import annotations

import socket
import sys
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("small")


@server.tool()
def add(a: int, b: int) -> int:
    return a + b


@server.tool()
def fail(secret: str) -> str:
    raise ToolError(f"no: {secret}")


@server.tool()
async def slow(ctx: Context[Any, Any]) -> str:
    await ctx.report_progress(1, 2, "half")
    return "done"


@server.tool()
def trace(ctx: Context[Any, Any]) -> str:
    """The `traceparent` that came with the request."""
    meta: Any = ctx.request_context.meta or {}
    return str(meta.get("traceparent"))


@server.resource("note://{who}")
def note(who: str) -> str:
    return f"about {who}"


@server.prompt()
def greet(name: str) -> str:
    return f"Greet {name}"


async def _serve(port: int) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", port))
    sock.listen()  # from here on who connects is heard, if late
    print(sock.getsockname()[1], flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="error", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve([sock])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        anyio.run(_serve, int(sys.argv[1]))
    else:
        server.run("stdio")
