"""skillctl files: what is in a conversation's workspace, and the way in and out."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

import click

from skilld.cli.app import App, LazyGroup
from skilld.cli.commands.options import json_option, pass_app, session_argument
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import is_terminal, print_json, print_table, size_text
from skilld.client import SkilldError, Upload

__all__ = [
    "fetch_command",
    "files_command",
    "get_command",
    "list_command",
    "purge_command",
    "put_command",
    "rm_command",
    "url_command",
]

_PAGE: Final = 1000
_PIECE_BYTES: Final = 256 << 10
_SHOW_EVERY_S: Final = 0.2
_COMMANDS: Final = dict.fromkeys(("fetch", "get", "list", "purge", "put", "rm", "url"), "files")

_source = click.option("--source", metavar="PLACE", help="The place of the file, where the conversation has several.")


@click.group("files", cls=LazyGroup, modules=_COMMANDS)
def files_command() -> None:
    """List, fetch, send and delete the files of a conversation, and what a storage has of them."""


@click.command("list")
@session_argument()
@json_option()
@pass_app
def list_command(app: App, session: str, as_json: bool) -> None:
    """List the files of a conversation, and how much of its quota they take.

    \b
    Example:
      skillctl files list ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    items: list[dict[str, Any]] = []
    cursor = None
    with app.client() as client:
        while True:
            page = client.files(session, limit=_PAGE, cursor=cursor)
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                break
    facts = {name: page[name] for name in ("used_bytes", "quota_bytes", "complete")}
    if as_json:
        print_json({"items": items, **facts})
        return
    rows = [
        [str(item["path"]), size_text(item["size"]), str(item["source"]), str(item["content_type"]), _when(item)]
        for item in items
    ]
    print_table(("file", "size", "place", "type", "created"), rows)
    _note(f"{size_text(page['used_bytes'])} of {size_text(page['quota_bytes'])} used")
    if not page["complete"]:
        _note("a part of the workspace cannot be looked at: there is more than is shown")


@click.command("get")
@session_argument()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE|DIR|-", help="Where to: a file, a folder, or - for stdout.")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@_source
@json_option()
@pass_app
def get_command(
    app: App, session: str, names: tuple[str, ...], output: str | None, force: bool, source: str | None, as_json: bool
) -> int:
    """Fetch files of a conversation into the folder you are in, or where --output says.

    Nothing is overwritten without --force, and a file appears only when it is whole. Only the last part of a NAME is
    used for the local one.

    \b
    Examples:
      skillctl files get ses_vnlhrpcqpsm2fnysmm3zqqo7oy out/report.xlsx
      skillctl files get ses_vnlhrpcqpsm2fnysmm3zqqo7oy data.json -o - | jq .
    """
    if as_json and output == "-":
        raise click.UsageError("--json and the content of files cannot both go to stdout")
    if len(names) > 1 and output is not None and output != "-" and not Path(output).is_dir():
        raise click.UsageError(f"--output {output}: several files need a folder that is there, or -")
    fetched: list[tuple[str, Path, int]] = []
    with app.client() as client:
        for name in names:
            with client.open_file(session, name, source=source) as answer:
                length = answer.headers.get("content-length")
                with _Progress(name, None if length is None else int(length)) as progress:
                    pieces = progress.counting(answer.chunks())
                    if output == "-":
                        _to_stdout(pieces)
                        continue
                    target = _target(name, output)
                    size = _save(pieces, target, force=force)
            fetched.append((name, target, size))
    if as_json:
        print_json({"items": [{"path": name, "file": str(there), "size": size} for name, there, size in fetched]})
    else:
        for _, there, size in fetched:
            print(f"{there}: {size_text(size)}")
    return EXIT.DONE


@click.command("put")
@session_argument()
@click.argument("file", metavar="FILE|-")
@click.argument("name", required=False)
@click.option("--force", is_flag=True, help="Overwrite a file of this name.")
@_source
@json_option()
@pass_app
def put_command(
    app: App, session: str, file: str, name: str | None, force: bool, source: str | None, as_json: bool
) -> int:
    """Send a file, or with - what comes on stdin, into a conversation's workspace.

    NAME is its name there: the same as here if it is left out, with stdin it has to be given.

    \b
    Examples:
      skillctl files put ses_vnlhrpcqpsm2fnysmm3zqqo7oy access.log
      journalctl -b | skillctl files put ses_vnlhrpcqpsm2fnysmm3zqqo7oy - logs/boot.txt
    """
    if file == "-" and name is None:
        raise click.UsageError("what comes on stdin needs a NAME")
    wanted = name if name is not None else Path(file).name
    try:
        with app.client() as client, _opened(file) as content:
            size = None if file == "-" else os.fstat(content.fileno()).st_size
            with _Progress(wanted, size) as progress:
                upload = Upload(lambda: progress.counting(iter(lambda: content.read(_PIECE_BYTES), b"")), size)
                ref = client.put_file(session, wanted, upload, replace=force, source=source)
    except SkilldError as error:
        if error.code == "conflict" and not force:
            raise Failure(f"{error}; --force overwrites it", Failure.of(error).exit_code) from error
        raise
    except ValueError as error:
        raise Failure(f"{file}: {error}") from error
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    if as_json:
        print_json(ref)
    else:
        print(f"{ref['path']}: {size_text(ref['size'])}")
    return EXIT.DONE


