"""skillctl workshop budget: what agents may cost, each and all together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.commands.workshop.completing import complete_agents
from skilld.cli.commands.workshop.owner_option import user_option
from skilld.cli.narrator import cost_text
from skilld.cli.output import print_json, print_table

__all__ = ["budget_command"]


@click.group("budget")
def budget_command() -> None:
    """See and set what your agents may cost, each and all together.

    Caps hold over all that was ever spent. Caps of users, days and everything are those of 'skillctl budget'.

    \b
    Examples:
      skillctl workshop budget show
      skillctl workshop budget set 20
      skillctl workshop budget set 2 --agent reviewer
    """


@budget_command.command("show")
@user_option()
@json_option()
@pass_app
def show_budget(app: App, owner: int | None, as_json: bool) -> None:
    """Show what agents may cost, have cost, and have left, and what was spent since the last reset.

    \b
    Example:
      skillctl workshop budget show
    """
    with app.client() as client:
        found = client.workshop_budget(owner=owner)
    _tell(found, as_json)


@budget_command.command("set")
@click.argument("usd", metavar="USD|none")
@click.option(
    "--agent", metavar="AGENT", help="The cap of this one, not that of all together.", shell_complete=complete_agents
)
@json_option()
@pass_app
def set_budget(app: App, usd: str, agent: str | None, as_json: bool) -> None:
    """Cap all agents together, or one, while they go on; 'none' takes the cap away.

    The cap over all binds agents that are defined while there is one.

    \b
    Examples:
      skillctl workshop budget set 20
      skillctl workshop budget set none --agent reviewer
    """
    with app.client() as client:
        found = client.set_workshop_budget(_usd(usd), agent=agent)
    _tell(found, as_json)


@budget_command.command("reset")
@json_option()
@pass_app
def reset_budget(app: App, as_json: bool) -> None:
    """Let the sum that is shown as spent begin anew. Caps stay as they are, and so does what they count.

    \b
    Example:
      skillctl workshop budget reset
    """
    with app.client() as client:
        found = client.reset_workshop_budget()
    _tell(found, as_json)


def _usd(text: str) -> float | None:
    if text == "none":
        return None
    try:
        usd = float(text)
    except ValueError:
        usd = math.nan
    if not math.isfinite(usd):
        raise click.UsageError(f"{text!a}: expected a number of dollars, or none")
    return usd


def _tell(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(dict(found))
        return
    rows = [_row(str(each["name"]), each) for each in found["agents"]]
    since = f"since {found['since']}" if found["since"] else "since ever"
    print_table(("agent", "cap", "spent", "held", "left", since), [*rows, _row("all", found["total"])])


def _row(name: str, line: Mapping[str, Any]) -> Sequence[str]:
    spent = cost_text(line["known_usd"])
    return [
        name,
        "-" if line["limit_usd"] is None else cost_text(line["limit_usd"]),
        spent if line["cost_usd"] is not None else f"{spent} and more",
        cost_text(line["held_usd"]),
        "-" if line["left_usd"] is None else cost_text(line["left_usd"]),
        cost_text(line["since_usd"]),
    ]
