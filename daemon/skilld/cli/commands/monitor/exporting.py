"""skillctl monitor export: reported events as other programs read them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.monitor.event_options import MAX_PAGE, event_filters
from skilld.cli.commands.options import pass_app
from skilld.cli.failure import Failure
from skilld.cli.output import inert_json, is_terminal

__all__ = ["export_command"]

Page = Sequence[Mapping[str, Any]]


def _as_skilld(events: Page) -> bytes:
    from skilld.monitor.sinks.canonical import one_line

    return b"".join(map(one_line, events))


def _as_b(events: Page) -> bytes:
    from skilld.monitor.sinks.canonical import compact
    from skilld.monitor.sinks.envelope import envelopes

    return b"".join(compact(envelope) + b"\n" for event in events for envelope in envelopes(event))


def _as_otlp(events: Page) -> bytes:
    from skilld.monitor.otlp.writing import as_requests, in_json

    return b"".join(in_json(request) + b"\n" for request in as_requests(events).values())


_FORMATS: Final[Mapping[str, Callable[[Page], bytes]]] = {"skilld": _as_skilld, "B": _as_b, "otlp": _as_otlp}


@click.command("export")
@event_filters
@click.option("--since", metavar="TIME", help="Only those from this time on, such as 2026-01-15T09:30:00Z.")
@click.option("--until", metavar="TIME", help="Only those before this time.")
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(_FORMATS)),
    default="skilld",
    show_default=True,
    help="Lines of ours, of generation B of Cylestio Monitor, or requests of OTLP as a collector's file has them.",
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="A new file; else the output.")
@pass_app
def export_command(app: App, /, form: str, output: Path | None, **filters: Any) -> None:
    """Write all events that were reported, the oldest first, as lines of JSON.

    \b
    Examples:
      skillctl monitor export --agent shop -o shop.jsonl
      skillctl monitor export --format otlp --since 2026-01-15 | gzip > spans.jsonl.gz
    """
    write = _FORMATS[form]
    shown = output is None and is_terminal(sys.stdout)
    with _opened(output) as file, app.client() as client:
        after = 0
        while page := client.monitor_events(after=after, limit=MAX_PAGE, **filters):
            raw = write(page)
            file.write(inert_json(raw.decode("utf-8", "replace")).encode() if shown else raw)
            after = page[-1]["id"]


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """Where it goes. A file that is there is left alone; a new one is its owner's alone."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(f"{output}: {error.strerror}") from error
    with os.fdopen(fd, "wb") as file:
        yield file
