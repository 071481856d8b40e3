"""skillctl monitor tail: the latest events."""

from __future__ import annotations

from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.monitor.event_options import MAX_PAGE, event_filters, print_event
from skilld.cli.commands.options import json_option, pass_app

__all__ = ["tail_command"]

_WAIT_S: Final = 20.0


@click.command("tail")
@event_filters
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, MAX_PAGE), default=20, show_default=True, help="How many.")
@json_option("each event as a line of JSON")
@pass_app
def tail_command(app: App, /, follow: bool, lines: int, as_json: bool, **filters: Any) -> None:
    """Print the latest events, the newest last.

    \b
    Examples:
      skillctl monitor tail -n 50
      skillctl monitor tail -f --channel LLM
    """
    with app.client() as client:
        found = client.monitor_events(limit=max(lines, 1), **filters)
        for event in reversed(found[:lines]):
            print_event(event, as_json=as_json)
        last = found[0]["id"] if found else 0
        while follow:
            for event in client.monitor_events(after=last, limit=MAX_PAGE, wait_s=_WAIT_S, **filters):
                print_event(event, as_json=as_json)
                last = event["id"]
