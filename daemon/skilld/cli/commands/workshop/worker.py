"""skillctl workshop worker: agents that do the items of the board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.commands.workshop.agent_options import json_of
from skilld.cli.commands.workshop.completing import complete_profiles, complete_workers
from skilld.cli.output import print_json, print_table

__all__ = ["worker_command"]


@click.group("worker")
def worker_command() -> None:
    """Have agents do the items of the board.

    \b
    Examples:
      skillctl workshop worker start coders --type code --count 3 --profile coder
      skillctl workshop worker list
    """


@worker_command.command("start")
@click.argument("name", metavar="NAME", shell_complete=complete_workers)
@click.option("--type", "-t", "types", multiple=True, required=True, metavar="TYPE", help="What it does; repeatable.")
@click.option(
    "--count", type=click.IntRange(1, 64), metavar="N", help="So many agents, each with an item; 1 without it."
)
@click.option(
    "--profile",
    metavar="P",
    shell_complete=complete_profiles,
    help="What its agents are made from.",
)
@click.option(
    "--settings",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Settings of its agents over the profile, as a JSON object.",
)
@click.option(
    "--lease",
    "lease_s",
    type=click.FloatRange(5, 86_400),
    metavar="S",
    help="An item is taken back so long after a crash.",
)
@click.option(
    "--worktree", is_flag=True, default=None, help="Each item is worked on in a worktree of its own of the project."
)
@click.option("--merge", type=click.Choice(["on_done"]), help="Merge the branch of an item when it is done.")
@json_option("the worker")
@pass_app
def start_worker(
    app: App, /, name: str, types: tuple[str, ...], file: Path | None, as_json: bool, **given: Any
) -> None:
    """Start a worker: agents called NAME-1, NAME-2 and so on, each with a conversation anew for every item.

    It goes on after a restart of the daemon, until it is stopped.

    \b
    Example:
      skillctl workshop worker start reviewers --type review --count 2 --profile reviewer
    """
    settings = {} if file is None else {"settings": json_of(file, "--settings")}
    more = {key: value for key, value in given.items() if value is not None}
    with app.client() as client:
        worker = client.start_worker(name, types, **settings, **more)
    if as_json:
        print_json(worker)
    else:
        print("\n".join(str(agent["agent"]) for agent in worker["agents"]))


@worker_command.command("list")
@json_option()
@pass_app
def list_workers(app: App, as_json: bool) -> None:
    """List the workers, and what each of their agents does now.

    \b
    Example:
      skillctl workshop worker list
    """
    with app.client() as client:
        found = client.board_workers()
    if as_json:
        print_json({"items": found})
        return
    rows = [_row(worker, agent) for worker in found for agent in worker["agents"]]
    print_table(("worker", "types", "agent", "item", "since", "done", "failed", ""), rows)


@worker_command.command("stop")
@click.argument("name", metavar="NAME", shell_complete=complete_workers)
@click.option(
    "--drain", "drain_s", type=click.FloatRange(0, 3600), default=30.0, show_default=True, metavar="S", help="How long."
)
@json_option("the worker as it was last")
@pass_app
def stop_worker(app: App, name: str, drain_s: float, as_json: bool) -> None:
    """Stop a worker. What its agents have is finished, or given back when the time is over.

    \b
    Example:
      skillctl workshop worker stop coders --drain 600
    """
    with app.client() as client:
        worker = client.stop_worker(name, drain_s=drain_s)
    if as_json:
        print_json(worker)


def _row(worker: Mapping[str, Any], agent: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(worker["name"]),
        ",".join(worker["types"]),
        str(agent["agent"]),
        str(agent["item"] or "-"),
        str(agent["since"] or "-"),
        str(agent["done"]),
        str(agent["failed"]),
        str(agent["error"] or ""),
    )
