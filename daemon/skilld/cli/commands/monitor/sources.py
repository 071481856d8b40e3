"""skillctl monitor sources: who reports now."""

from __future__ import annotations

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.output import print_json, print_table

__all__ = ["sources_command"]


@click.command("sources")
@click.option("--quarantine", is_flag=True, help="What could not be kept, and why, instead.")
@json_option()
@pass_app
def sources_command(app: App, /, quarantine: bool, as_json: bool) -> None:
    """List the programs that report now: what came of each since it began, and what waits.

    \b
    Examples:
      skillctl monitor sources
      skillctl monitor sources --quarantine
    """
    with app.client() as client:
        found = client.monitor_quarantine() if quarantine else client.monitor_sources()
    if as_json:
        print_json({"items": found})
        return
    names: tuple[str, ...]
    if quarantine:
        names = ("time", "agent", "uid", "run", "seq", "why")
    else:
        names = ("agent", "uid", "batches", "stored", "duplicates", "refused", "quarantined", "waiting", "silent_s")
    if found:
        print_table(names, [[str(one[name]) for name in names] for one in found])
