"""skillctl monitor sessions: the conversations that programs named."""

from __future__ import annotations

from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.monitor.stats import are_several_users, cost_text
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.output import print_json, print_table

__all__ = ["sessions_command"]


@click.command("sessions")
@click.option("--agent", metavar="NAME", help="Only of this agent.")
@click.option("--since", metavar="TIME", help="Only what is from this time on, such as 2026-01-15T09:30:00Z.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="How many at most.")
@json_option()
@pass_app
def sessions_command(app: App, /, as_json: bool, **wanted: Any) -> None:
    """List the conversations that your programs named, the latest first: calls, tokens, cost, errors.

    \b
    Example:
      skillctl monitor sessions --agent shop
    """
    with app.client() as client:
        found = client.monitor_sessions(**wanted)
    if as_json:
        print_json({"items": found})
        return
    uid = ("uid",) if are_several_users(found) else ()
    rows = [
        (
            *(str(one[name]) for name in ("session", *uid)),
            *(", ".join(one["agents"]), str(one["user"] or "-")),
            *(str(one[name]) for name in ("events", "calls", "errors", "input_tokens", "output_tokens")),
            *(cost_text(one["cost_usd"]), str(one["last"])),
        )
        for one in found
    ]
    if rows:
        counts = ("EVENTS", "CALLS", "ERRORS", "IN", "OUT", "COST", "LAST")
        columns = ("SESSION", *map(str.upper, uid), "AGENTS", "USER", *counts)
        print_table(columns, rows)
