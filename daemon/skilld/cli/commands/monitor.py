"""skillctl monitor: what other programs report of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.output import one_line, print_json, print_table

__all__ = ["monitor_command"]

F = TypeVar("F", bound=Callable[..., Any])

_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_WAIT_S: Final = 20.0
_PAGE: Final = 1_000


@click.group("monitor")
def monitor_command() -> None:
    """See what other programs report of themselves.

    They do it with one line of Python, 'skilld_monitor.enable_monitoring("name")', as the manual tells on its page
    about monitoring. You see what your own programs reported, with the role admin what everybody's did.

    \b
    Examples:
      skillctl monitor tail -f
      skillctl monitor query --agent shop --level error "card declined"
      skillctl monitor stats
    """


def _filters(command: F) -> F:
    for option in reversed(
        (
            click.option("--agent", metavar="NAME", help="Only what this agent reported."),
            click.option("--name", metavar="NAME", help="Only events and spans of this name."),
            click.option("--channel", metavar="CHANNEL", help="Only those of this channel, such as LLM."),
            click.option("--level", type=click.Choice(_LEVELS), help="Only those of this level or a worse one."),
            click.option("--trace", metavar="ID", help="Only those of this trace."),
        )
    ):
        command = option(command)
    return command


@monitor_command.command("tail")
@_filters
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, _PAGE), default=20, show_default=True, help="How many.")
@json_option("each event as a line of JSON")
@pass_app
def tail_monitor(app: App, /, follow: bool, lines: int, as_json: bool, **filters: Any) -> None:
    """Print the latest events, the newest last.

    \b
    Examples:
      skillctl monitor tail -n 50
      skillctl monitor tail -f --channel LLM
    """
    with app.client() as client:
        found = client.monitor_events(limit=max(lines, 1), **filters)
        for event in reversed(found[:lines]):
            _print(event, as_json=as_json)
        last = found[0]["id"] if found else 0
        while follow:
            for event in client.monitor_events(after=last, limit=_PAGE, wait_s=_WAIT_S, **filters):
                _print(event, as_json=as_json)
                last = event["id"]


@monitor_command.command("query")
@click.argument("text", required=False)
@_filters
@click.option("--since", metavar="TIME", help="Only those from this time on, such as 2026-01-15T09:30:00Z.")
@click.option("--until", metavar="TIME", help="Only those before this time.")
@click.option("--before", metavar="ID", type=click.IntRange(0), help="Only those before this one: the next page.")
@click.option("--limit", type=click.IntRange(1, _PAGE), default=100, show_default=True, help="How many at most.")
@json_option()
@pass_app
def query_monitor(app: App, /, text: str | None, as_json: bool, **filters: Any) -> None:
    """Find events, the newest first: by what they are, and by all words of TEXT in their names and data.

    \b
    Examples:
      skillctl monitor query timeout --since 2026-01-15
      skillctl monitor query --trace 4cf1804766588054733c4dc7fedc3923 --json
    """
    with app.client() as client:
        found = client.monitor_events(text=text, **filters)
    if as_json:
        print_json({"items": found})
        return
    for event in found:
        _print(event, as_json=False)


@monitor_command.command("stats")
@json_option()
@pass_app
def stats_monitor(app: App, as_json: bool) -> None:
    """Print how much was reported, by agent, by channel and by level.

    \b
    Example:
      skillctl monitor stats
    """
    with app.client() as client:
        found = client.monitor_stats()
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['events']} events")
    rows = [
        (str(source["agent"]), *(str(source[key]) for key in ("uid", "events", "runs", "errors", "last")))
        for source in found["sources"]
    ]
    if rows:
        print_table(("AGENT", "UID", "EVENTS", "RUNS", "ERRORS", "LAST"), rows)
    for title in ("channels", "levels"):
        if found[title]:
            click.echo(f"{title}: " + ", ".join(f"{name} {count}" for name, count in found[title].items()))


def _print(event: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event))
        return
    took = "" if event["duration_ms"] is None else f" {event['duration_ms']:g} ms {event['status']}"
    data = "" if event["data"] in ({}, None) else " " + json.dumps(event["data"], ensure_ascii=False)
    line = f"{event['time']} {event['level']:<8} {event['agent']} {event['channel']} {event['name']}{took}{data}"
    click.echo(one_line(line))