@click.command("rm")
@session_argument()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_source
@pass_app
def rm_command(app: App, session: str, names: tuple[str, ...], source: str | None) -> int:
    """Delete files of a conversation. One that cannot be deleted does not keep the others; the exit code is then 1.

    \b
    Example:
      skillctl files rm ses_vnlhrpcqpsm2fnysmm3zqqo7oy out/old.csv
    """
    code = EXIT.DONE
    with app.client() as client:
        for name in names:
            try:
                client.delete_file(session, name, source=source)
            except SkilldError as error:
                if error.status is None:
                    raise
                failure = Failure.of(error)
                failure.show()
                code = failure.exit_code
    return code


@click.command("fetch")
@session_argument()
@click.option("--from", "stored", metavar="SESSION", help="What is stored of that conversation; needs the role admin.")
@json_option()
@pass_app
def fetch_command(app: App, session: str, stored: str | None, as_json: bool) -> int:
    """Bring the files that the storage has of a conversation into its workspace, as on another machine.

    \b
    Example:
      skillctl files fetch ses_vnlhrpcqpsm2fnysmm3zqqo7oy --from ses_q6bkfu4m2tskeqqtbmqvwvvzli
    """
    with app.client() as client:
        return _report(client.fetch_stored_files(session, stored=stored), "fetched", as_json)


@click.command("purge")
@session_argument()
@json_option()
@pass_app
def purge_command(app: App, session: str, as_json: bool) -> int:
    """Remove for good what the storage has of a conversation. Its workspace here stays.

    \b
    Example:
      skillctl files purge ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    with app.client() as client:
        return _report(client.purge_stored_files(session), "removed", as_json)


@click.command("url")
@session_argument()
@click.argument("name")
@click.option("--expires", "expires_s", type=click.IntRange(1, 604_800), default=3600, show_default=True)
@pass_app
def url_command(app: App, session: str, name: str, expires_s: int) -> int:
    """Print a URL with which anybody can fetch a stored file until it expires, after so many seconds.

    \b
    Example:
      skillctl files url ses_vnlhrpcqpsm2fnysmm3zqqo7oy out/report.xlsx --expires 600
    """
    with app.client() as client:
        url = client.file_url(session, name, expires_s=expires_s)
    if url is None:
        raise Failure("the storage of this daemon is a folder: it has no such URLs")
    print(url)
    return EXIT.DONE


def _report(report: dict[str, Any], verb: str, as_json: bool) -> int:
    if as_json:
        print_json(report)
    else:
        print(f"{verb}: {len(report['files'])} files; as they were: {report['unchanged']}")
        for name, why in report["failed"].items():
            Failure(f"{name}: {why}").show()
    return EXIT.FAILED if report["failed"] else EXIT.DONE


def _target(name: str, output: str | None) -> Path:
    """Where a file goes. What the far side calls it decides no more than the last part of the path."""
    last = PurePosixPath(name).name
    if output is None or Path(output).is_dir():
        if last in ("", ".", "..") or not last.isprintable():
            raise Failure(f"{name!r} cannot be the name of a file here; name one by --output")
        return Path(output or ".") / last
    return Path(output)


def _save(pieces: Iterable[bytes], target: Path, *, force: bool) -> int:
    """Write all of it, or leave what was there; how many bytes."""
    if os.path.lexists(target) and not force:
        raise Failure(f"{target} is there already; --force overwrites it")
    partial = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.partial")
    size = 0
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(fd, "wb") as file:
            for piece in pieces:
                size += file.write(piece)
        if force:
            os.replace(partial, target)
        else:
            os.link(partial, target)  # fails if somebody was quicker
    except OSError as error:
        raise Failure(f"{target}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    return size


def _to_stdout(pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _opened(file: str) -> BinaryIO:
    if file == "-":
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    if Path(file).is_dir():
        raise Failure(f"{file} is a folder; send its files one by one, or as an archive")
    return open(file, "rb")


def _when(item: dict[str, Any]) -> str:
    return str(item["created_at"] or "-")[:19]


def _note(text: str) -> None:
    print(text, file=sys.stderr)


class _Progress:
    """How far it is, on a terminal; nothing where nobody looks."""

    def __init__(self, name: str, size: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = "".join(char for char in name if char.isprintable())[:60]
        self._size = size
        self._clock = clock
        self._done = 0
        self._shown_at = clock()
        self._visible = False
        self._wanted = is_terminal(sys.stderr)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._visible:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def counting(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._done += len(piece)
            if self._wanted and self._clock() - self._shown_at >= _SHOW_EVERY_S:
                self._show()
            yield piece

    def _show(self) -> None:
        self._shown_at = self._clock()
        self._visible = True
        of = f" of {size_text(self._size)}" if self._size else ""
        print(f"\r\x1b[K{self._name}: {size_text(self._done)}{of}", end="", file=sys.stderr, flush=True)
