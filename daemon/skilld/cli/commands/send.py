"""skillctl send: a message in, the answer out as it is written."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import complete_message, complete_sessions, complete_skills, json_option, pass_app
from skilld.cli.failure import EXIT, Failure, exit_code_of
from skilld.cli.narrator import Narrator
from skilld.cli.output import Console, print_json
from skilld.client import Client, Event, RequestTimeout, SkilldError

__all__ = ["send_command"]

_MAX_STDIN_BYTES: Final = 8 * 1024 * 1024
_CANCEL_WAIT_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Which conversation the message goes to, as the flags say."""

    session: str | None
    latest: bool
    backends: tuple[str, ...]
    skills: tuple[str, ...]
    denied: tuple[str, ...]
    cwd: Path | None
    model: str | None

    def check(self, new: bool) -> None:
        """Raise UsageError where the flags contradict each other."""
        chosen = [
            name
            for name, given in (("-s", self.session), ("-c", self.latest), ("--new", new))
            if given not in (None, False)
        ]
        if len(chosen) > 1:
            raise click.UsageError(f"{' and '.join(chosen)} exclude each other")
        if chosen and not new and (self.backends or self.skills or self.denied or self.cwd or self.model):
            raise click.UsageError(
                "--backend, --skill, --no-skill, --cwd and --model are fixed when a session is made; "
                f"leave out {chosen[0]} for a new one"
            )

    def open(self, client: Client) -> tuple[str, bool]:
        """The session's id, and whether it was made just now."""
        if self.session is not None:
            return self.session, False
        if self.latest:
            found = client.latest_session()
            if found is None:
                raise Failure("you have no session to continue; send without -c to start one")
            return str(found["id"]), False
        settings: dict[str, Any] = {}
        if self.backends:
            settings["backends"] = list(self.backends)
        if self.skills:
            settings["skills"] = list(self.skills)
        if self.denied:
            settings["skills"] = {"deny": list(self.denied)} | ({"allow": list(self.skills)} if self.skills else {})
        if self.cwd is not None:
            settings["cwd"] = str(self.cwd.absolute())
        if self.model:
            settings["model"] = self.model
        return str(client.create_session(**settings)["id"]), True


@click.command("send")
@click.option("-s", "--session", metavar="SESSION", help="Go on with this session.", shell_complete=complete_sessions)
@click.option("-c", "--continue", "latest", is_flag=True, help="Go on with your latest session.")
@click.option("--new", is_flag=True, help="Start a new session (what happens without -s and -c).")
@click.option("--backend", "backends", multiple=True, metavar="B", help="Where the new session's tools run.")
@click.option(
    "--skill",
    "skills",
    multiple=True,
    metavar="S",
    help="Let the new session use this skill; repeatable.",
    shell_complete=complete_skills,
)
@click.option(
    "--no-skill",
    "denied",
    multiple=True,
    metavar="S",
    help="Keep this skill from it; repeatable.",
    shell_complete=complete_skills,
)
@click.option(
    "--cwd",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The project whose skills the new session gets too; see skills.projects of the configuration.",
)
@click.option("--model", metavar="M", help="The new session's model.")
@click.option(
    "--wait/--no-wait", default=True, help="Stay until the answer is there, or print the turn's id and leave."
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0.1), metavar="S", help="Cancel after S seconds.")
@click.option("--key", metavar="K", help="Idempotency key: the same message under the same key is taken once.")
@json_option("each event as a line of JSON, as it happens")
@click.argument("text", metavar="TEXT|-", shell_complete=complete_message)
@pass_app
def send_command(
    app: App,
    session: str | None,
    latest: bool,
    new: bool,
    backends: tuple[str, ...],
    skills: tuple[str, ...],
    denied: tuple[str, ...],
    cwd: Path | None,
    model: str | None,
    wait: bool,
    timeout_s: float | None,
    key: str | None,
    as_json: bool,
    text: str,
) -> int:
    """Send a message and print the answer as it is written.

    The answer goes to stdout; the new session's id, the tools that run, and what it took go to stderr.
    With "-" the message is read from stdin. Ctrl-C cancels the turn; a second one leaves at once.

    \b
    Examples:
      skillctl send "analyze the log /var/log/dpkg.log"
      skillctl send -c "and which package came last?"
      git diff | skillctl send --skill review -
    """
    target = _Target(
        session=session, latest=latest, backends=backends, skills=skills, denied=denied, cwd=cwd, model=model
    )
    target.check(new)
    if not wait and timeout_s is not None:
        raise click.UsageError("--timeout needs --wait")
    message = _message(text)
    with app.client() as client:
        id, made = target.open(client)
        if made:
            Console().warn(f"session {id}")
        try:
            if not wait:
                return _post(client, id, message, key, as_json)
            return _Exchange(client, id, made, as_json).run(message, key, timeout_s)
        except ValueError as error:
            raise click.UsageError(str(error)) from error


