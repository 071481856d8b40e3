"""skillctl monitor sinks: where reported events go besides the store."""

from __future__ import annotations

from typing import Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.output import one_line, print_json, print_table

__all__ = ["sinks_command"]

_NUMBERS: Final = ("lag", "sent", "failed", "lost", "retries")


@click.command("sinks")
@json_option()
@pass_app
def sinks_command(app: App, as_json: bool) -> None:
    """List where reported events go besides the store, and how far each place is behind.

    \b
    Example:
      skillctl monitor sinks
    """
    with app.client() as client:
        found = client.monitor_sinks()
    if as_json:
        print_json({"items": found})
        return
    if not found:
        click.echo("events go nowhere else: see [monitor.event_log] and [monitor.export]")
        return
    rows = [
        (
            str(sink["name"]),
            str(sink["state"]),
            *(str(sink[key]) for key in _NUMBERS),
            one_line(str(sink["target"])),
            one_line(str(sink["problem"]), 60),
        )
        for sink in found
    ]
    print_table(("SINK", "STATE", *(name.upper() for name in _NUMBERS), "TARGET", "PROBLEM"), rows)
