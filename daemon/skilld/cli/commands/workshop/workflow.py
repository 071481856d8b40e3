"""skillctl workflow: work in stages, each by the agent that it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.commands.workshop.completing import complete_runs, complete_workflows
from skilld.cli.commands.workshop.owner_option import Owner, user_option
from skilld.cli.commands.workshop.workflow_file import read_file
from skilld.cli.narrator import cost_text
from skilld.cli.output import Console, one_line, print_json, print_table
from skilld.client import Client, ConnectionLost, DaemonUnreachable, SkilldError

__all__ = ["workflow_command"]

F = TypeVar("F", bound=Callable[..., Any])

_WAIT_S: Final = 30.0
_AWAY_S: Final = 60.0  # so long a daemon that restarts is waited for
_FAILED: Final = 1
_TIMED_OUT: Final = 124
_CANCELLED: Final = 130
_EXITS: Final[Mapping[str, int]] = {"completed": 0, "failed": _FAILED, "cancelled": _CANCELLED, "running": _TIMED_OUT}


def workflow_argument() -> Callable[[F], F]:
    """NAME of a workflow."""
    return click.argument("name", metavar="NAME", shell_complete=complete_workflows)


@click.group("workflow")
def workflow_command() -> None:
    """Have work done in stages, each by the agent that it needs.

    A workflow is a file in TOML: stages with a prompt, who performs them, what they wait for, and under which
    condition. A run of it goes on over restarts of the daemon until all stages are done or one has failed.

    \b
    Examples:
      skillctl workflow define release release.toml
      skillctl workflow run release -p version=1.4
      skillctl workflow status
    """


@workflow_command.command("define")
@workflow_argument()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--new", is_flag=True, help="Only if there is none of this name.")
@json_option("the workflow")
@pass_app
def define_workflow(app: App, name: str, file: Path, new: bool, as_json: bool) -> None:
    """Keep the workflow in FILE under a name, in place of the one that has it. Runs that go on are not changed.

    \b
    Example:
      skillctl workflow define release release.toml
    """
    definition = read_file(file)
    with app.client() as client:
        workflow = client.define_workflow(name, definition, new=new)
    if as_json:
        print_json(workflow)
    else:
        print(f"{name}: {len(workflow['stage'])} stages")


@workflow_command.command("list")
@json_option()
@pass_app
def list_workflows(app: App, as_json: bool) -> None:
    """List the workflows.

    \b
    Example:
      skillctl workflow list
    """
    with app.client() as client:
        found = client.workflows()
    if as_json:
        print_json({"items": found})
        return
    rows = [(item["name"], " ".join(item["stages"]), item["updated"], one_line(item["description"])) for item in found]
    print_table(("name", "stages", "changed", "description"), rows)


@workflow_command.command("show")
@workflow_argument()
@pass_app
def show_workflow(app: App, name: str) -> None:
    """Print a workflow as JSON, as 'define' takes it from a file that ends with .json.

    \b
    Example:
      skillctl workflow show release
    """
    with app.client() as client:
        workflow = client.workflow(name)
    print_json({key: value for key, value in workflow.items() if key != "name"})


@workflow_command.command("remove")
@workflow_argument()
@pass_app
def remove_workflow(app: App, name: str) -> None:
    """Forget a workflow. Its runs stay, and those that go on go on.

    \b
    Example:
      skillctl workflow remove release
    """
    with app.client() as client:
        client.remove_workflow(name)


@workflow_command.command("run")
@workflow_argument()
@click.option("-p", "--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter; repeatable.")
@click.option("--wait/--no-wait", default=True, help="Stay until the run has ended, or print its id and leave.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0.1), metavar="S", help="Leave after S seconds.")
@click.option("--key", metavar="KEY", help="A run that was begun with this key is not begun again.")
@json_option("the run")
@pass_app
def run_workflow(
    app: App,
    name: str,
    parameters: tuple[str, ...],
    wait: bool,
    timeout_s: float | None,
    key: str | None,
    as_json: bool,
) -> int:
    """Begin a run, and wait for its end. Leaving ends only the waiting.

    Ends with 0 where the run has completed, 1 where it has failed, 130 where it was cancelled, 124 on a time-out.

    \b
    Examples:
      skillctl workflow run release -p version=1.4
      skillctl workflow run nightly --no-wait
    """
    given = dict(map(_parameter, parameters))
    with app.client() as client:
        run = client.run_workflow(name, given, key=key)
        if wait:
            run = _follow(client, run, timeout_s, quiet=as_json)
    if as_json:
        print_json(run)
    elif wait:
        _print_run(run)
    else:
        print(run["id"])
    return _EXITS[run["status"]] if wait else 0


@workflow_command.command("status")
@click.argument("run", required=False, shell_complete=complete_runs)
@click.option("--workflow", metavar="NAME", help="Only runs of this one.", shell_complete=complete_workflows)
@user_option(everybody=True)
@json_option()
@pass_app
def run_status(app: App, run: str | None, workflow: str | None, owner: Owner, as_json: bool) -> None:
    """Show a RUN with its stages, or list the runs.

    \b
    Examples:
      skillctl workflow status
      skillctl workflow status run_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    with app.client() as client:
        if run is None:
            found = client.runs(workflow=workflow, owner=owner)
        else:
            if owner == "all":
                raise click.UsageError("--user all is for the list of runs: name the user whose RUN it is")
            shown = client.run(run, owner=owner)
    if run is not None:
        print_json(shown) if as_json else _print_run(shown)
        return
    if as_json:
        print_json({"items": found})
        return
    rows = [
        (item["id"], item["workflow"], item["status"], _progress(item), cost_text(item["cost_usd"]), item["created"])
        for item in found
    ]
    columns = ("run", "workflow", "status", "stages", "cost", "begun")
    if owner == "all":
        whose = [(str(item["owner_uid"]), *row) for item, row in zip(found, rows, strict=True)]
        print_table(("user", *columns), whose)
        return
    print_table(columns, rows)


