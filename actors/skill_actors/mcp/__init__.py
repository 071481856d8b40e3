"""MCP servers as sources of tools: programs on their standard streams, and servers over HTTP.

    options -> place -> stdio, http -> connection -> server -> source

The official SDK is imported when the first server is used, and in a thread, since that takes half a second: nothing
here but `connection` and what it opens may be imported together with it.
"""

from skill_actors.mcp.errors import ServerFailed
from skill_actors.mcp.options import ServerOptions
from skill_actors.mcp.server import ToolServers, ToolServersRef
from skill_actors.mcp.source import ServerSource

__all__ = ["ServerFailed", "ServerOptions", "ServerSource", "ToolServers", "ToolServersRef"]
