"""skillctl monitor cleanup: remove what is old."""

from __future__ import annotations

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.output import counted, print_json, size_text

__all__ = ["cleanup_command"]


@click.command("cleanup")
@click.argument("days", type=click.FloatRange(min=0, max=36_500))
@click.option("--optimize", is_flag=True, help="Also make the file smaller and quicker; needs the role admin.")
@json_option()
@pass_app
def cleanup_command(app: App, /, days: float, optimize: bool, as_json: bool) -> None:
    """Remove what your programs reported DAYS ago and earlier; with the role admin everybody's.

    \b
    Example:
      skillctl monitor cleanup 90 --optimize
    """
    with app.client() as client:
        removed = client.monitor_cleanup(days)
        made = client.monitor_optimize() if optimize else None
    if as_json:
        print_json({"removed": removed, **(made or {})})
        return
    click.echo(f"{counted(removed, 'event')} removed")
    if made is not None:
        click.echo(f"the file had {size_text(made['bytes_before'])} and has {size_text(made['bytes_after'])}")
