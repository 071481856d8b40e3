"""A server of tools made with the official SDK: `python mcp_tool_server.py [FILE [SOCKET]]` serves on its streams.

It notes in FILE what it is asked to do, so that a test can count it. With SOCKET it serves the same over HTTP there.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
NOTES = {"file": Path(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[0].endswith("mcp_tool_server.py") else None}
state: dict[str, Any] = {"description": "Says it again.", "count": 0}


def note(text: str) -> None:
    if NOTES["file"] is not None:
        with NOTES["file"].open("a") as file:
            file.write(text + "\n")


async def list_tools(_: Any, params: Any) -> types.ListToolsResult:
    note("list")
    tools = {
        "echo": state["description"],
        "count": "Counts its calls.",
        "header": "Says what a header of its request is.",
        "environment": "Says what a variable is.",
        "picture": "Shows a picture.",
        "facts": "Answers with structure.",
        "fail": "Fails.",
        "long": "Says much.",
        "hang": "Takes for ever.",
        "die": "Ends the server.",
        "fork": "Starts a process that stays.",
        "change": "Becomes another.",
        "ask": "Asks its client for a model.",
    }
    return types.ListToolsResult(
        tools=[types.Tool(name=name, description=told, input_schema=TEXT) for name, told in tools.items()]
    )


async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    text = str((params.arguments or {}).get("text", ""))
    note(f"call {params.name} {text}")
    match params.name:
        case "echo":
            return said(f"echo: {text}")
        case "count":
            state["count"] += 1
            return said(str(state["count"]))
        case "header":
            request = context.request
            return said("" if request is None else str(request.headers.get(text)))
        case "environment":
            return said(str(os.environ.get(text)))
        case "picture":
            return types.CallToolResult(content=[types.ImageContent(data=PNG, mime_type="image/png")])
        case "facts":
            return types.CallToolResult(content=[], structured_content={"answer": 42})
        case "fail":
            return types.CallToolResult(content=[types.TextContent(text="it failed")], is_error=True)
        case "long":
            return said("x" * int(text))
        case "hang":
            try:
                await anyio.sleep_forever()
            finally:
                note("hang was cancelled")
        case "die":
            os.write(2, b"cannot go on\n")
            os._exit(3)
        case "fork":
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)  # noqa: ASYNC220  # it does not wait
            return said(str(child.pid))
        case "change":
            state["description"] = text
            await context.session.send_tool_list_changed()
            return said("changed")
        case "ask":
            message = types.SamplingMessage(role="user", content=types.TextContent(text="think"))
            try:
                await context.session.create_message([message], max_tokens=10)
            except Exception as error:
                return said(f"declined: {error}")
            return said("a model answered")
    return types.CallToolResult(content=[types.TextContent(text="no such tool")], is_error=True)


def said(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)])


def server() -> Server[Any]:
    return Server("test", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def main() -> None:
    served = server()
    async with stdio_server() as (incoming, outgoing):
        await served.run(incoming, outgoing, served.create_initialization_options())


assert base64.b64decode(PNG).startswith(b"\x89PNG")


def serve_http(socket: str) -> None:
    """Serve over HTTP on a Unix socket, at /mcp, until killed."""
    import uvicorn

    uvicorn.run(server().streamable_http_app(), uds=socket, log_level="error")


if __name__ == "__main__":
    note("started")
    if len(sys.argv) > 2:
        serve_http(sys.argv[2])
    anyio.run(main, backend="trio")
