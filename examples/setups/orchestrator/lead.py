"""What a leading model calls, one by one: the bridge of the agent `lead`, and a client of the MCP SDK in its place."""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio
from mcp import Client, StdioServerParameters, types
from mcp.client.stdio import stdio_client

CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("agents", {}),
    ("fan", {"message": "/echo all hosts are up", "agents": ["north", "south"]}),
    ("ask", {"agent": "lead", "prompt": "what do you think?"}),  # refused: it would wait for itself
    ("add_work", {"id": "report", "title": "Write the report", "type": "docs"}),
    ("status", {}),
)


async def main() -> None:
    bridge = StdioServerParameters(command="skillctl", args=["mcp", "--agent", "lead"], env=dict(os.environ))
    async with Client(stdio_client(bridge)) as client:
        for name, arguments in CALLS:
            answer = await client.call_tool(name, arguments)
            assert isinstance(answer, types.CallToolResult)
            text = "".join(part.text for part in answer.content if isinstance(part, types.TextContent))
            print(f"-- {name}{' (refused)' if answer.is_error else ''}\n{text}")


if __name__ == "__main__":
    sys.exit(anyio.run(main))
