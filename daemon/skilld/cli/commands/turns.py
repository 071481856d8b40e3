"""skillctl cancel and wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import click
from click.exceptions import Exit

from skilld.cli.app import App
from skilld.cli.commands.options import complete_sessions, json_option, pass_app
from skilld.cli.failure import EXIT, Failure, exit_code_of
from skilld.cli.holdup import holdup
from skilld.cli.inquiry import Inquiry
from skilld.cli.output import Console, print_json
from skilld.client import Client

__all__ = ["cancel_command", "wait_command"]

_WAIT_S: Final = 2.0  # for one request; then whether it waits for an approval
_LOOK_BACK_EVENTS: Final = 500  # at first
_OPEN: Final = frozenset({"queued", "running"})


@click.command("cancel")
@click.argument("id", metavar="SESSION|TURN", shell_complete=complete_sessions)
@click.option("--queued", is_flag=True, help="Also the messages that wait behind the running turn.")
@json_option()
@pass_app
def cancel_command(app: App, id: str, queued: bool, as_json: bool) -> None:
    """Cancel the running turn of a session, or one turn. Prints the ids of the turns.

    \b
    Example:
      skillctl cancel --queued ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    with app.client() as client:
        if id.startswith("trn_"):
            if queued:
                raise click.UsageError("--queued is for a session, not for a turn")
            answer = client.cancel_turn(id)
            cancelled = [id]
        else:
            answer = client.cancel(id, queued=queued)
            cancelled = [str(turn) for turn in answer["cancelled"]]
    if as_json:
        print_json(answer)
        return
    for turn in cancelled:
        print(turn)
    if not cancelled:
        Console().warn("nothing was running")


@click.command("wait")
@click.argument("id", metavar="TURN|SESSION", shell_complete=complete_sessions)
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), metavar="S", help="Give up after S seconds.")
@json_option()
@pass_app
def wait_command(app: App, id: str, timeout_s: float | None, as_json: bool) -> int:
    """Wait for a turn to end, or for a session until nothing runs or waits in it.

    Prints the answer, of a session the last one, and exits as 'send' would have. The turn goes on if you give up. Ids
    of turns come from 'skillctl send --no-wait'. Where a call waits for an approval it asks, or ends with 3, as 'send'.

    \b
    Examples:
      skillctl wait --timeout 60 "$(skillctl send --no-wait 'analyze /var/log/dpkg.log')"
      skillctl wait ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    with app.client() as client:
        onlooker = _Onlooker(client, ask=not as_json)
        wait = _at_rest if id.startswith("ses_") else _ended
        found = wait(client, id, deadline_s, onlooker.look)
    if found is None:
        if as_json:
            print_json(None)
        Console().warn("no message was ever sent to it")
        return EXIT.DONE
    if found["status"] in _OPEN:
        raise Failure(f"turn {found['turn']} is still {found['status']} after {timeout_s:g} s", EXIT.TIMED_OUT)
    result = found.get("result") or {}
    if as_json:
        print_json(found)
    elif result.get("text"):
        console = Console()
        console.answer(str(result["text"]))
        console.end_line()
    return _exit(found, result)


class _Onlooker:
    """Looks now and then at what keeps a session from going on.

    Args:
        ask: whether to ask about approvals, where somebody sits at a terminal.

    """

    def __init__(self, client: Client, *, ask: bool) -> None:
        self._client = client
        self._console = Console()
        self._inquiry = Inquiry(client, self._console)
        self._asks = ask
        self._told: str | None = None

    def look(self, session: str) -> None:
        """Ask about what waits for an approval, say what else holds it. Raises Exit where an approval waits on."""
        for view in list(self._client.approvals(session=session)):
            if not self._inquiry.settle(str(view["id"]), ask=self._asks):
                raise Exit(EXIT.WAITING_FOR_APPROVAL)
        why = holdup(self._client, session, None)
        if why is not None and why != self._told:
            self._console.warn(why)
        self._told = why


def _at_rest(
    client: Client, session: str, deadline_s: float | None, ask: Callable[[str], None]
) -> dict[str, Any] | None:
    """The session's last turn once none is open any more, or an open one when the time is over; None without any."""
    found: dict[str, Any] | None = None
    while True:
        latest = _latest_turn(client, session)
        if latest is None or (found is not None and found["turn"] == latest):
            return found
        found = _ended(client, latest, deadline_s, ask)
        if found["status"] in _OPEN:
            return found
        # Messages that came while the model wrote are shown only now.


def _latest_turn(client: Client, session: str) -> str | None:
    """The turn of the message that came last, of those that are shown."""
    last, span = int(client.session(session)["last_seq"]), _LOOK_BACK_EVENTS
    while True:
        after = max(0, last - span)
        events = client.events(session, after=after, follow=False)
        turns = [event.turn for event in events if event.type == "turn.queued"]
        if turns or after == 0:
            return turns[-1] if turns else None
        span *= 10


def _ended(client: Client, turn: str, deadline_s: float | None, ask: Callable[[str], None]) -> dict[str, Any]:
    """The turn once it has ended, or as it is when the time is over. What waits for an approval meanwhile is asked."""
    left_s = 0.0
    while True:
        found = client.turn(turn, wait_s=left_s)
        if found["status"] not in _OPEN:
            return found
        ask(str(found["session"]))
        if deadline_s is not None and time.monotonic() >= deadline_s:
            return found
        left_s = _WAIT_S if deadline_s is None else max(0.0, min(_WAIT_S, deadline_s - time.monotonic()))


def _exit(found: dict[str, Any], result: dict[str, Any]) -> int:
    error = result.get("error") or {}
    code = exit_code_of(str(found["status"]), error.get("code"))
    if code != EXIT.DONE:
        raise Failure(f"turn {found['turn']} {found['status']}: {error.get('message') or 'no reason given'}", code)
    return code
