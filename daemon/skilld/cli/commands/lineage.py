"""skillctl rename, fork, reset, export and import: conversations as a whole."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app, session_argument
from skilld.cli.failure import Failure
from skilld.cli.output import Console, print_json

__all__ = ["export_command", "fork_command", "import_command", "rename_command", "reset_command"]

_MAX_IMPORT_BYTES: Final = 1 << 30


def _tell(made: dict[str, Any], as_json: bool) -> None:
    """The id alone, for scripts, or the whole session."""
    if as_json:
        print_json(made)
    else:
        print(made["id"], flush=True)


@click.command("rename")
@session_argument()
@click.argument("title", metavar="TITLE")
@json_option()
@pass_app
def rename_command(app: App, session: str, title: str, as_json: bool) -> None:
    """Give a conversation a title of at most 200 characters. An empty one takes it away.

    Without a title of yours a conversation is called by the first line of its first message.

    \b
    Example:
      skillctl rename ses_vnlhrpcqpsm2fnysmm3zqqo7oy "disk usage in May"
    """
    with app.client() as client:
        changed = client.update_session(session, title=title or None)
    if as_json:
        print_json(changed)


@click.command("fork")
@session_argument()
@click.option("--at", "after", type=click.IntRange(min=0), metavar="SEQ", help="Leave out what came after this event.")
@click.option("--title", metavar="T", help="The title of the new one.")
@click.option("--key", metavar="K", help="Idempotency key: under the same key it is made once.")
@json_option()
@pass_app
def fork_command(app: App, session: str, after: int | None, title: str | None, key: str | None, as_json: bool) -> None:
    """Go on from a copy of a conversation, and leave the conversation as it is. Prints the new one's id.

    The copy has everything up to the last turn that has ended (with --at: that had ended by then), the settings, and
    the files as they are now. Nothing is shared between the two afterwards. 'show' tells the number of each turn's end.

    \b
    Examples:
      skillctl fork ses_vnlhrpcqpsm2fnysmm3zqqo7oy
      skillctl send -s "$(skillctl fork --at 27 ses_vnlhrpcqpsm2fnysmm3zqqo7oy)" "now the other way"
    """
    with app.client() as client, _usage():
        made = client.fork_session(session, after=after, title=title, idempotency_key=key)
    if after and not (made.get("forked_from") or {}).get("seq", after):
        Console().warn(f"no turn had ended by event {after}: the new conversation is empty")
    _tell(made, as_json)


@click.command("reset")
@session_argument()
@click.option("--workspace", is_flag=True, help="Remove its files too.")
@json_option()
@pass_app
def reset_command(app: App, session: str, workspace: bool, as_json: bool) -> None:
    """Begin a conversation anew under the same id. What runs in it is cancelled.

    The model sees nothing of what was said before; you do, with 'show'. Settings and files are kept.

    \b
    Example:
      skillctl reset --workspace ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    with app.client() as client:
        changed = client.reset_session(session, workspace=workspace)
    if as_json:
        print_json(changed)


@click.command("export")
@session_argument()
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="Write there, not to stdout.")
@pass_app
def export_command(app: App, session: str, output: str | None) -> None:
    """Write a conversation as lines of JSON, one event a line, for 'import' or for programs.

    Its settings and all events are in it; the files of its workspace are not.

    \b
    Example:
      skillctl export -o talk.jsonl ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    with app.client() as client:
        data = client.export_session(session)
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    _write_whole(Path(output), data)


@click.command("import")
@click.argument("file", metavar="FILE|-")
@click.option("--key", metavar="K", help="Idempotency key: under the same key it is made once.")
@json_option()
@pass_app
def import_command(app: App, file: str, key: str | None, as_json: bool) -> None:
    """Make a conversation from an exported one. Prints its id.

    Nothing of it runs; a turn that had not ended when it was exported is left out. "-" reads stdin.

    \b
    Example:
      skillctl import talk.jsonl
    """
    data = _read_whole(file)
    with app.client() as client, _usage():
        made = client.import_session(data, idempotency_key=key)
    _tell(made, as_json)


@contextlib.contextmanager
def _usage() -> Any:
    """What the client library refuses before anything is sent is wrong use."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _read_whole(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(_MAX_IMPORT_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(_MAX_IMPORT_BYTES + 1)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    if len(data) > _MAX_IMPORT_BYTES:
        raise Failure(f"{file}: larger than {_MAX_IMPORT_BYTES} bytes")
    return data


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside the file and put it into its place: a failure leaves the old one. What was said may be private."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as opened:
                opened.write(data)
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error
    Console().warn(f"{path}: {len(data)} bytes")
