#!/usr/bin/env python3
"""Analyze logs: counts per level, error and warning rates, frequent messages, time span, health."""

from __future__ import annotations

import sys

sys.dont_write_bytecode = True  # a skill's folder must not change because it was used

import argparse
import json
import re
import signal
from collections import Counter
from datetime import datetime
from functools import lru_cache
from typing import Any

from line_formats import FORMATS, LEVELS, UNKNOWN, UNPARSED, Line
from log_files import MAX_BYTES, LogFile, LogFileError, count_argument, expand, printable
from parse_logs import records

MAX_PATTERNS = 20_000
MAX_PATTERN_CHARS = 160
PROBLEMS = ("critical", "error", "warning")

# What varies always holds a digit, so words without one are passed over before anything else is tried.
WITH_DIGIT = re.compile(r"\b\w*\d[\w.:-]*")
NUMBER = re.compile(r"\d+")
KINDS = {
    "<uuid>": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE),
    "<ip>": re.compile(r"(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?"),
    "<hex>": re.compile(r"0x[0-9a-f]+|(?=.*[a-f])[0-9a-f]{8,}", re.IGNORECASE),
}


def _placeholder(match: re.Match[str]) -> str:
    word = match[0]
    core = word.rstrip(".:-")
    if not core.isdigit():
        for name, kind in KINDS.items():
            if kind.fullmatch(core):
                return name + word[len(core) :]
    return NUMBER.sub("<n>", word)


@lru_cache(maxsize=4096)
def pattern(message: str) -> str:
    """The message with what varies between repetitions replaced: numbers, addresses, identifiers."""
    text = WITH_DIGIT.sub(_placeholder, message[: MAX_PATTERN_CHARS * 4])
    text = " ".join(printable(text).split())
    return text if len(text) <= MAX_PATTERN_CHARS else text[: MAX_PATTERN_CHARS - 1] + "…"


def health(total: int, errors: int, warnings: int) -> str:
    """The verdict over `total` records, of which so many are errors (or worse) and warnings."""
    if not total:
        return "NO DATA"
    if errors / total > 0.10:
        return "CRITICAL"
    if errors / total > 0.05:
        return "WARNING"
    return "ATTENTION" if warnings / total > 0.20 else "OK"


