"""skillctl mcp."""

from __future__ import annotations

import click

from skilld.cli.app import App
from skilld.cli.commands.options import pass_app
from skilld.cli.failure import EXIT, Failure

__all__ = ["mcp_command"]


@click.command("mcp")
@click.option("--agent", metavar="NAME", help="The agent that is served: what it claims is claimed in its name.")
@click.option("--allow", "allowed", metavar="TOOL", multiple=True, help="Only this tool; may be given several times.")
@click.option("--read-only", is_flag=True, help="Only tools that change nothing.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86_400),
    default=50.0,
    show_default=True,
    metavar="S",
    help="How long a tool waits for an answer whose caller names no time, in seconds.",
)
@pass_app
def mcp_command(app: App, agent: str | None, allowed: tuple[str, ...], read_only: bool, wait_s: float) -> int:
    """Give another program the workshop: an MCP server on standard input and output.

    The program starts it, and it ends with the program. It acts as you; no port is opened. See docs/mcp.md.

    \b
    Claude:
      claude --mcp-config '{"mcpServers": {"workshop": {"command": "skillctl", "args": ["mcp"]}}}'
    Codex:
      codex -c mcp_servers.workshop.command=skillctl -c 'mcp_servers.workshop.args=["mcp"]'
    """
    import sys

    import trio

    from skilld.mcp.bridge import serve
    from skilld.mcp.scope import Scope
    from skilld.mcp.tools import TOOLS

    try:
        scope = Scope.of(TOOLS, allow=allowed, read_only=read_only, agent=agent)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if sys.stdin.isatty():
        raise Failure("an MCP server is started by the program that it serves; see 'skillctl mcp --help'", EXIT.USAGE)
    with app.client() as client:
        socket = client.socket
    try:
        trio.run(lambda: serve(socket, scope, wait_s=wait_s))
    except KeyboardInterrupt:
        return EXIT.CANCELLED
    return EXIT.DONE
