"""skillctl monitor stats: what the events add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.output import counted, print_json, print_table

__all__ = ["are_several_users", "cost_text", "stats_command"]


@click.command("stats")
@click.option("--agent", metavar="NAME", help="Only of this agent.")
@click.option("--session", metavar="ID", help="Only of this conversation of the program.")
@click.option("--since", metavar="TIME", help="Only what is from this time on, such as 2026-01-15T09:30:00Z.")
@click.option("--until", metavar="TIME", help="Only what was before this time.")
@json_option()
@pass_app
def stats_command(app: App, /, as_json: bool, **wanted: Any) -> None:
    """Print how much was reported, by agent, channel and level, and what models used, by model and user.

    \b
    Examples:
      skillctl monitor stats
      skillctl monitor stats --agent shop --since 2026-01-15
    """
    with app.client() as client:
        found = client.monitor_stats(**wanted)
    if as_json:
        print_json(found)
        return
    click.echo(counted(found["events"], "event"))
    rows = [
        (
            *(str(source[key]) for key in ("agent", "uid", "events", "runs", "errors")),
            *(str(source["input_tokens"]), str(source["output_tokens"]), cost_text(source["cost_usd"])),
            str(source["last"]),
        )
        for source in found["sources"]
    ]
    if rows:
        print_table(("AGENT", "UID", "EVENTS", "RUNS", "ERRORS", "IN", "OUT", "COST", "LAST"), rows)
    for title in ("channels", "levels"):
        if found[title]:
            click.echo(f"{title}: " + ", ".join(f"{name} {count}" for name, count in found[title].items()))
    _print_used("model", found["models"])
    _print_used("user", found["users"])
    for category, severities in found["findings"].items():
        click.echo(f"{category}: " + ", ".join(f"{name} {count}" for name, count in severities.items()))


def cost_text(cost_usd: float | None) -> str:
    """US dollars; a dash where no price was known. What is little is not nothing."""
    if cost_usd is None:
        return "-"
    return "<$0.0001" if 0 < cost_usd < 0.0001 else f"${cost_usd:.4f}"


def are_several_users(found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the programs are those of several users of this host, so that each line has to say whose it is."""
    return len({one.get("uid") for one in found}) > 1


def _print_used(by: str, used: list[Mapping[str, Any]]) -> None:
    names = (by, "uid", "calls", "errors") if are_several_users(used) else (by, "calls", "errors")
    rows = [
        (
            *(str(one[name]) for name in (*names, "input_tokens", "output_tokens")),
            cost_text(one["cost_usd"]),
        )
        for one in used
    ]
    if rows:
        print_table((*(name.upper() for name in names), "IN", "OUT", "COST"), rows)
