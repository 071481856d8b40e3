"""skillctl usage: what was spent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.narrator import cost_text
from skilld.cli.output import print_json, print_table

__all__ = ["usage_command"]


def _day(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A day as it is, or the one so many days ago, in UTC as the ledger counts them."""
    if value is None:
        return None
    ago = re.fullmatch(r"(\d{1,5})d", value, re.ASCII)
    try:
        day = datetime.now(UTC).date() - timedelta(days=int(ago[1])) if ago else date.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!a}: expected a day such as 2026-01-15, or 7d", ctx, param) from error
    return day.isoformat()


@click.command("usage")
@click.option(
    "--by",
    type=click.Choice(("session", "user", "model", "day")),
    default="day",
    show_default=True,
    help="What it is added up by.",
)
@click.option(
    "--since",
    metavar="DAY",
    callback=_day,
    help="The first day that counts, in UTC: 2026-01-15, or so long ago: 7d.",
)
@click.option("--until", metavar="DAY", callback=_day, help="The last day that counts.")
@json_option()
@pass_app
def usage_command(app: App, by: Any, since: str | None, until: str | None, as_json: bool) -> None:
    """Show what was spent: your own, and with the role admin everybody's.

    It is there also for sessions that were reset or deleted. What calls that run now have set aside counts as spent
    until they end. "$1.25 or more" says that the price of some of it is not known.

    \b
    Examples:
      skillctl usage --by model --since 2026-01-01
      skillctl usage --by user --since 7d
      skillctl usage --by session --json | jq '.items[0]'
    """
    with app.client() as client:
        found = client.usage(by=by, since=since, until=until)
    if as_json:
        print_json(found)
        return
    rows = [_row(str(item["key"]) or "-", item) for item in found["items"]]  # tools and time are of no model
    if len(rows) > 1:
        rows.append(_row("total", found["total"]))
    print_table((by, "cost", "tokens", "seconds", "tool calls"), rows)


def _row(key: str, item: Mapping[str, Any]) -> list[str]:
    cost = cost_text(item["known_usd"])
    if item["cost_usd"] is None:
        cost = f"{cost} or more" if item["known_usd"] else "price unknown"
    return [key, cost, str(item["tokens"]), f"{item['seconds']:.1f}", str(item["tool_calls"])]
