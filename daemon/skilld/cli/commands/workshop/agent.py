"""skillctl workshop agent: who there is, what they are to be, do and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.commands.workshop.agent_options import agent_argument, agent_settings, settings_options
from skilld.cli.commands.workshop.completing import complete_profiles
from skilld.cli.commands.workshop.owner_option import Owner, user_option
from skilld.cli.failure import Failure
from skilld.cli.narrator import cost_text
from skilld.cli.output import Console, flatten, one_line, print_json, print_table

__all__ = ["agent_command"]

_TASK_WIDTH: Final = 60


@click.group("agent")
def agent_command() -> None:
    """Define agents, and see what they do and cost.

    \b
    Examples:
      skillctl workshop agent define reviewer --role "You review patches." --max-cost 2
      skillctl ask reviewer "look at the last commit"
      skillctl workshop agent list
    """


@agent_command.command("define")
@agent_argument()
@click.option(
    "--profile", metavar="P", help="Begin with the settings of this profile.", shell_complete=complete_profiles
)
@settings_options()
@click.option("--keep", is_flag=True, help="Refuse if there is an agent of this name, instead of replacing it.")
@json_option()
@pass_app
def define_agent(app: App, /, name: str, keep: bool, as_json: bool, **given: Any) -> None:
    """Define an agent, in place of the one of this name. Prints the id of its conversation.

    \b
    Examples:
      skillctl workshop agent define coder --backend claude_cli --cwd . --git-context
      skillctl workshop agent define coder-2 --profile coder --timeout 600
    """
    with app.client() as client:
        agent = client.define_agent(name, replace=not keep, **agent_settings(given))
    _tell_made(agent, as_json)


@agent_command.command("list")
@click.option("--all", "everybody", is_flag=True, help="Those that were dismissed as well.")
@user_option(everybody=True)
@json_option()
@pass_app
def list_agents(app: App, everybody: bool, owner: Owner, as_json: bool) -> None:
    """List your agents.

    \b
    Example:
      skillctl workshop agent list --all
    """
    with app.client() as client:
        found = client.agents(dismissed=everybody, owner=owner)
    if as_json:
        print_json({"items": found})
        return
    columns = ("agent", "status", "turns", "cost", "backend", "model", "role")
    if owner == "all":
        print_table(("user", *columns), [[str(agent["owner_uid"]), *_row(agent)] for agent in found])
        return
    print_table(columns, [_row(agent) for agent in found])


@agent_command.command("status")
@agent_argument(many=True, required=False)
@user_option()
@json_option()
@pass_app
def agent_status(app: App, names: tuple[str, ...], owner: int | None, as_json: bool) -> None:
    """Show what agents do now: working, and how many messages wait, or idle, waiting for an approval, crashed.

    \b
    Example:
      skillctl workshop agent status reviewer
    """
    with app.client() as client:
        found = [client.agent(name, owner=owner) for name in names] if names else client.agents(owner=owner)
    if as_json:
        print_json({"items": found})
        return
    rows = [[str(each["name"]), _status(each), str(each["turns"]), _cost(each), _why(each)] for each in found]
    print_table(("agent", "status", "turns", "cost", ""), rows)


@agent_command.command("info")
@agent_argument()
@user_option()
@json_option()
@pass_app
def agent_info(app: App, name: str, owner: int | None, as_json: bool) -> None:
    """Show everything about an agent, its settings and its system prompt too.

    \b
    Example:
      skillctl workshop agent info reviewer
    """
    with app.client() as client:
        agent = client.agent(name, owner=owner)
    if as_json:
        print_json(agent)
        return
    prompt = str(agent.pop("system_prompt"))
    for key, value in flatten(agent):
        print(f"{key}: {one_line(value)}")
    if prompt:
        console = Console()
        console.answer(f"\n{prompt}")
        console.end_line()


@agent_command.command("result")
@agent_argument()
@click.option("--full", is_flag=True, help="The whole turn as one JSON document, with what it took and cost.")
@pass_app
def agent_result(app: App, name: str, full: bool) -> None:
    """Print what an agent has answered last. Ends with 1 if that turn has failed.

    \b
    Examples:
      skillctl workshop agent result reviewer
      skillctl workshop agent result reviewer --full | jq .result.usage
    """
    with app.client() as client:
        found = client.agent_history(name, last=1)
    if not found:
        raise Failure(f"agent {name} has answered nothing yet")
    turn = found[-1]
    if full:
        print_json(turn)
        return
    result = turn["result"]
    if result.get("text"):
        console = Console()
        console.answer(str(result["text"]))
        console.end_line()
    if turn["status"] != "finished":
        error = result.get("error") or {}
        raise Failure(f"turn {turn['turn']} {turn['status']}: {error.get('message') or 'no reason given'}")


@agent_command.command("history")
@agent_argument()
@click.option(
    "--last", type=click.IntRange(1, 1000), default=10, show_default=True, metavar="N", help="At most so many."
)
@user_option()
@json_option()
@pass_app
def agent_history(app: App, name: str, last: int, owner: int | None, as_json: bool) -> None:
    """List the latest turns of an agent's conversation, oldest first; those before a reset are in 'skillctl show'.

    \b
    Example:
      skillctl workshop agent history reviewer --last 3
    """
    with app.client() as client:
        found = client.agent_history(name, last=last, owner=owner)
    if as_json:
        print_json({"items": found})
        return
    rows = [
        [str(turn["turn"]), str(turn["status"]), cost_text(turn["result"].get("cost_usd")), _said(turn)]
        for turn in found
    ]
    print_table(("turn", "status", "cost", "result"), rows)


@agent_command.command("cost")
@user_option()
@json_option()
@pass_app
def agents_cost(app: App, owner: int | None, as_json: bool) -> None:
    """Show what your agents have ever cost, the dismissed ones too, and all together.

    \b
    Example:
      skillctl workshop agent cost
    """
    with app.client() as client:
        found = client.agents_cost(owner=owner)
    if as_json:
        print_json(found)
        return
    rows = [[str(item["name"]), str(item["state"]), _cost(item), str(item["tokens"])] for item in found["items"]]
    total = found["total"]
    print_table(("agent", "state", "cost", "tokens"), [*rows, ["total", "", _cost(total), str(total["tokens"])]])


@agent_command.command("reset")
@agent_argument()
@json_option()
@pass_app
def reset_agent(app: App, name: str, as_json: bool) -> None:
    """Give an agent a conversation anew. Its options and what it has cost stay; its queue is cancelled.

    \b
    Example:
      skillctl workshop agent reset reviewer
    """
    with app.client() as client:
        agent = client.reset_agent(name)
    _tell_made(agent, as_json)


@agent_command.command("revive")
@agent_argument()
@json_option()
@pass_app
def revive_agent(app: App, name: str, as_json: bool) -> None:
    """Let an agent that crashed too often go on with its conversation and its queue.

    \b
    Example:
      skillctl workshop agent revive coder
    """
    with app.client() as client:
        agent = client.revive_agent(name)
    if as_json:
        print_json(agent)
    else:
        print(_status(agent))


@agent_command.command("dismiss")
@agent_argument(many=True)
@pass_app
def dismiss_agent(app: App, names: tuple[str, ...]) -> None:
    """Dismiss agents: what they do is cancelled, their conversations and what they have cost stay.

    \b
    Example:
      skillctl workshop agent dismiss reviewer
    """
    with app.client() as client:
        for name in names:
            client.dismiss_agent(name)


def _tell_made(agent: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(agent)
    else:
        print(agent["session"])


def _row(agent: Mapping[str, Any]) -> Sequence[str]:
    backend = agent["backend"] or ",".join(
        str(each if isinstance(each, str) else each.get("backend")) for each in agent["backends"] or ()
    )
    return [
        *(str(agent["name"]), _status(agent), str(agent["turns"]), _cost(agent)),
        *(backend or "-", str(agent["model"] or "-"), one_line(str(agent["role"]), _TASK_WIDTH)),
    ]


def _status(agent: Mapping[str, Any]) -> str:
    waiting = int(agent["queue_depth"])
    return f"{agent['status']} +{waiting}" if waiting else str(agent["status"])


def _why(agent: Mapping[str, Any]) -> str:
    return one_line(str(agent["crashes"]["why"]), _TASK_WIDTH) if agent["crashes"]["recent"] else ""


def _cost(found: Mapping[str, Any]) -> str:
    known = cost_text(found["known_usd"])
    return known if found["cost_usd"] is not None else f"{known} and more"


def _said(turn: Mapping[str, Any]) -> str:
    result = turn["result"]
    error = result.get("error") or {}
    return one_line(str(error.get("message") or result.get("text") or ""), _TASK_WIDTH)