class Summary:
    """Running totals over records. Memory stays bounded however many different messages there are."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self.total = 0
        self.levels: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.patterns: Counter[tuple[str, str]] = Counter()
        self.patterns_dropped = False
        self.first: datetime | None = None
        self.last: datetime | None = None

    def add(self, line: Line) -> None:
        """Count one record."""
        self.total += 1
        self.levels[line.level] += 1
        self.formats[line.format] += 1
        self.patterns[line.level, pattern(line.message)] += 1
        if len(self.patterns) > MAX_PATTERNS:
            self.patterns = Counter(dict(self.patterns.most_common(MAX_PATTERNS // 2)))
            self.patterns_dropped = True
        if line.time is not None:
            self._extend(line.time, line.time)

    def merge(self, other: Summary) -> None:
        """Add another summary's totals to these."""
        self.total += other.total
        self.levels.update(other.levels)
        self.formats.update(other.formats)
        self.patterns.update(other.patterns)
        if len(self.patterns) > MAX_PATTERNS:
            self.patterns = Counter(dict(self.patterns.most_common(MAX_PATTERNS // 2)))
            self.patterns_dropped = True
        self.patterns_dropped |= other.patterns_dropped
        if other.first and other.last:
            self._extend(other.first, other.last)

    def _extend(self, first: datetime, last: datetime) -> None:
        self.first = first if self.first is None or first < self.first else self.first
        self.last = last if self.last is None or last > self.last else self.last

    @property
    def errors(self) -> int:
        """Records of level error or critical."""
        return self.levels["error"] + self.levels["critical"]

    @property
    def health(self) -> str:
        """The verdict over everything counted."""
        return health(self.total, self.errors, self.levels["warning"])

    @property
    def format(self) -> str:
        """The format that most records have, with the others' share where there are others."""
        if not self.formats:
            return "none"
        (name, count), *others = self.formats.most_common()
        rest = ", ".join(f"{other} {n}" for other, n in others)
        return f"{name} (mixed: {name} {count}, {rest})" if others else name

    def rate(self, count: int) -> float:
        """`count` as a share of all records, 0 to 1."""
        return count / self.total if self.total else 0.0

    def top(self, limit: int, levels: tuple[str, ...] | None = None) -> list[tuple[str, str, int]]:
        """The most frequent patterns as (level, pattern, count), of the given levels or of all; ties by text."""
        rows = [(lv, text, n) for (lv, text), n in self.patterns.items() if levels is None or lv in levels]
        return sorted(rows, key=lambda row: (-row[2], row[1]))[:limit]

    def as_json(self, limit: int) -> dict[str, Any]:
        """Everything as JSON values."""
        span_s = (self.last - self.first).total_seconds() if self.first and self.last else None
        return {
            "health": self.health,
            "records": self.total,
            "format": self.formats.most_common(1)[0][0] if self.formats else None,
            "formats": dict(self.formats),
            "unparsed": self.formats[UNPARSED],
            "levels": {level: self.levels[level] for level in (*reversed(LEVELS), UNKNOWN)},
            "error_rate": round(self.rate(self.errors), 6),
            "warning_rate": round(self.rate(self.levels["warning"]), 6),
            "first": self.first.isoformat() if self.first else None,
            "last": self.last.isoformat() if self.last else None,
            "span_s": span_s,
            "top_problems": [_row(row) for row in self.top(limit, PROBLEMS)],
            "top_messages": [_row(row) for row in self.top(limit)],
            "top_is_approximate": self.patterns_dropped,
        }


class Input:
    """One log that was read: its summary, and what is to be said about how it was read."""

    def __init__(self, name: str) -> None:
        """Nothing is read yet."""
        self.name = name
        self.summary = Summary()
        self.notes: list[str] = []
        self.error: str | None = None

    def read(self, options: argparse.Namespace) -> None:
        """Read the log to its end; what goes wrong is kept in `error`, with the totals up to there."""
        try:
            with LogFile(self.name, options.max_bytes) as log:
                changed = datetime.fromtimestamp(log.changed_s).astimezone() if log.changed_s else None
                for _, line in records(log, changed=changed, only=options.format):
                    self.summary.add(line)
                if log.cut_bytes:
                    self.notes.append(f"longer than {options.max_bytes:,} bytes: only a part was read (--max-bytes)")
                if log.cut_lines:
                    self.notes.append(f"{log.cut_lines} over-long lines were cut")
        except LogFileError as error:
            self.error = printable(str(error))


def main() -> int:
    """Analyze what the command line names; returns the exit code."""
    options = _arguments()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    inputs = [item for path in options.paths for item in _read(path, options)]
    for item in inputs:
        for note in ([item.error] if item.error else []) + [f"{printable(item.name)}: {note}" for note in item.notes]:
            print(f"analyze: {note}", file=sys.stderr)
    read = [item for item in inputs if item.error is None or item.summary.total]
    if not read:
        return 3
    total = Summary()
    for item in read:
        total.merge(item.summary)
    if options.json:
        print(json.dumps(_report(inputs, total, options.top), indent=2))
    else:
        print("\n".join(_text(read, total, options.top)))
    return 1 if any(item.error for item in inputs) else 0


def _read(path: str, options: argparse.Namespace) -> list[Input]:
    try:
        items = [Input(name) for name in expand(path)]
    except LogFileError as error:
        items = [Input(path)]
        items[0].error = printable(str(error))
        return items
    for item in items:
        item.read(options)
    return items


def _row(row: tuple[str, str, int]) -> dict[str, Any]:
    level, text, count = row
    return {"level": level, "count": count, "message": text}


def _report(inputs: list[Input], total: Summary, limit: int) -> dict[str, Any]:
    files = [
        {
            "path": item.name,
            "records": item.summary.total,
            "health": item.summary.health,
            "error": item.error,
            "notes": item.notes,
        }
        for item in inputs
    ]
    return {**total.as_json(limit), "files": files}


def _text(read: list[Input], total: Summary, limit: int) -> list[str]:
    levels = ", ".join(f"{level} {total.levels[level]:,}" for level in (*reversed(LEVELS), UNKNOWN))
    names = printable(read[0].name) if len(read) == 1 else f"{len(read)} files"
    lines = [
        f"Log analysis of {names}",
        f"  health        {total.health}",
        f"  format        {total.format}",
        f"  records       {total.total:,}",
        f"  levels        {levels}",
        f"  error rate    {total.rate(total.errors):.2%}",
        f"  warning rate  {total.rate(total.levels['warning']):.2%}",
        f"  time span     {_span(total)}",
    ]
    if len(read) > 1:
        lines += ["", "Files", *(_file_line(item) for item in read)]
    if problems := total.top(limit, PROBLEMS):
        lines += ["", "Top errors and warnings", *(f"  {n:>8,}  {level:<8}  {text}" for level, text, n in problems)]
    if messages := total.top(limit):
        lines += ["", "Top messages", *(f"  {n:>8,}  {level:<8}  {text}" for level, text, n in messages)]
    if total.patterns_dropped:
        lines += ["", "Very many different messages: the counts of the top messages are lower bounds."]
    return lines


def _file_line(item: Input) -> str:
    summary = item.summary
    rates = f"errors {summary.rate(summary.errors):.1%}, warnings {summary.rate(summary.levels['warning']):.1%}"
    return f"  {summary.health:<9}  {summary.total:>10,}  {rates}  {printable(item.name)}"


def _span(summary: Summary) -> str:
    if not summary.first or not summary.last:
        return "no times found"
    first, last = (time.isoformat(timespec="seconds") for time in (summary.first, summary.last))
    return f"{first} to {last} ({_duration((summary.last - summary.first).total_seconds())})"


def _duration(seconds: float) -> str:
    for unit, size_s in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Count levels and messages in logs and judge their health.",
        epilog="Health: error rate over 10%% CRITICAL, over 5%% WARNING, warning rate over 20%% ATTENTION, else OK. "
        "Exit codes: 0 everything read, 1 some input unreadable or damaged, 2 usage, 3 nothing could be read.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, .gz file, directory, or - for stdin")
    parser.add_argument("--format", choices=FORMATS, help="force a format instead of finding it for each line")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument(
        "--top", type=count_argument, default=5, metavar="N", help="how many messages to list (%(default)s)"
    )
    parser.add_argument(
        "--max-bytes",
        type=count_argument,
        default=MAX_BYTES,
        metavar="N",
        help="read at most N bytes a file (%(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