def _message(text: str) -> str:
    if text != "-":
        with contextlib.suppress(UnicodeEncodeError):
            text.encode("utf-8")
            return _not_empty(text)
        raise Failure("TEXT is not valid UTF-8; convert it, for example with iconv", EXIT.USAGE)
    raw = sys.stdin.buffer.read(_MAX_STDIN_BYTES + 1)
    if len(raw) > _MAX_STDIN_BYTES:
        raise Failure(
            f"stdin holds more than {_MAX_STDIN_BYTES} bytes; put the data into a file and name it", EXIT.USAGE
        )
    try:
        return _not_empty(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Failure(
            f"stdin is not UTF-8 at byte {error.start}; convert it, for example with iconv", EXIT.USAGE
        ) from error


def _not_empty(text: str) -> str:
    if not text.strip():
        raise Failure("the message is empty; give TEXT, or '-' and something on stdin", EXIT.USAGE)
    return text


def _post(client: Client, session: str, text: str, key: str | None, as_json: bool) -> int:
    accepted = client.send(session, text, idempotency_key=key)
    if as_json:
        print_json(
            {
                "turn": accepted.turn,
                "session": accepted.session,
                "seq": accepted.seq,
                "status": accepted.status,
                "duplicate": accepted.duplicate,
            }
        )
    else:
        print(accepted.turn, flush=True)
    return EXIT.DONE


class _Exchange:
    """One message and its answer."""

    def __init__(self, client: Client, session: str, made: bool, as_json: bool) -> None:
        self._client = client
        self._session = session
        self._made = made
        self._as_json = as_json
        self._console = Console()
        self._narrator = Narrator(self._console)
        self._turn: str | None = None

    def run(self, text: str, key: str | None, timeout_s: float | None) -> int:
        """Send, and write the answer until it ends. Returns the exit code."""
        try:
            return self._stream(
                self._client.send_streaming(self._session, text, idempotency_key=key, timeout_s=timeout_s)
            )
        except KeyboardInterrupt:
            return self._interrupted()
        except RequestTimeout as error:
            if timeout_s is None:
                raise
            self._cancel()
            raise Failure(f"no answer within {timeout_s:g} s; the turn was cancelled", EXIT.TIMED_OUT) from error

    def _stream(self, events: Iterator[Event]) -> int:
        for event in events:
            self._turn = event.turn or self._turn
            if self._as_json:
                print(event.to_json(), flush=True)
            else:
                self._narrator.tell(event)
            if event.type == "approval.requested":
                return EXIT.WAITING_FOR_APPROVAL
            if event.is_ending:
                return self._ended(event)
        raise Failure("the daemon ended the stream before the turn ended")

    def _ended(self, event: Event) -> int:
        error = event.data.get("error") or {}
        status = event.type.removeprefix("turn.")
        if status != "finished":
            raise Failure(f"the turn {_WAS[status]}: {error.get('message') or 'no reason given'}", _code(status, error))
        return EXIT.DONE

    def _interrupted(self) -> int:
        """Cancel the turn and say how that went. A second Ctrl-C ends the program wherever it is."""
        try:
            self._console.end_line()
            self._console.warn("cancelling; Ctrl-C again leaves at once")
            status = self._cancel()
            self._console.warn("cancelled" if status == "cancelled" else f"the turn is {status}")
        except KeyboardInterrupt:
            pass
        except SkilldError as error:
            raise Failure(f"interrupted, and the turn could not be cancelled: {error}", EXIT.CANCELLED) from error
        return EXIT.CANCELLED

    def _cancel(self) -> str:
        """Cancel what was sent and wait for its end for 2 s. Returns the turn's status."""
        if self._turn is None:
            if not self._made:
                return f"unknown: it may have been taken just now; see 'skillctl show {self._session}'"
            self._client.cancel(self._session, queued=True)
            return "cancelled"
        self._client.cancel_turn(self._turn)
        return str(self._client.turn(self._turn, wait_s=_CANCEL_WAIT_S)["status"])


_WAS: Final = {"failed": "failed", "cancelled": "was cancelled", "interrupted": "was interrupted"}


def _code(status: str, error: dict[str, Any]) -> int:
    return exit_code_of(status, error.get("code"))