@workflow_command.command("cancel")
@click.argument("run", shell_complete=complete_runs)
@json_option("the run")
@pass_app
def cancel_run(app: App, run: str, as_json: bool) -> None:
    """End a run, and what its agents do for it.

    \b
    Example:
      skillctl workflow cancel run_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    with app.client() as client:
        ended = client.cancel_run(run)
    if as_json:
        print_json(ended)
    else:
        print(ended["status"])


@workflow_command.command("reset")
@workflow_argument()
@json_option()
@pass_app
def reset_workflow(app: App, name: str, as_json: bool) -> None:
    """End the runs of a workflow that go on, and forget those that have ended. The workflow stays.

    The conversations of its agents stay too, and what they have cost.

    \b
    Example:
      skillctl workflow reset release
    """
    with app.client() as client:
        found = client.reset_workflow(name)
    if as_json:
        print_json(found)
    else:
        print(f"{found['cancelled']} cancelled, {found['forgotten']} forgotten")


def _parameter(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise click.UsageError(f"--param {text!r}: expected NAME=VALUE")
    return name, value


def _follow(client: Client, run: dict[str, Any], timeout_s: float | None, *, quiet: bool) -> dict[str, Any]:
    """Wait for the end of a run, telling of its stages on the way."""
    console = Console()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    told: dict[str, str] = {}
    wait_s = 0.5
    if not quiet:
        console.note(run["id"])
    while True:
        left_s = wait_s if deadline is None else min(wait_s, deadline - time.monotonic())
        run = _look(client, run, max(left_s, 0.0))
        for name, stage in run["stages"].items():
            now = f"{stage['status']}{_attempt(stage)}"
            if stage["status"] != "waiting" and told.get(name) != now:
                told[name] = now
                if not quiet:
                    console.note(f"{name}: {now}")
        if run["status"] != "running" or (deadline is not None and time.monotonic() >= deadline):
            return run
        wait_s = min(wait_s * 1.5, _WAIT_S if quiet else 2.0)


def _look(client: Client, run: dict[str, Any], wait_s: float) -> dict[str, Any]:
    """The run as it is in at most so many seconds; a daemon that restarts meanwhile goes on with it."""
    away_since: float | None = None
    while True:
        try:
            return client.run(run["id"], wait_s=wait_s)
        except SkilldError as error:
            away_since = away_since or time.monotonic()
            is_away = isinstance(error, ConnectionLost | DaemonUnreachable) or error.code == "draining"
            if not is_away or time.monotonic() - away_since > _AWAY_S:
                raise
        time.sleep(0.5)


def _attempt(stage: Mapping[str, Any]) -> str:
    words = []
    if stage["attempt"] > 1:
        words.append(f"attempt {stage['attempt']}")
    if stage["round"] > 1:
        words.append(f"round {stage['round']}")
    return f" ({', '.join(words)})" if words else ""


def _progress(run: Mapping[str, Any]) -> str:
    over = sum(stage["status"] not in ("waiting", "running") for stage in run["stages"].values())
    return f"{over}/{len(run['stages'])}"


def _print_run(run: Mapping[str, Any]) -> None:
    rows = [
        (name, f"{stage['status']}{_attempt(stage)}", str(stage["turn"] or stage["item"] or "-"),
         cost_text(stage["cost_usd"]), one_line(stage["error"] or stage["result"], 60))
        for name, stage in run["stages"].items()
    ]  # fmt: skip
    print_table(("stage", "status", "turn", "cost", "result"), rows)
    why = f": {run['error']}" if run["error"] else ""
    print(f"{run['id']} {run['status']}{why}")
