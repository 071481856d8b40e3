"""The workshop for other programs: an MCP server on standard input and output that speaks to the daemon.

Nothing of this is imported but by `skillctl mcp`, and the MCP library only once that runs.
"""

__all__ = ()
