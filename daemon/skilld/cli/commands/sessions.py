"""skillctl sessions and rm."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app, session_argument
from skilld.cli.narrator import cost_text
from skilld.cli.output import print_json, print_table

__all__ = ["rm_command", "sessions_command"]


@click.command("sessions")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@json_option()
@pass_app
def sessions_command(app: App, limit: int, as_json: bool) -> None:
    """List conversations, the latest first.

    \b
    Example:
      skillctl sessions -n 10
    """
    with app.client() as client:
        items = list(islice(client.sessions(page_size=min(limit, 200)), limit))
    if as_json:
        print_json({"items": items})
        return
    print_table(("session", "status", "turns", "cost", "updated", "title"), [_row(item) for item in items])


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
def rm_command(app: App, sessions: tuple[str, ...]) -> None:
    """Delete conversations with all their events and files. What runs in them is cancelled.

    \b
    Example:
      skillctl rm ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    with app.client() as client:
        for session in sessions:
            client.delete_session(session)
