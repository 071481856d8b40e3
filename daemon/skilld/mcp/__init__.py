"""The workshop for other programs: as an MCP server on standard input and output, and on the daemon's socket.

The MCP library is imported only once somebody calls.
"""

__all__ = ()
