"""skillctl compact."""

from __future__ import annotations

from typing import Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app, session_argument
from skilld.cli.failure import EXIT, Failure, exit_code_of
from skilld.cli.holdup import holdup
from skilld.cli.output import Console, print_json
from skilld.client import Client

__all__ = ["compact_command"]

_WAIT_S: Final = 60.0  # for one request


@click.command("compact")
@session_argument()
@click.option("--no-wait", is_flag=True, help="Print the id of its turn and leave.")
@click.option("--key", metavar="K", help="Idempotency key: the same request under the same key is taken once.")
@json_option()
@pass_app
def compact_command(app: App, session: str, no_wait: bool, key: str | None, as_json: bool) -> int:
    """Put a summary in the place of the earlier part of a conversation, so that later turns cost less.

    What was said stays to be seen with 'skillctl show'; the model is given the summary, the latest messages, those that
    were pinned, and the instructions of skills. Costs one call of the model. It happens by itself when a conversation
    grows long.

    \b
    Example:
      skillctl compact ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    with app.client() as client:
        try:
            accepted = client.compact(session, idempotency_key=key)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        if no_wait:
            if as_json:
                print_json(accepted.to_dict())
            else:
                print(accepted.turn, flush=True)
            return EXIT.DONE
        if why := holdup(client, session, accepted.turn):
            Console().warn(why)
        return _told(client, accepted.turn, as_json)


def _told(client: Client, turn: str, as_json: bool) -> int:
    """Wait for the turn and print what came of it; the exit code."""
    found = client.turn(turn, wait_s=_WAIT_S)
    while found.get("result") is None:
        found = client.turn(turn, wait_s=_WAIT_S)
    result = found["result"]
    if as_json:
        print_json(found)
    elif found["status"] == "finished":
        console = Console()
        console.answer(str(result.get("text") or ""))
        console.end_line()
    error = result.get("error") or {}
    code = exit_code_of(str(found["status"]), error.get("code"))
    if code != EXIT.DONE:
        raise Failure(f"turn {turn} {found['status']}: {error.get('message') or 'no reason given'}", code)
    return code
