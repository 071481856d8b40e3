"""skillctl mcp-servers: the tool servers that conversations may have."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import clean, counted, one_line, print_json, print_table

if TYPE_CHECKING:
    from skilld.cli.server_checks import Looked

__all__ = ["mcp_servers_command"]

_CONFIG = click.option("--config", "file", type=click.Path(path_type=Path), help="Where the servers are configured.")
_NAMES = click.argument("names", metavar="[NAME]...", nargs=-1)


@click.group("mcp-servers")
def mcp_servers_command() -> None:
    """See the tool servers that conversations may have, and try them.

    They are MCP servers of the section [mcp.servers.NAME] of the configuration; a session has those that it names.
    (That skilld is a server for other programs is another command: 'skillctl mcp'.)

    \b
    Examples:
      skillctl mcp-servers list
      skillctl mcp-servers check notes
      skillctl send --mcp notes "what do I know about tides?"
    """


@mcp_servers_command.command("list")
@json_option()
@pass_app
def list_servers(app: App, as_json: bool) -> None:
    """List the servers that your sessions may name, and how many of each run for you.

    \b
    Example:
      skillctl mcp-servers list --json
    """
    with app.client() as client:
        found = client.tool_servers()
    if as_json:
        print_json({"items": found})
        return
    print_table(["NAME", "KIND", "SANDBOX", "DEFAULT", "RUNNING", "PROBLEM"], [_row(item) for item in found])


def _row(item: dict[str, Any]) -> list[str]:
    default = "yes" if item["default"] else ""
    problem = clean(one_line(item["problem"] or ""))
    return [item["name"], item["kind"], item["sandbox"] or "", default, str(item["running"]), problem]


@mcp_servers_command.command("check")
@_NAMES
@_CONFIG
@json_option()
def check_servers(names: Sequence[str], file: Path | None, as_json: bool) -> int:
    """Start servers here, without the daemon and as you, and say what is wrong. Exits 1 if one cannot be used.

    \b
    Example:
      skillctl mcp-servers check notes
    """
    items: list[dict[str, Any]] = []
    for name, looked in _looked_at(names, file):
        left_out = dict(looked.left_out)
        items.append({"name": name, "problem": looked.problem, "tools": len(looked.tools), "left_out": left_out})
        if not as_json:
            _say(name, looked)
    if as_json:
        print_json({"items": items})
    return EXIT.FAILED if any(item["problem"] for item in items) else EXIT.DONE


def _say(name: str, looked: Looked) -> None:
    count = len(looked.tools)
    good = f"ok, {counted(count, 'tool')}"
    print(f"{name}: {clean(one_line(looked.problem)) if looked.problem else good}")
    for tool, why in looked.left_out.items():
        print(clean(one_line(f"  {tool} is left out: {why}")))


@mcp_servers_command.command("tools")
@_NAMES
@_CONFIG
@json_option()
def list_tools(names: Sequence[str], file: Path | None, as_json: bool) -> int:
    """Start servers here, and list what they offer, as the model has it. Exits 1 if one cannot be used.

    \b
    Example:
      skillctl mcp-servers tools notes
    """
    from skill_actors.sessions.sources import offered_name

    items: list[dict[str, Any]] = []
    problems: list[str] = []
    for server, looked in _looked_at(names, file):
        problems += [f"{server}: {looked.problem}"] if looked.problem else []
        items += [
            {
                "server": server,
                "name": tool.name,
                "offered_as": offered_name(server, tool.name),
                "reads": tool.reads,
                "description": tool.description,
            }
            for tool in looked.tools
        ]
    if as_json:
        print_json({"items": items})
    else:
        rows = [
            [item["offered_as"], "unasked" if item["reads"] else "asks", clean(one_line(item["description"]))]
            for item in items
        ]
        print_table(["NAME", "RUNS", "DESCRIPTION"], rows)
    for problem in problems:
        click.echo(clean(one_line(problem)), err=True)
    return EXIT.FAILED if problems else EXIT.DONE


def _looked_at(names: Sequence[str], file: Path | None) -> Iterator[tuple[str, Looked]]:
    """Each server that is named, else each that is configured. Raises Failure for one that there is not."""
    from skilld.cli.commands.config import load
    from skilld.cli.server_checks import look_at
    from skilld.config import ConfigError

    try:
        config = load(file)[1]
    except ConfigError as error:
        raise Failure(str(error)) from error
    servers = config.mcp.servers
    for name in names:
        if name not in servers:
            raise Failure(f"there is no tool server {name!r}; configured here: {', '.join(sorted(servers)) or 'none'}")
    for name in names or servers:
        yield name, look_at(config, name, os.environ)
