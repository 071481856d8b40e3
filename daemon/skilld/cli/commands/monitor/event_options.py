"""What commands about reported events share: which events, and how one is printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from skilld.cli.output import one_line

__all__ = ["MAX_PAGE", "event_filters", "print_event"]

F = TypeVar("F", bound=Callable[..., Any])

MAX_PAGE: Final = 1_000
_STATUSES: Final = ("ok", "error", "cancelled", "closed", "abandoned")
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def event_filters(command: F) -> F:
    """Options by which events are chosen; each is an argument of the command and of `Client.monitor_events`."""
    for option in reversed(
        (
            click.option("--agent", metavar="NAME", help="Only what this agent reported."),
            click.option("--name", metavar="NAME", help="Only events and spans of this name."),
            click.option("--channel", metavar="CHANNEL", help="Only those of this channel, such as LLM."),
            click.option("--level", type=click.Choice(_LEVELS), help="Only those of this level or a worse one."),
            click.option("--trace", metavar="ID", help="Only those of this trace."),
            click.option("--session", metavar="ID", help="Only those of this conversation of the program."),
            click.option("--user", metavar="ID", help="Only those of this user of the program."),
            click.option("--tag", metavar="TAG", help="Only those with this tag."),
            click.option("--model", metavar="NAME", help="Only calls of this model."),
            click.option("--run", metavar="ID", help="Only those of this run of a program."),
            click.option("--pid", type=click.IntRange(0), help="Only those of this process, by its own word."),
            click.option("--status", type=click.Choice(_STATUSES), help="Only spans that ended so."),
            click.option("--min-duration-ms", type=click.FloatRange(0), help="Only spans that took so long."),
        )
    ):
        command = option(command)
    return command


def print_event(event: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an event on one line, of JSON or for people."""
    if as_json:
        click.echo(json.dumps(event))
        return
    took = "" if event["duration_ms"] is None else f" {event['duration_ms']:g} ms {event['status']}"
    data = "" if event["data"] in ({}, None) else " " + json.dumps(event["data"], ensure_ascii=False)
    line = f"{event['time']} {event['level']:<8} {event['agent']} {event['channel']} {event['name']}{took}{data}"
    click.echo(one_line(line))
