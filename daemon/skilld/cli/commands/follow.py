"""skillctl show and attach: what was said, and what is being said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app, session_argument
from skilld.cli.context_gauge import context_text
from skilld.cli.failure import EXIT
from skilld.cli.inquiry import Inquiry
from skilld.cli.narrator import Narrator
from skilld.cli.output import Console, one_line, size_text
from skilld.client import Client, Event

__all__ = ["attach_command", "show_command"]


@click.command("show")
@session_argument()
@json_option("each event as a line of JSON")
@pass_app
def show_command(app: App, session: str, as_json: bool) -> None:
    """Print a conversation.

    What you said, what was answered, which tools ran.

    \b
    Example:
      skillctl show ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    with app.client() as client:
        if not as_json:
            _print_head(client, session)
        _print(client.events(session, follow=False), as_json)


@click.command("attach")
@session_argument()
@click.option(
    "--from", "after", metavar="SEQ", help="Start behind this event; 0 is everything. Else what happens now on."
)
@json_option("each event as a line of JSON, as it happens")
@pass_app
def attach_command(app: App, session: str, after: str | None, as_json: bool) -> int:
    """Follow a conversation as it happens. Ctrl-C leaves; the conversation goes on.

    A daemon that restarts meanwhile is waited for; nothing is missed and nothing comes twice. On a terminal it asks
    about calls that wait for an approval; to leave such a question leaves the call waiting.

    \b
    Examples:
      skillctl attach ses_vnlhrpcqpsm2fnysmm3zqqo7oy
      skillctl attach --from 0 --json ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    with app.client() as client:
        try:
            inquiry = None if as_json else Inquiry(client, Console(notes_on_stdout=True))
            _print(client.events(session, after=_start(client, session, after)), as_json, inquiry)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--from") from error
        except KeyboardInterrupt:
            return EXIT.CANCELLED
    return EXIT.DONE


def _start(client: Client, session: str, after: str | None) -> str:
    return after if after is not None else str(client.session(session).get("last_seq", 0))


def _print(events: Iterator[Event], as_json: bool, inquiry: Inquiry | None = None) -> None:
    narrator = Narrator(Console(notes_on_stdout=True), with_messages=True)
    for event in events:
        if as_json:
            print(event.to_json(), flush=True)
        else:
            narrator.tell(event)
        if inquiry is not None and event.type == "approval.requested":
            inquiry.settle(str(event.data.get("id")))


def _print_head(client: Client, session: str) -> None:
    found = client.session(session)
    title = found.get("title") or "untitled"
    print(one_line(f"{found['id']} · {title} · {found['status']} · {found['turns']} turns · {found['updated']}"))
    places = found.get("backends") or []
    if len(places) > 1 or any(isinstance(choice, dict) for choice in places):
        print(one_line(f"places: {', '.join(map(_place, places))}"))
    if (gauge := context_text(found)) is not None:
        print(one_line(gauge))
    files = client.files(session, limit=1)
    print(f"files: {size_text(files['used_bytes'])} of {size_text(files['quota_bytes'])}")
    print(flush=True)


def _place(choice: Any) -> str:
    """A place of a session: its name, what it is where that is not the same, and the options it was made with."""
    if not isinstance(choice, dict):
        return str(choice)
    backend = str(choice.get("backend"))
    name = str(choice.get("name") or backend)
    options = choice.get("options") or {}
    more = [*([backend] if name != backend else []), *(f"{key}={_written(options[key])}" for key in options)]
    return f"{name} ({', '.join(more)})" if more else name


def _written(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
