"""skillctl monitor import: what Cylestio Monitor left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import counted, one_line, print_json

if TYPE_CHECKING:
    from skilld.monitor.imports.importer import Imported, Progress

__all__ = ["import_command"]

_SHOWN: Final = 5


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Read the files and say what they hold; nothing is sent.")
@click.option(
    "--timezone", metavar="NAME", help="Of times that name none, such as Europe/Berlin; this host's without it."
)
@click.option(
    "--monitor-socket",
    metavar="PATH",
    type=click.Path(path_type=Path),
    envvar="SKILLD_MONITOR_SOCKET",
    help="Where programs report; monitor.sock beside the daemon's own socket without it.",
)
@json_option()
@pass_app
def import_command(
    app: App, files: Sequence[Path], dry_run: bool, timezone: str | None, monitor_socket: Path | None, as_json: bool
) -> None:
    """Take over files of Cylestio Monitor, of both of its generations, and exports of ours.

    Those are its data bases and log files, packed by gzip or not, what 'skillctl monitor export' wrote, and the files
    of an event log.

    The start and the end of a call become one span where their ids say that they belong together. What has been taken
    over once is not taken over again, in whichever copy of a file it is. A line that is none is named and passed over;
    a file that cannot be read to its end makes the exit code 1.

    \b
    Examples:
      skillctl monitor import --dry-run monitoring.json
      skillctl monitor import ~/.local/share/cylestio-monitor/cylestio_monitor.db
      skillctl monitor import /var/log/skilld/*.jsonl.gz
    """
    from skilld.monitor.imports.importer import import_file
    from skilld.monitor.imports.sender import BatchSender, NotDelivered

    zone = _zone(timezone)
    sender = None if dry_run else BatchSender(_socket(app, monitor_socket))
    found: list[Imported] = []
    try:
        for path in files:
            with _Shown(path, hidden=as_json or not sys.stderr.isatty()) as progress:
                found.append(import_file(path, None if sender is None else sender.send, zone=zone, progress=progress))
            if not as_json:
                _print(found[-1])
    except NotDelivered as error:
        raise Failure(f"not delivered: {error.strerror or error}", EXIT.UNREACHABLE) from error
    finally:
        if sender is not None:
            sender.close()
    if as_json:
        print_json({"items": [done.as_json() for done in found]})
    if any(done.problem for done in found):
        raise click.exceptions.Exit(EXIT.FAILED)


def _socket(app: App, given: Path | None) -> Path:
    if given is not None:
        return given
    with app.client() as client:
        return Path(os.fspath(client.socket)).with_name("monitor.sock")


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--timezone {name}: there is no such time zone") from error


def _print(done: Imported) -> None:
    facts = done.as_json()
    if done.stored is None:
        outcome = f"{counted(done.events, 'event')} would be taken over"
    else:
        there = facts["already_there"]
        outcome = f"{done.stored} of {counted(done.events, 'event')} {_are(done.stored)} new"
        outcome += f", {there} {'was' if there == 1 else 'were'} there already"
    if done.refused:
        outcome += f", {done.refused} refused"
    if done.reading.bad:
        outcome += f"; {counted(done.reading.bad, 'record')} {_are(done.reading.bad)} none"
    click.echo(one_line(f"{done.path}: {outcome}"))
    for where, why in done.reading.problems[:_SHOWN]:
        click.echo(one_line(f"  at {where}: {why}"), err=True)
    if done.reading.bad > _SHOWN:
        click.echo(f"  and {done.reading.bad - _SHOWN} more", err=True)
    if done.problem:
        click.echo(one_line(f"  not read to its end: {done.problem}"), err=True)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


class _Shown:
    """A bar on a terminal."""

    def __init__(self, path: Path, *, hidden: bool) -> None:
        self._bar: Any = click.progressbar(length=100, label=one_line(path.name, 40), hidden=hidden, file=sys.stderr)
        self._percent = 0

    def __enter__(self) -> Progress:
        self._bar.__enter__()
        return self._show

    def __exit__(self, *raised: object) -> None:
        self._bar.__exit__(*raised)

    def _show(self, done: int, total: int) -> None:
        percent = 100 if total <= 0 else min(100, done * 100 // total)
        if percent > self._percent:
            self._bar.update(percent - self._percent)
            self._percent = percent
