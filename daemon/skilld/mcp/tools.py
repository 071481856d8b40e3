"""All tools, in the order in which they are listed."""

from __future__ import annotations

from typing import Final

from skilld.mcp import agent_tools, board_tools, plan_tools, shared_tools, speaking_tools
from skilld.mcp.tool import Tool

__all__ = ["TOOLS"]

TOOLS: Final[tuple[Tool, ...]] = (
    *agent_tools.TOOLS,
    *speaking_tools.TOOLS,
    *board_tools.TOOLS,
    *shared_tools.TOOLS,
    *plan_tools.TOOLS,
)
