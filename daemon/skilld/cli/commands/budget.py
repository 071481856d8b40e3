"""skillctl budget: what may be spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import complete_caps, json_option, pass_app
from skilld.cli.narrator import cost_text
from skilld.cli.output import Console, print_json, print_table

__all__ = ["budget_command"]

_NONE: Final = "none"
_UNITS: Final = ("usd", "tokens", "seconds", "tool_calls")


def _number(kind: click.ParamType[Any, Any], what: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Reads a limit: a finite number of at least 0, or "none", which takes the limit away."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        if value is None or value == _NONE:
            return value
        try:
            number = kind.convert(value, param, ctx)
        except click.BadParameter as error:  # click says "is not a valid float range"
            said = f"{value!a}: expected a {what} of at least 0, or {_NONE}"
            raise click.BadParameter(said, ctx, param) from error
        if not number < float("inf"):
            raise click.BadParameter(f"{value} is no limit; 'none' takes it away", ctx, param)
        return number

    return read


_AMOUNT: Final = _number(click.FloatRange(min=0), "number")
_COUNT: Final = _number(click.IntRange(min=0), "whole number")


@click.group("budget")
def budget_command() -> None:
    """Show and set caps on what may be spent, in dollars, tokens, seconds of turns and calls of tools.

    A cap has a NAME: "turn", "session", "agent" and "user" hold for each turn, each session and so on, "global" for
    all together; "user/day", "user/month", "day" and "month" for one day or month in UTC. "session/ses_...",
    "agent/NAME", "user/1000", "user/1000/day" hold for that one. Of all caps that apply the strictest holds.

    \b
    Examples:
      skillctl budget set day --usd 20
      skillctl budget set session/ses_vnlhrpcqpsm2fnysmm3zqqo7oy --usd 1.50 --tool-calls 100
      skillctl budget show
    """


@budget_command.command("show")
@click.argument("name", required=False, shell_complete=complete_caps)
@json_option()
@pass_app
def show_budget(app: App, name: str | None, as_json: bool) -> None:
    """Show the caps that bind you, or the one called NAME: what each allows, and what is used, held and left of it.

    Held is what calls that run now may cost at most. The role admin sees the caps of everybody.

    \b
    Examples:
      skillctl budget show
      skillctl budget show user/1000/month --json
    """
    with app.client() as client:
        found = client.budgets(name)
    if as_json:
        print_json({"items": found})
        return
    _print(found)


@budget_command.command("set")
@click.argument("name", shell_complete=complete_caps)
@click.option("--usd", metavar="N|none", callback=_AMOUNT, help="At most so many dollars; none: no limit in dollars.")
@click.option(
    "--tokens",
    metavar="N|none",
    callback=_COUNT,
    help="At most so many tokens, in and out.",
)
@click.option("--seconds", metavar="N|none", callback=_AMOUNT, help="At most so many seconds of running turns.")
@click.option("--tool-calls", metavar="N|none", callback=_COUNT, help="At most so many calls of tools.")
@json_option()
@pass_app
def set_budget(
    app: App,
    name: str,
    usd: Any,
    tokens: Any,
    seconds: Any,
    tool_calls: Any,
    as_json: bool,
) -> None:
    """Set limits of the cap called NAME, from now on and until it is unset, over restarts too. What is not named stays.

    Where the configuration has a cap of this name, it stands in its place, with the limits of it that are not named.
    Needs the role admin, but for a session of your own.

    \b
    Examples:
      skillctl budget set user/1000/month --usd 50
      skillctl budget set session/ses_vnlhrpcqpsm2fnysmm3zqqo7oy --tokens 200000
      skillctl budget set day --usd none
    """
    given = dict(zip(_UNITS, (usd, tokens, seconds, tool_calls), strict=True))
    limits = {unit: None if value == _NONE else value for unit, value in given.items() if value is not None}
    if not limits:
        raise click.UsageError("name at least one limit: --usd, --tokens, --seconds or --tool-calls")
    with app.client() as client:
        found = client.set_budget(name, **limits)
    if as_json:
        print_json(found)
        return
    _print([found])


@budget_command.command("unset")
@click.argument("name", shell_complete=complete_caps)
@json_option()
@pass_app
def unset_budget(app: App, name: str, as_json: bool) -> None:
    """Take away the cap called NAME that was set before. Those of the configuration stay, and are printed.

    \b
    Example:
      skillctl budget unset day
    """
    with app.client() as client:
        client.unset_budget(name)
        found = client.budgets(name)
    if as_json:
        print_json({"items": found})
    elif found:
        _print(found)
    else:
        Console().warn(f"no cap {name!a} is left")


def _print(found: Sequence[Mapping[str, Any]]) -> None:
    rows = [row for cap in found for row in _rows(cap)]
    print_table(("cap", "of", "limit", "used", "held", "left", "source"), rows)


def _rows(cap: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row for each limit of a cap. Of a cap of each turn, for one, nothing is used: it is none in particular.

    One without any limit is shown too: where the configuration has a cap of this name, it has taken its place.
    """
    limits = {unit: cap["limits"].get(unit) for unit in _UNITS}
    if all(limit is None for limit in limits.values()):
        yield [cap["name"], "-", "no limit", "-", "-", "-", cap["source"]]
    for unit, limit in limits.items():
        if limit is None:
            continue
        of = [_amount(unit, (cap[what] or {}).get(unit)) for what in ("used", "held", "left")]
        yield [cap["name"], unit, _amount(unit, limit), *of, cap["source"]]


def _amount(unit: str, value: float | None) -> str:
    if value is None:
        return "-"
    if unit == "usd":
        return cost_text(value)
    return f"{value:.1f}" if unit == "seconds" else str(value)
