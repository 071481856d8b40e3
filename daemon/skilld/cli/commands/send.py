"""skillctl send: a message in, the answer out as it is written."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.artifact_argument import artifact_of
from skilld.cli.commands.options import (
    complete_backends,
    complete_message,
    complete_sessions,
    complete_skills,
    json_option,
    pass_app,
)
from skilld.cli.exchange import Exchange
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import Console, print_json
from skilld.cli.sent_file import content_of
from skilld.cli.target import Target
from skilld.client import Client

__all__ = ["message_of", "send_command"]

_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
_MODES: Final = ("follow-up", "steer", "interrupt")
_MAX_STDIN_BYTES: Final = 8 * 1024 * 1024
_MAX_FILE_BYTES: Final = 6 * 1024 * 1024  # with base64 as much as a request may have


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
    shell_complete=complete_backends,
)
@click.option(
    "--mcp",
    "servers",
    multiple=True,
    metavar="NAME",
    help="Give the new session the tools of this tool server; repeatable.",
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
@click.option(
    "--parent",
    metavar="SESSION",
    help="The new session works for this one, which is charged with it and whose caps bind it.",
    shell_complete=complete_sessions,
)
@click.option("--model", metavar="M", help="The new session's model; with -s or -c, of this turn alone.")
@click.option("--effort", type=click.Choice(_EFFORTS), help="How much effort the model makes in this turn.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="At most so many for each answer.")
@click.option(
    "--max-usd",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="At most so many dollars for this turn, besides all other caps.",
)
@click.option("--tool", "tools", multiple=True, metavar="T", help="Offer only this tool in this turn; repeatable.")
@click.option("--no-tools", is_flag=True, help="Offer no tools in this turn.")
@click.option(
    "--mode",
    type=click.Choice(_MODES),
    default=_MODES[0],
    show_default=True,
    help="While a turn runs: wait for its end, speak to it, or end it and be the next one.",
)
@click.option("--pin", "pinned", is_flag=True, help="Keep this message whole when the conversation is made shorter.")
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
@click.option(
    "--file",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Send this file along, into the workspace; repeatable. The model sees pictures and PDF documents at once.",
)
@click.option(
    "--artifact",
    "named",
    multiple=True,
    metavar="NAME=URI|@FILE",
    help="Give tools file://NAME: what an https:// or skill:// URI gives, or the text in FILE; repeatable.",
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
    servers: tuple[str, ...],
    skills: tuple[str, ...],
    denied: tuple[str, ...],
    cwd: Path | None,
    parent: str | None,
    model: str | None,
    effort: str | None,
    max_tokens: int | None,
    max_usd: float | None,
    tools: tuple[str, ...],
    no_tools: bool,
    mode: str,
    pinned: bool,
    wait: bool,
    timeout_s: float | None,
    schema_file: Path | None,
    paths: tuple[Path, ...],
    named: tuple[str, ...],
    key: str | None,
    as_json: bool,
    text: str,
) -> int:
    """Send a message and print the answer as it is written.

    The answer goes to stdout; the new session's id, the tools that run, and what it took go to stderr.
    With "-" the message is read from stdin. Ctrl-C cancels the turn; a second one leaves at once. On a terminal it asks
    about calls that need an approval; elsewhere it then ends with 3 and says on stderr how to decide.

    \b
    Examples:
      skillctl send "analyze the log /var/log/dpkg.log"
      skillctl send -c "and which package came last?"
      git diff | skillctl send --skill review -
      skillctl send --schema person.json "who wrote Ulysses?" | jq .name
      skillctl send --file chart.png "what went wrong on the third day?"
      skillctl send --artifact rules.md=@rules.md "does deploy.sh keep to file://rules.md?"
      skillctl send -c --effort low --no-tools "in one sentence?"
    """
    goes_on = latest or session is not None
    target = Target(
        session=session,
        latest=latest,
        backends=backends,
        servers=servers,
        skills=skills,
        denied=denied,
        cwd=cwd,
        model=None if goes_on else model,
        parent=parent,
    )
    target.check(new)
    budget = None if max_usd is None else {"usd": max_usd}
    options = {"model": model if goes_on else None, "effort": effort, "max_tokens": max_tokens, "budget": budget}
    asked: dict[str, Any] = {
        "options": {**_given(options), **_tools(tools, no_tools)},
        "mode": mode.replace("-", "_"),
        "pinned": pinned,
        "files": [_file(path) for path in paths],
        "artifacts": [artifact_of(text) for text in named],
    }
    if not wait and timeout_s is not None:
        raise click.UsageError("--timeout needs --wait")
    message = message_of(text)
    schema = None if schema_file is None else _schema(schema_file)
    with app.client() as client:
        id, made = target.open(client)
        if made:
            Console().warn(f"session {id}")
        try:
            if not wait:
                return _post(client, id, message, key, schema, asked, as_json)
            return Exchange(client, id, made=made, as_json=as_json).run(message, key, timeout_s, schema, asked)
        except ValueError as error:
            raise click.UsageError(str(error)) from error


def message_of(text: str) -> str:
    """The message that an argument is, or with \"-\" what stdin holds. Raises Failure."""
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


def _file(path: Path) -> tuple[str, bytes]:
    """A file for the message: its name and what it holds."""
    return path.name, content_of(path, _MAX_FILE_BYTES, "--file")


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


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _tools(tools: tuple[str, ...], none: bool) -> dict[str, Any]:
    if tools and none:
        raise click.UsageError("--tool and --no-tools exclude each other")
    return {"tools": list(tools)} if tools or none else {}


def _post(
    client: Client,
    session: str,
    text: str,
    key: str | None,
    schema: dict[str, Any] | None,
    asked: Mapping[str, Any],
    as_json: bool,
) -> int:
    accepted = client.send(session, text, idempotency_key=key, schema=schema, **asked)
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
