"""skillctl monitor query: events that were looked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.monitor.event_options import MAX_PAGE, event_filters, print_event
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.output import print_json

__all__ = ["query_command"]


@click.command("query")
@click.argument("text", required=False)
@event_filters
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Only those of the last so many hours.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Only those of the last so many days.")
@click.option("--since", metavar="TIME", help="Only those from this time on, such as 2026-01-15T09:30:00Z.")
@click.option("--until", metavar="TIME", help="Only those before this time.")
@click.option("--before", metavar="ID", type=click.IntRange(0), help="Only those before this one: the next page.")
@click.option("--limit", type=click.IntRange(1, MAX_PAGE), default=100, show_default=True, help="How many at most.")
@json_option()
@pass_app
def query_command(
    app: App, /, text: str | None, hours: float | None, days: float | None, as_json: bool, **filters: Any
) -> None:
    """Find events, the newest first: by what they are, and by all words of TEXT in their names and data.

    \b
    Examples:
      skillctl monitor query timeout --since 2026-01-15
      skillctl monitor query --status error --min-duration-ms 5000 --hours 24
      skillctl monitor query --trace 4cf1804766588054733c4dc7fedc3923 --json
    """
    if hours is not None or days is not None:
        if filters["since"] is not None or (hours is not None and days is not None):
            raise click.UsageError("--since, --hours and --days say the same: name one")
        moment = datetime.now(UTC) - timedelta(hours=hours or 0, days=days or 0)
        filters["since"] = moment.isoformat()
    with app.client() as client:
        found = client.monitor_events(text=text, **filters)
    if as_json:
        print_json({"items": found})
        return
    for event in found:
        print_event(event, as_json=False)
