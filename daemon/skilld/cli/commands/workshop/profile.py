"""skillctl workshop profile and configure: what agents are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.commands.workshop.agent_options import agent_settings, settings_options
from skilld.cli.commands.workshop.completing import complete_profiles
from skilld.cli.output import flatten, one_line, print_json, print_table

__all__ = ["configure_command", "profile_command"]

_ROLE_WIDTH: Final = 60


@click.group("profile")
def profile_command() -> None:
    """Keep settings under names, to define agents from.

    \b
    Examples:
      skillctl workshop profile define coder --role "You write code." --policy workspace
      skillctl workshop agent define coder-1 --profile coder
    """


@profile_command.command("define")
@click.argument("name", metavar="PROFILE", shell_complete=complete_profiles)
@settings_options()
@json_option()
@pass_app
def define_profile(app: App, /, name: str, as_json: bool, **given: Any) -> None:
    """Define a profile, in place of the one of this name. Agents that were made from it stay as they are.

    \b
    Example:
      skillctl workshop profile define coder --role "You write code." --max-cost 5
    """
    with app.client() as client:
        profile = client.define_profile(name, **agent_settings(given))
    if as_json:
        print_json(profile)
    else:
        print(profile["name"])


@profile_command.command("list")
@json_option()
@pass_app
def list_profiles(app: App, as_json: bool) -> None:
    """List your profiles.

    \b
    Example:
      skillctl workshop profile list
    """
    with app.client() as client:
        found = client.profiles()
    if as_json:
        print_json({"items": found})
        return
    rows = [[str(each["name"]), *_settings(each["settings"])] for each in found]
    print_table(("profile", "backend", "model", "role"), rows)


@profile_command.command("show")
@click.argument("name", metavar="PROFILE", shell_complete=complete_profiles)
@json_option()
@pass_app
def show_profile(app: App, name: str, as_json: bool) -> None:
    """Show one profile.

    \b
    Example:
      skillctl workshop profile show coder
    """
    with app.client() as client:
        profile = client.profile(name)
    if as_json:
        print_json(profile)
        return
    for key, value in flatten(profile):
        print(f"{key}: {one_line(value)}")


@profile_command.command("remove")
@click.argument("name", metavar="PROFILE", shell_complete=complete_profiles)
@pass_app
def remove_profile(app: App, name: str) -> None:
    """Remove a profile. Agents that were made from it stay.

    \b
    Example:
      skillctl workshop profile remove coder
    """
    with app.client() as client:
        client.remove_profile(name)


@click.command("configure")
@click.option(
    "--common", "common", metavar="TEXT", help="A context in the system prompt of each later agent; '' for none."
)
@click.option(
    "--total-cost", metavar="USD|none", help="All that your agents together may cost, those made while there is a cap."
)
@settings_options(own=False)
@click.option("--clear", is_flag=True, help="Take away all defaults before the others are set.")
@json_option()
@pass_app
def configure_command(
    app: App, /, common: str | None, total_cost: str | None, clear: bool, as_json: bool, **given: Any
) -> None:
    """Set what holds for agents that you define from now on; without options, show it.

    \b
    Examples:
      skillctl workshop configure --common "The project is a web shop." --model claude-sonnet-5-5
      skillctl workshop configure --total-cost 20
      skillctl workshop configure
    """
    changes: dict[str, Any] = {}
    if common is not None:
        changes["context"] = common or None
    if total_cost is not None:
        changes["max_cost_usd"] = None if total_cost == "none" else _usd(total_cost)
    defaults = agent_settings(given)
    with app.client() as client:
        if defaults or clear:
            before: dict[str, Any] = {} if clear else dict(client.agents_config()["defaults"])
            changes["defaults"] = {**before, **defaults} or None
        found = client.configure_agents(**changes) if changes else client.agents_config()
    if as_json:
        print_json(found)
        return
    for key, value in flatten(found):
        print(f"{key}: {one_line(value)}")


def _usd(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise click.UsageError(f"--total-cost {text!a}: expected a number, or none") from error


def _settings(settings: Mapping[str, Any]) -> Sequence[str]:
    role = one_line(str(settings.get("role") or ""), _ROLE_WIDTH)
    return [str(settings.get("backend") or "-"), str(settings.get("model") or "-"), role]
