"""skillctl doctor: what would keep the daemon from working here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from skilld.cli.app import App
from skilld.cli.check import Check
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT
from skilld.cli.output import one_line, print_json

__all__ = ["doctor_command"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="Look at this file.")
@click.option("--fix", is_flag=True, help="Mend what can be mended without harm: modes of files and folders.")
@json_option()
@pass_app
def doctor_command(app: App, config_file: Path | None, fix: bool, as_json: bool) -> int:
    """Look for what would keep the daemon from working here. Needs no running daemon; changes nothing without --fix.

    Exits 1 if a check failed. What it finds is true for the user who runs it.

    \b
    Examples:
      skillctl doctor --json
      skillctl doctor --fix
    """
    from skilld.cli.checks import check_all

    checks = list(check_all(app.socket, config_file, os.environ))
    if fix and _fixed(checks):
        checks = list(check_all(app.socket, config_file, os.environ))
    if as_json:
        print_json({"ok": not any(c.level == "fail" for c in checks), "checks": [c.to_dict() for c in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            level = _coloured(check.level)
            print(f"{level}  {check.name.ljust(width)}  {one_line(check.message)}")
            if check.remedy:
                print(f"      {''.ljust(width)}  -> {one_line(check.remedy)}")
    return EXIT.FAILED if any(check.level == "fail" for check in checks) else EXIT.DONE


def _fixed(checks: Sequence[Check]) -> bool:
    """Whether anything was mended; each is said on stderr."""
    mended = False
    for check in checks:
        if check.fix is None:
            continue
        try:
            check.fix()
        except OSError as error:
            click.echo(f"not mended: {check.remedy}: {error.strerror}", err=True)
        else:
            mended = True
            click.echo(f"mended: {check.remedy}", err=True)
    return mended


def _coloured(level: str) -> str:
    text = level.ljust(4)
    plain = not sys.stdout.isatty() or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, fg=_COLOURS[level])
