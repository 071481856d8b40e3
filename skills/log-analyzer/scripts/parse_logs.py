#!/usr/bin/env python3
"""Turn log lines into records: a format, a time, a level, a message. As a program: JSON lines on stdout."""

from __future__ import annotations

import sys

sys.dont_write_bytecode = True  # a skill's folder must not change because it was used

import argparse
import json
import signal
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from json_documents import unfolded
from line_formats import FORMATS, LEVELS, Line, parse_line
from log_files import MAX_BYTES, LogFile, LogFileError, count_argument, expand, printable


class Record(NamedTuple):
    """One record of a log: its first line parsed, and how many lines follow that belong to it."""

    number: int
    line: Line


def records(lines: Iterable[str], *, changed: datetime | None = None, only: str | None = None) -> Iterator[Record]:
    """The records in `lines`. Blank lines are skipped; indented lines belong to the record before them, in
    logs that have times.

    Args:
        lines: without line breaks.
        changed: when the log was last changed, to guess the year of times that have none; now if None.
        only: a name in FORMATS to force; lines that do not fit become records of format "unparsed".

    """
    newest = changed or datetime.now().astimezone()
    hint: str | None = None
    inside = False
    for number, text in enumerate(lines if only not in (None, "json") else unfolded(lines), 1):
        if not text.strip():
            continue
        if inside and text[0] in " \t":
            continue
        line = parse_line(text, newest=newest, hint=hint, only=only)
        inside = inside or line.time is not None
        hint = line.format
        yield Record(number, line)


def main() -> int:
    """Print the records of the named logs as JSON lines; returns the exit code."""
    options = _arguments()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    failures = done = 0
    for argument in options.paths:
        try:
            for name in expand(argument):
                with LogFile(name, options.max_bytes) as log:
                    _print_records(log, options)
                done += 1
        except LogFileError as error:
            failures += 1
            print(f"parse_logs: {printable(str(error))}", file=sys.stderr)
    return 0 if not failures else 1 if done else 3


def _print_records(log: LogFile, options: argparse.Namespace) -> None:
    lowest = LEVELS.index(options.min_level) if options.min_level else None
    changed = datetime.fromtimestamp(log.changed_s).astimezone() if log.changed_s else None
    for number, line in records(log, changed=changed, only=options.format):
        if lowest is not None and (line.level not in LEVELS or LEVELS.index(line.level) < lowest):
            continue
        row = {
            "file": log.name,
            "line": number,
            "format": line.format,
            "time": line.time.isoformat() if line.time else None,
            "level": line.level,
            "source": line.source,
            "message": line.message,
        }
        print(json.dumps(row))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Print the records of logs as JSON lines.",
        epilog="Exit codes: 0 everything read, 1 some input unreadable, 2 usage, 3 nothing could be read.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, .gz file, directory, or - for stdin")
    parser.add_argument("--format", choices=FORMATS, help="force a format instead of finding it for each line")
    parser.add_argument("--min-level", choices=LEVELS, help="leave out records below this level, and those without one")
    parser.add_argument(
        "--max-bytes", type=count_argument, default=MAX_BYTES, help="read at most N bytes a file (%(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
