#!/usr/bin/env python3
"""Find logs and print or copy their last lines; the system journal too, where journalctl is present."""

from __future__ import annotations

import sys

sys.dont_write_bytecode = True  # a skill's folder must not change because it was used

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from line_formats import ISO_TIME, iso_time, parse_line
from log_files import LogFile, LogFileError, count_argument, expand, known_logs, printable

JOURNAL_TIMEOUT_S = 60
AGO = re.compile(r"(\d{1,6})([smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_since(text: str) -> datetime:
    """The moment that `2h`, `30m`, `1d`, `2026-11-21` or `2026-11-21 02:13:00` stands for.

    Raises:
        argparse.ArgumentTypeError: it is none of these.

    """
    now = datetime.now().astimezone()
    if match := AGO.fullmatch(text):
        with contextlib.suppress(OverflowError):  # before the year 1: refused below
            return now - timedelta(**{UNITS[match[2]]: int(match[1])})
    moment = text if len(text) > 10 else f"{text} 00:00:00"
    if ISO_TIME.fullmatch(moment) and (time := iso_time(moment)) is not None:
        return time
    raise argparse.ArgumentTypeError(f"{text!r} is neither an age (2h, 1d) nor a date (2026-11-21T02:13:00)")


def lines_since(lines: Iterable[str], since: datetime, newest: datetime) -> Iterator[str]:
    """The lines from `since` on. A line without a time belongs to the line before it."""
    wanted = False
    hint: str | None = None
    for text in lines:
        line = parse_line(text, newest=newest, hint=hint)
        hint = line.format
        if line.time is not None:
            wanted = line.time >= since
        if wanted:
            yield text


def tail(name: str, *, lines: int, since: datetime | None) -> list[str]:
    """The last lines of one log, at most `lines` of them.

    Raises:
        LogFileError: it cannot be read.

    """
    with LogFile(name) as log:
        newest = datetime.fromtimestamp(log.changed_s).astimezone() if log.changed_s else datetime.now().astimezone()
        wanted = lines_since(log, since, newest) if since else iter(log)
        return list(deque(wanted, maxlen=lines))


def journal(*, lines: int, since: datetime | None, unit: str | None) -> list[str]:
    """The last lines of the system journal.

    Raises:
        LogFileError: there is no journalctl, or it failed.

    """
    program = shutil.which("journalctl")
    if program is None:
        raise LogFileError("journalctl: not present on this machine; name log files instead")
    command = [program, "--no-pager", "--quiet", "--output=short-iso", f"--lines={lines}"]
    command += [f"--since=@{int(since.timestamp())}"] if since else []
    command += [f"--unit={unit}"] if unit else []
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=JOURNAL_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise LogFileError(f"journalctl: no answer within {JOURNAL_TIMEOUT_S} s") from error
    if done.returncode:
        raise LogFileError(f"journalctl: {done.stderr.decode('utf-8', 'replace').strip() or done.returncode}")
    return done.stdout.decode("utf-8", "replace").splitlines()


def main() -> int:
    """Fetch what the command line names; returns the exit code."""
    options = _arguments()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    paths = options.paths or ([] if options.journal else known_logs())
    if not paths and not options.journal:
        print("fetch_logs: no readable logs in /var/log; name some, or use --journal", file=sys.stderr)
        return 3
    done, failures = 0, 0
    for name in _names(paths):
        try:
            if isinstance(name, LogFileError):
                raise name
            _fetch(name, options)
            done += 1
        except (LogFileError, OSError) as error:
            failures += 1
            print(f"fetch_logs: {printable(str(error))}", file=sys.stderr)
    if options.journal:
        try:
            _give("journal", journal(lines=options.lines, since=options.since, unit=options.unit), options)
            done += 1
        except LogFileError as error:
            failures += 1
            print(f"fetch_logs: {printable(str(error))}", file=sys.stderr)
    return 0 if not failures else 1 if done else 3


def _names(paths: list[str]) -> Iterator[str | LogFileError]:
    for path in paths:
        try:
            yield from expand(path)
        except LogFileError as error:
            yield error


def _fetch(name: str, options: argparse.Namespace) -> None:
    if options.list:
        status = os.stat(name)
        changed = datetime.fromtimestamp(status.st_mtime).astimezone().isoformat(timespec="seconds")
        if options.since is None or status.st_mtime >= options.since.timestamp():
            print(f"{status.st_size:>12}  {changed}  {printable(name)}")
        return
    _give(name, tail(name, lines=options.lines, since=options.since), options)


def _give(name: str, lines: list[str], options: argparse.Namespace) -> None:
    if options.out is None:
        for line in lines:
            print(line)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / (name.strip("/").removesuffix(".gz").replace("/", "_").lstrip(".-") or "stdin")
    # "x": what is already there is somebody's, and is never overwritten.
    with target.open("x", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(f"{line}\n" for line in lines)
    print(target)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Print or copy the last lines of logs. Without PATH: the readable logs in /var/log.",
        epilog="Exit codes: 0 everything fetched, 1 some input unreadable, 2 usage, 3 nothing could be fetched.",
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="file, .gz file, directory, or - for stdin")
    parser.add_argument("--list", action="store_true", help="only list the logs: size in bytes, last change, path")
    parser.add_argument(
        "--lines", type=count_argument, default=1000, metavar="N", help="last N lines of each (%(default)s)"
    )
    parser.add_argument("--since", type=parse_since, metavar="WHEN", help="only from then on: 30m, 2h, 1d or a date")
    parser.add_argument("--out", type=Path, metavar="DIR", help="copy to files in DIR and print their paths")
    parser.add_argument("--journal", action="store_true", help="the system journal, through journalctl")
    parser.add_argument("--unit", metavar="UNIT", help="only this systemd unit's part of the journal")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
