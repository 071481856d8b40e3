"""skillctl approvals, approve and deny: calls that wait for somebody's word."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.approval_card import card_of, decided_line
from skilld.cli.commands.options import approval_argument, complete_sessions, json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.inert import inert, pieces
from skilld.cli.output import Console, columns_of, print_json
from skilld.client import Client, Event

__all__ = ["approvals_command", "approve_command", "deny_command"]

_STATUSES: Final = ("pending", "allowed", "denied", "expired", "cancelled", "all")
_WHOLE: Final = re.compile(r"apr_[a-z2-7]{26}")
_BEGINNING: Final = re.compile(r"(?:apr_)?([a-z2-7]{4,26})")
_LOOKED_AT: Final = 5_000
_MAX_INPUT_BYTES: Final = 1 << 20


@click.command("approvals")
@approval_argument(required=False)
@click.option(
    "-s", "--session", metavar="SESSION", help="Only those of this session.", shell_complete=complete_sessions
)
@click.option("--status", type=click.Choice(_STATUSES), default="pending", show_default=True, help="Only those.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("-w", "--watch", is_flag=True, help="Go on with what comes and what is decided, until Ctrl-C.")
@json_option("one JSON document; with --watch an event a line")
@pass_app
def approvals_command(
    app: App, approval: str | None, session: str | None, status: str, limit: int, watch: bool, as_json: bool
) -> int:
    """Show calls that wait for an approval: what would run, where, with which files, and why. The newest comes last.

    Of your own sessions; who has the role approve sees those of all. With ID, or its beginning, that one alone and
    complete.

    \b
    Examples:
      skillctl approvals
      skillctl approvals --watch
      skillctl approvals --status all -s ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    if watch and (approval is not None or status != "pending"):
        raise click.UsageError("--watch shows what waits and what comes; leave out ID and --status")
    with app.client() as client:
        if watch:
            return _watch(client, session, as_json)
        if approval is not None:
            view = client.approval(_found(client, approval))
            _show([view], as_json, complete=True)
            return EXIT.DONE
        items = list(islice(client.approvals(status=status, session=session, page_size=min(limit, 200)), limit))
    _show(items, as_json, complete=False)
    return EXIT.DONE


@click.command("approve")
@approval_argument()
@click.option("--session-scope", is_flag=True, help="Also let the same call run later on in its session.")
@click.option("--edit", metavar="JSON|-", help="Run it with this input instead, an object; the model is told.")
@click.option("--revoke", is_flag=True, help="Take back what --session-scope allowed.")
@json_option()
@pass_app
def approve_command(
    app: App, approval: str, session_scope: bool, edit: str | None, revoke: bool, as_json: bool
) -> None:
    """Let a call run that waits for an approval, exactly as it was shown.

    ID is that of 'skillctl approvals', or its beginning where only one that waits begins so. It needs the role approve.

    \b
    Examples:
      skillctl approve apr_vnlhrpcqpsm2fnysmm3zqqo7oy
      skillctl approve --session-scope apr_vnlh
      skillctl approve --edit '{"command": "ls"}' apr_vnlh
      skillctl approve --revoke apr_vnlh
    """
    if sum((edit is not None, session_scope, revoke)) > 1:
        raise click.UsageError("--edit, --session-scope and --revoke exclude each other")
    given = None if edit is None else _input(edit)
    with app.client() as client:
        found = _found(client, approval, status="allowed" if revoke else "pending")
        if revoke:
            view = client.revoke_approval(found)
        elif given is None:
            view = client.decide(found, "allow", scope="session" if session_scope else "once")
        else:
            view = client.decide(found, "edit", input=given)
    _tell(view, as_json)


@click.command("deny")
@approval_argument()
@click.option("--reason", metavar="TEXT", help="Why; the model is told.")
@json_option()
@pass_app
def deny_command(app: App, approval: str, reason: str | None, as_json: bool) -> None:
    """Keep a call from running that waits for an approval. The turn goes on, and the model is told.

    ID is that of 'skillctl approvals', or its beginning where only one that waits begins so. It needs the role approve.

    \b
    Example:
      skillctl deny apr_vnlhrpcqpsm2fnysmm3zqqo7oy --reason "not on this host"
    """
    with app.client() as client:
        _tell(client.decide(_found(client, approval), "deny", reason=reason), as_json)


def _found(client: Client, given: str, *, status: str = "pending") -> str:
    """The id itself, or the one that begins so of those that wait, or are in another state."""
    if _WHOLE.fullmatch(given):
        return given
    beginning = _BEGINNING.fullmatch(given)
    if beginning is None:
        raise Failure(f"{given!a} is no approval's id, nor 4 or more characters of one", EXIT.USAGE)
    ids = (str(view["id"]) for view in islice(client.approvals(status=status, page_size=200), _LOOKED_AT))
    matching = [id for id in ids if id.startswith(f"apr_{beginning[1]}")]
    if not matching:
        raise Failure(f"no {status} approval has an id that begins with {given}; see 'skillctl approvals'")
    if len(matching) > 1:
        raise Failure(f"{given} could be any of {', '.join(matching[:5])}: give more of it", EXIT.USAGE)
    return matching[0]


def _input(text: str) -> dict[str, Any]:
    raw = text
    if text == "-":
        data = sys.stdin.buffer.read(_MAX_INPUT_BYTES + 1)
        if len(data) > _MAX_INPUT_BYTES:
            raise Failure(f"--edit: stdin holds more than {_MAX_INPUT_BYTES} bytes", EXIT.USAGE)
        raw = data.decode("utf-8", "replace")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Failure(f"--edit: not JSON: {error}", EXIT.USAGE) from error
    if not isinstance(value, dict):
        raise Failure("--edit: an input is a JSON object, with all that the tool is called with", EXIT.USAGE)
    return value


def _show(items: Sequence[dict[str, Any]], as_json: bool, *, complete: bool) -> None:
    if as_json:
        print_json(items[0] if complete else {"items": list(items)})
        return
    for number, view in enumerate(reversed(items)):
        if number:
            print()
        _print(view, complete=complete)
    if not items:
        Console().warn("none")


def _print(view: dict[str, Any], *, complete: bool = False) -> None:
    card = card_of(view, datetime.now(UTC), complete=complete, columns=columns_of(sys.stdout))
    print("\n".join(card.lines), flush=True)
    if not card.whole:
        print(f"  not all is shown: skillctl approvals {inert(str(view.get('id')))}", flush=True)


def _watch(client: Client, session: str | None, as_json: bool) -> int:
    told: set[str] = set()
    try:
        for event in client.approval_events(session=session):
            id = str(event.data.get("id"))
            if event.type != "approval.requested":
                told.discard(id)
            elif id in told:
                continue  # once more, behind a connection that was lost
            else:
                told.add(id)
            _tell_event(event, as_json)
    except KeyboardInterrupt:
        return EXIT.CANCELLED
    return EXIT.DONE


def _tell_event(event: Event, as_json: bool) -> None:
    if as_json:
        print(event.to_json(), flush=True)
    elif event.type == "approval.requested":
        _print(dict(event.data))
        print(flush=True)
    else:
        _print_decided(event.data)


def _tell(view: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        _print_decided(view)


def _print_decided(view: Mapping[str, Any]) -> None:
    """On one line; what a terminal has to break off stands further in, and is no line of its own."""
    line, columns = decided_line(view), columns_of(sys.stdout)
    print("\n    ".join([line] if columns is None else pieces(line, max(columns - 4, 1))), flush=True)
