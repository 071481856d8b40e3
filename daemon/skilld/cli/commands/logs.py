"""skillctl logs: the daemon's log, out of systemd's journal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from skilld.cli.app import App
from skilld.cli.commands.options import complete_sessions, pass_app
from skilld.cli.failure import Failure
from skilld.client.sync import socket_path
from skilld.paths import home

__all__ = ["journal_command", "logs_command"]

_UNIT = "skilld.service"


@click.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 1_000_000), default=200, show_default=True, help="How many.")
@click.option("--since", metavar="TIME", help="Not before this: 'today', '10 min ago', '2026-11-21 08:00'.")
@click.option("-s", "--session", metavar="SESSION", help="Only what names this.", shell_complete=complete_sessions)
@click.option("--warnings", is_flag=True, help="Only warnings and worse.")
@click.option("--user/--system", "for_user", default=None, help="Whose service; else that of the socket in use.")
@click.option("--json", "as_json", is_flag=True, help="Print each entry as a line of JSON, as journalctl has it.")
@pass_app
def logs_command(
    app: App,
    follow: bool,
    lines: int,
    since: str | None,
    session: str | None,
    warnings: bool,
    for_user: bool | None,
    as_json: bool,
) -> None:
    """Show the log of the service, which systemd's journal keeps.

    A daemon that runs in the foreground writes its log to stderr, and there is none here.

    \b
    Examples:
      skillctl logs -f
      skillctl logs --since "10 min ago" --warnings
    """
    if for_user is None:
        for_user = _is_of_user(socket_path(app.socket), os.environ.get("XDG_RUNTIME_DIR"))
    command = journal_command(
        for_user=for_user,
        follow=follow,
        lines=lines,
        since=since,
        session=session,
        warnings=warnings,
        as_json=as_json,
    )
    program = shutil.which(command[0])
    if program is None:
        raise Failure("there is no journalctl here: the log of a daemon in the foreground is its stderr")
    os.execv(program, command)  # so that Ctrl-C, the pager and the exit code are its own


def journal_command(
    *,
    for_user: bool,
    follow: bool = False,
    lines: int = 200,
    since: str | None = None,
    session: str | None = None,
    warnings: bool = False,
    as_json: bool = False,
) -> list[str]:
    """The command line of journalctl."""
    chosen: Sequence[tuple[bool, str]] = (
        (True, f"--{'user-' if for_user else ''}unit={_UNIT}"),
        (True, f"--lines={lines}"),
        (follow, "--follow"),
        (since is not None, f"--since={since}"),
        (warnings, "--priority=warning"),
        (as_json, "--output=json"),
        (session is not None, f"SKILLD_SESSION={session}"),
    )
    return ["journalctl", *(option for wanted, option in chosen if wanted)]


def _is_of_user(socket: str, runtime_dir: str | None) -> bool:
    """Whether a socket lies where a user's own daemon has it."""
    places = [Path(place) for place in (runtime_dir, home(os.environ)) if place]
    return any(Path(socket).is_relative_to(place) for place in places)
