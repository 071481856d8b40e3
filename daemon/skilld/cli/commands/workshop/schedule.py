"""skillctl workshop schedule: messages to agents at times that are set beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.commands.workshop.completing import complete_agents, complete_schedules
from skilld.cli.commands.workshop.owner_option import Owner, user_option
from skilld.cli.output import clean, flatten, print_json, print_table

__all__ = ["schedule_command"]


@click.group("schedule")
def schedule_command() -> None:
    """Give agents messages at times that you set.

    \b
    Examples:
      skillctl workshop schedule add morning reader --cron "0 7 * * 1-5" --timezone Europe/Berlin "What is new?"
      skillctl workshop schedule list
    """


@schedule_command.command("add")
@click.argument("name", metavar="NAME", shell_complete=complete_schedules)
@click.argument("agent", shell_complete=complete_agents)
@click.argument("prompt")
@click.option("--every", "every_s", type=click.FloatRange(min=1), metavar="SECONDS", help="How often.")
@click.option("--cron", metavar="EXPRESSION", help="When: minute, hour, day, month, weekday.")
@click.option("--timezone", metavar="ZONE", help="Of --cron, such as Europe/Berlin; UTC without it.")
@click.option("--jitter", "jitter_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Up to so much later.")
@click.option(
    "--catch-up",
    type=click.Choice(("skip", "once", "all")),
    help="What becomes of times at which the daemon was away; they are skipped without it.",
)
@click.option("--queue", is_flag=True, help="Let the message wait where the agent is busy, instead of leaving it out.")
@click.option("--max-runs", type=click.IntRange(min=1), metavar="N", help="End after so many.")
@click.option("--until", metavar="TIME", help="End at this time, such as 2027-01-01T00:00:00Z.")
@click.option("--replace", "replace_it", is_flag=True, help="Change the schedule of this name, if there is one.")
@json_option("the schedule")
@pass_app
def add_schedule(
    app: App, /, name: str, agent: str, prompt: str, queue: bool, replace_it: bool, as_json: bool, **given: Any
) -> None:
    """Tell AGENT the PROMPT again and again: every so many seconds, or when a cron expression says.

    \b
    Examples:
      skillctl workshop schedule add watch reader --every 600 "Look at the log."
      skillctl workshop schedule add monthly clerk --cron "0 9 1 * *" --catch-up once "Write the report."
    """
    if (given["every_s"] is None) == (given["cron"] is None):
        raise click.UsageError("give one of --every and --cron")
    settings = {key: value for key, value in given.items() if value is not None}
    if queue:
        settings["when_busy"] = "queue"
    with app.client() as client:
        schedule = client.define_schedule(name, agent, prompt, new=not replace_it, **settings)
    if as_json:
        print_json(schedule)
    else:
        print(f"next at {schedule['next_due'] or 'no time'}")


@schedule_command.command("list")
@user_option(everybody=True)
@json_option()
@pass_app
def list_schedules(app: App, owner: Owner, as_json: bool) -> None:
    """List the schedules, and what became of them.

    \b
    Example:
      skillctl workshop schedule list
    """
    with app.client() as client:
        found = client.schedules(owner=owner)
    if as_json:
        print_json({"items": found})
        return
    columns = ("name", "agent", "when", "next", "runs", "missed", "last turn", "")
    if owner == "all":
        rows = [(str(item["owner_uid"]), *_row(item)) for item in found]
        print_table(("user", *columns), rows)
        return
    print_table(columns, [_row(item) for item in found])


@schedule_command.command("show")
@click.argument("name", metavar="NAME", shell_complete=complete_schedules)
@user_option()
@json_option()
@pass_app
def show_schedule(app: App, name: str, owner: int | None, as_json: bool) -> None:
    """Show a schedule with its prompt.

    \b
    Example:
      skillctl workshop schedule show morning
    """
    with app.client() as client:
        schedule = client.schedule(name, owner=owner)
    if as_json:
        print_json(schedule)
        return
    for key, value in flatten(schedule):
        print(clean(f"{key}: {value}"))


@schedule_command.command("run")
@click.argument("name", metavar="NAME", shell_complete=complete_schedules)
@json_option("the turn's id")
@pass_app
def run_schedule(app: App, name: str, as_json: bool) -> None:
    """Give the agent the message now. The schedule's own times stay as they are.

    \b
    Example:
      skillctl workshop schedule run morning
    """
    with app.client() as client:
        begun = client.run_schedule(name)
    if as_json:
        print_json(begun)
    else:
        print(begun["turn"])


@schedule_command.command("enable")
@click.argument("name", metavar="NAME", shell_complete=complete_schedules)
@pass_app
def enable_schedule(app: App, name: str) -> None:
    """Let a schedule run, from now on.

    \b
    Example:
      skillctl workshop schedule enable morning
    """
    with app.client() as client:
        print(f"next at {client.enable_schedule(name)['next_due'] or 'no time'}")


@schedule_command.command("disable")
@click.argument("name", metavar="NAME", shell_complete=complete_schedules)
@pass_app
def disable_schedule(app: App, name: str) -> None:
    """Keep a schedule from running, until it is enabled again.

    \b
    Example:
      skillctl workshop schedule disable morning
    """
    with app.client() as client:
        client.enable_schedule(name, on=False)


@schedule_command.command("remove")
@click.argument("name", metavar="NAME", shell_complete=complete_schedules)
@pass_app
def remove_schedule(app: App, name: str) -> None:
    """Remove a schedule. What it began goes on.

    \b
    Example:
      skillctl workshop schedule remove morning
    """
    with app.client() as client:
        client.remove_schedule(name)


def _row(item: Mapping[str, Any]) -> tuple[str, ...]:
    when = f"{item['cron']} {item['timezone']}" if item.get("cron") else f"every {item['every_s']:g} s"
    next_due = "off" if not item["enabled"] else item["next_due"] or "ended"
    missed = ", ".join(f"{number} {why}" for why, number in sorted(item["missed"].items()))
    return (
        str(item["name"]),
        str(item["agent"]),
        when,
        str(next_due),
        str(item["runs"]),
        missed or "-",
        str(item["last_turn"] or "-"),
        str(item["last_error"] or ""),
    )
