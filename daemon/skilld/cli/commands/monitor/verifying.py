"""skillctl monitor verify: whether the files of an event log are what was written."""

from __future__ import annotations

from pathlib import Path

import click

from skilld.cli.commands.options import json_option
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import counted, one_line, print_json

__all__ = ["verify_command"]


@click.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option()
def verify_command(folder: Path, as_json: bool) -> None:
    """Check the checksums of an event log: of every file that has ended, and that none is missing in between.

    Needs no daemon. Exits 1 if a file is not what was written.

    \b
    Example:
      skillctl monitor verify /var/log/skilld
    """
    from skilld.monitor.sinks.log_files import verify

    try:
        found = verify(folder)
    except OSError as error:
        raise Failure(f"{folder}: {error.strerror}") from error
    if as_json:
        items = [{"path": str(one.path), "lines": one.lines, "problem": one.problem} for one in found]
        print_json({"items": items})
    else:
        for one in found:
            click.echo(one_line(f"{one.path.name}: {counted(one.lines, 'line')}: {one.problem or 'as written'}"))
        if not found:
            click.echo("no file has ended yet")
    if any(one.problem for one in found):
        raise click.exceptions.Exit(EXIT.FAILED)
