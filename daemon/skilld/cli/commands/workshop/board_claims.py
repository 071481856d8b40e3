"""skillctl board claim, start, heartbeat, complete, fail, release: work that is done by hand, or by a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import Console, print_json

__all__ = [
    "claim_command",
    "complete_command",
    "fail_command",
    "heartbeat_command",
    "release_command",
    "start_command",
]

_MAX_WAIT_S: Final = 60.0

item_argument = click.argument("id", metavar="ITEM")
token_option = click.option(
    "--token", envvar="SKILLD_BOARD_TOKEN", required=True, metavar="TOKEN", help="What claim has printed."
)


@click.command("claim")
@click.argument("id", metavar="[ITEM]", required=False)
@click.option("--type", "-t", "types", multiple=True, metavar="TYPE", help="The best of this type; repeatable.")
@click.option("--as", "holder", metavar="NAME", help="Who takes it; your uid without it.")
@click.option("--lease", "lease_s", type=click.FloatRange(1, 86_400), metavar="S", help="Taken back after so long.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, _MAX_WAIT_S),
    default=0.0,
    metavar="S",
    help="Wait so long for one to be ready.",
)
@json_option("the item and the token")
@pass_app
def claim_command(
    app: App,
    id: str | None,
    types: tuple[str, ...],
    holder: str | None,
    lease_s: float | None,
    wait_s: float,
    as_json: bool,
) -> int:
    """Take ITEM, or the best one that is ready. Prints its id and the token; ends with 1 where there is none.

    Say 'heartbeat' before the lease is over (60 s), or somebody else may have it.

    \b
    Example:
      skillctl board claim --type code --lease 3600
    """
    if id is not None and (types or wait_s):
        raise click.UsageError("--type and --wait look for an item: leave out ITEM")
    with app.client() as client:
        got = client.claim_item(id, holder=holder, types=types or None, lease_s=lease_s, wait_s=wait_s)
    if as_json:
        print_json(got)
    elif got["item"] is not None:
        print(f"{got['item']['id']} {got['token']}")
    else:
        Console().warn("nothing is ready")
    return EXIT.DONE if got["item"] is not None else EXIT.FAILED


@click.command("start")
@item_argument
@token_option
@json_option("the item")
@pass_app
def start_command(app: App, id: str, token: str, as_json: bool) -> None:
    """Say that the work on a claimed item begins.

    \b
    Example:
      skillctl board start fix-build --token "$token"
    """
    with app.client() as client:
        _tell(client.start_item(id, token), as_json)


@click.command("heartbeat")
@item_argument
@token_option
@json_option("the item")
@pass_app
def heartbeat_command(app: App, id: str, token: str, as_json: bool) -> None:
    """Let the lease run anew. Ends with 1 if it is lost.

    \b
    Example:
      skillctl board heartbeat fix-build --token "$token"
    """
    with app.client() as client:
        _tell(client.renew_item(id, token), as_json)


@click.command("complete")
@item_argument
@token_option
@click.option("--result", metavar="TEXT|-", help="What came of it; - reads it from standard input.")
@click.option("--structured", metavar="JSON", help="The same as JSON, where the item has a schema.")
@click.option("--waive", metavar="WHY", help="Why it counts although its verification was not made.")
@json_option("the item")
@pass_app
def complete_command(
    app: App, id: str, token: str, result: str | None, structured: str | None, waive: str | None, as_json: bool
) -> None:
    """Say that an item is done.

    \b
    Example:
      skillctl board complete fix-build --token "$token" --result "it was the linker"
    """
    text = sys.stdin.read() if result == "-" else result
    value = None if structured is None else _json(structured)
    with app.client() as client:
        _tell(client.complete_item(id, token, text, structured=value, waive=waive), as_json)


@click.command("fail")
@item_argument
@token_option
@click.option("--reason", "error", required=True, metavar="TEXT", help="Why.")
@click.option("--final", is_flag=True, help="It is not to be tried again.")
@json_option("the item")
@pass_app
def fail_command(app: App, id: str, token: str, error: str, final: bool, as_json: bool) -> None:
    """Say that an item could not be done: it is ready again while attempts are left, else failed.

    \b
    Example:
      skillctl board fail fix-build --token "$token" --reason "needs another machine" --final
    """
    with app.client() as client:
        _tell(client.fail_item(id, token, error, final=final), as_json)


@click.command("release")
@item_argument
@token_option
@click.option("--note", metavar="TEXT", help="Why.")
@json_option("the item")
@pass_app
def release_command(app: App, id: str, token: str, note: str | None, as_json: bool) -> None:
    """Give an item back as if it had not been taken.

    \b
    Example:
      skillctl board release fix-build --token "$token"
    """
    with app.client() as client:
        _tell(client.release_item(id, token, note), as_json)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(f"--structured: not JSON: {error}", EXIT.USAGE) from error


def _tell(item: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(item)
    else:
        print(f"{item['id']}: {item['status']}")
