"""skillctl monitor alerts: what was found in what is reported, and who has seen it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import clean, one_line, print_json, print_table
from skilld.client import SkilldError

__all__ = ["alerts_command"]

F = TypeVar("F", bound=Callable[..., Any])

_PAGE: Final = 1_000
_WAIT_S: Final = 20.0
_SEVERITIES: Final = ("low", "medium", "high")
_CATEGORIES: Final = ("sensitive_data", "dangerous_commands", "prompt_manipulation")


@click.group("alerts", invoke_without_command=True)
@click.pass_context
def alerts_command(ctx: click.Context) -> None:
    """See what was found in what your programs and conversations say. Without a command: those that nobody has seen.

    \b
    Examples:
      skillctl monitor alerts
      skillctl monitor alerts list --severity high --json
      skillctl monitor alerts ack 17 18 --note "a test"
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_alerts, state="open")


def _filters(command: F) -> F:
    for option in reversed(
        (
            click.option("--severity", type=click.Choice(_SEVERITIES), help="Only those of this or a worse one."),
            click.option("--category", type=click.Choice(_CATEGORIES), help="Only those of this category."),
            click.option("--rule", metavar="RULE", help="Only those of this rule."),
            click.option("--agent", metavar="NAME", help="Only those of this agent."),
            click.option("-s", "--session", metavar="SESSION", help="Only those of this session."),
        )
    ):
        command = option(command)
    return command


@alerts_command.command("list")
@click.option("--state", type=click.Choice(("open", "acknowledged", "all")), default="open", show_default=True)
@_filters
@click.option("--before", metavar="ID", type=click.IntRange(0), help="Only those before this one: the next page.")
@click.option("-n", "--limit", type=click.IntRange(1, _PAGE), default=100, show_default=True, help="At most so many.")
@json_option()
@pass_app
def list_alerts(app: App, /, state: str = "open", limit: int = 100, as_json: bool = False, **wanted: Any) -> None:
    """List alerts, the newest first.

    \b
    Examples:
      skillctl monitor alerts list --state all
      skillctl monitor alerts list --category dangerous_commands
    """
    with app.client() as client:
        found = client.alerts(state=None if state == "all" else state, limit=limit, **wanted)
    if as_json:
        print_json({"items": found})
    elif found:
        print_table(
            ("ID", "LAST", "SEVERITY", "RULE", "WAY", "AGENT", "SESSION", "COUNT", "STATE"), [*map(_row, found)]
        )
    else:
        click.echo("no alerts")


@alerts_command.command("show")
@click.argument("id", type=click.IntRange(0))
@json_option()
@pass_app
def show_alert(app: App, /, id: int, as_json: bool) -> None:
    """Print one alert, with the place where it was found, masked.

    \b
    Example:
      skillctl monitor alerts show 17
    """
    with app.client() as client:
        found = client.alert(id)
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        shown = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
        if value not in (None, ""):
            click.echo(f"{name + ':':<14} {one_line(clean(shown))}")


@alerts_command.command("ack")
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=click.IntRange(0))
@click.option("--note", metavar="TEXT", default="", help="What you say to it; others see it.")
@json_option()
@pass_app
def acknowledge_alerts(app: App, /, ids: tuple[int, ...], note: str, as_json: bool) -> None:
    """Say that you have seen alerts: your own, with the role admin anybody's.

    All are tried; it exits with 1 if one could not be.

    \b
    Example:
      skillctl monitor alerts ack 17 18 --note "a test"
    """
    done: list[Mapping[str, Any]] = []
    failed: list[str] = []
    with app.client() as client:
        for id in ids:
            try:
                done.append(client.acknowledge_alert(id, note))
            except SkilldError as error:
                if error.code not in ("conflict", "not_found"):
                    raise
                failed.append(error.message)
    if as_json:
        print_json({"items": done})
    else:
        for found in done:
            click.echo(f"alert {found['id']} is acknowledged")
    if failed:
        raise Failure("; ".join(failed), EXIT.FAILED)


@alerts_command.command("watch")
@_filters
@json_option("each alert as a line of JSON")
@pass_app
def watch_alerts(app: App, /, as_json: bool, **wanted: Any) -> None:
    """Print alerts as they come, until Ctrl-C. Those there are already are not printed.

    \b
    Example:
      skillctl monitor alerts watch --severity high
    """
    with app.client() as client:
        newest = client.alerts(limit=1)
        last = newest[0]["id"] if newest else 0
        while True:
            for found in client.alerts(after=last, limit=_PAGE, wait_s=_WAIT_S, **wanted):
                last = found["id"]
                click.echo(json.dumps(found) if as_json else one_line(_line(found)))


def _row(alert: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("id", "last", "severity", "rule", "direction", "agent", "session", "count", "state")
    return tuple(clean(str(alert[name])) for name in names)


def _line(alert: Mapping[str, Any]) -> str:
    where = f"{alert['agent']} {alert['session']}".strip()
    return f"{alert['last']} {alert['level']:<10} {alert['rule']} ({alert['direction']}) {where}: {alert['sample']}"
