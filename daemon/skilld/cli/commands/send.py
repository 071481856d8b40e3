"""skillctl send: a message in, the answer out as it is written."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import complete_message, complete_sessions, complete_skills, json_option, pass_app
from skilld.cli.exchange import Exchange
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import Console, print_json
from skilld.cli.target import Target
from skilld.client import Client

__all__ = ["send_command"]

_MAX_STDIN_BYTES: Final = 8 * 1024 * 1024


@click.command("send")
@click.option("-s", "--session", metavar="SESSION", help="Go on with this session.", shell_complete=complete_sessions)
@click.option("-c", "--continue", "latest", is_flag=True, help="Go on with your latest session.")
@click.option("--new", is_flag=True, help="Start a new session (what happens without -s and -c).")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="B",
    help="Where the new session's tools run: NAME, or with options NAME:KEY=VALUE,... such as docker:memory=512m.",
)
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
@click.option(
    "--schema",
    "schema_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Have the answer as JSON that keeps to the JSON schema in FILE, or fail.",
)
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
    schema_file: Path | None,
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
      skillctl send --schema person.json "who wrote Ulysses?" | jq .name
    """
    target = Target(
        session=session, latest=latest, backends=backends, skills=skills, denied=denied, cwd=cwd, model=model
    )
    target.check(new)
    if not wait and timeout_s is not None:
        raise click.UsageError("--timeout needs --wait")
    message = _message(text)
    schema = None if schema_file is None else _schema(schema_file)
    with app.client() as client:
        id, made = target.open(client)
        if made:
            Console().warn(f"session {id}")
        try:
            if not wait:
                return _post(client, id, message, key, schema, as_json)
            return Exchange(client, id, made=made, as_json=as_json).run(message, key, timeout_s, schema)
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


def _schema(file: Path) -> dict[str, Any]:
    try:
        schema = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"--schema: {file}: {error.strerror}", EXIT.USAGE) from error
    except (ValueError, RecursionError) as error:
        raise Failure(f"--schema: {file} is not JSON: {error}", EXIT.USAGE) from error
    if not isinstance(schema, dict):
        raise Failure(f"--schema: {file} holds no JSON schema, which is an object", EXIT.USAGE)
    return schema


def _post(
    client: Client, session: str, text: str, key: str | None, schema: dict[str, Any] | None, as_json: bool
) -> int:
    accepted = client.send(session, text, idempotency_key=key, schema=schema)
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
