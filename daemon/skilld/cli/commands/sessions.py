"""skillctl sessions and rm."""

from __future__ import annotations

import re
import time
from itertools import islice
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app, session_argument
from skilld.cli.failure import EXIT, Failure
from skilld.cli.narrator import cost_text
from skilld.cli.output import print_json, print_table
from skilld.client import SkilldError

__all__ = ["rm_command", "sessions_command"]

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.command("sessions")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--status", type=click.Choice(("idle", "queued", "running", "waiting", "paused")), help="Only those.")
@click.option("--label", metavar="KEY[=VALUE]", help="Only those with this label.")
@click.option("--title", metavar="TEXT", help="Only those with TEXT in the title.")
@click.option("--search", metavar="TEXT", help="Only those with TEXT in the title, a label's value or the id.")
@click.option("--since", metavar="TIME", help="Only those used since then: 30m, 12h, 7d, or 2026-01-15T03:29:51Z.")
@json_option()
@pass_app
def sessions_command(
    app: App,
    limit: int,
    status: str | None,
    label: str | None,
    title: str | None,
    search: str | None,
    since: str | None,
    as_json: bool,
) -> None:
    """List conversations, the latest first.

    \b
    Examples:
      skillctl sessions -n 10
      skillctl sessions --status running --since 2h
    """
    filters = {"status": status, "label": label, "title": title, "q": search, "since": _time(since)}
    with app.client() as client:
        items = list(islice(client.sessions(page_size=min(limit, 200), **filters), limit))
    if as_json:
        print_json({"items": items})
        return
    print_table(("session", "status", "turns", "cost", "updated", "title"), [_row(item) for item in items])


def _time(since: str | None) -> str | None:
    """A time as it is, or so long ago."""
    found = None if since is None else re.fullmatch(r"(\d{1,6})([smhd])", since)
    if found is None:
        return since
    ago_s = int(found[1]) * _UNITS_S[found[2]]
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(0.0, time.time() - ago_s)))


def _row(item: dict[str, Any]) -> list[str]:
    return [
        str(item["id"]),
        str(item["status"]),
        str(item["turns"]),
        cost_text(item["cost_usd"]),
        str(item["updated"]),
        str(item.get("title") or "-"),
    ]


@click.command("rm")
@session_argument(many=True)
@pass_app
def rm_command(app: App, sessions: tuple[str, ...]) -> int:
    """Delete conversations with all their events and files. What runs in them is cancelled.

    One that cannot be deleted does not keep the others: it is named, and the exit code is 1.

    \b
    Example:
      skillctl rm ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    code = EXIT.DONE
    with app.client() as client:
        for session in sessions:
            try:
                client.delete_session(session)
            except SkilldError as error:
                if error.status is None:  # nobody answers: it would be the same with the others
                    raise
                failure = Failure.of(error)
                failure.show()
                code = failure.exit_code
    return code
