"""What reaches the user's screen: safe for a terminal, untouched for a pipe.

What models and tools write may hold escape sequences that would move the cursor, rewrite what was shown or talk to
the terminal. On a terminal every control character but newline and tab is dropped, and line ends are newlines.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

__all__ = [
    "Console",
    "clean",
    "columns_of",
    "counted",
    "flatten",
    "inert_json",
    "is_terminal",
    "one_line",
    "prepare_streams",
    "print_json",
    "print_table",
    "size_text",
    "wants_style",
]

# The latter turn the direction of what stands around them, and end lines.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNSEEN: Final = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_WIDEST_LINE: Final = 200
_USUAL_COLUMNS: Final = 80


def prepare_streams() -> None:
    """Let text that the locale cannot show appear as '?' instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def clean(text: str) -> str:
    """The text without control characters other than newline and tab, and without overrides of its direction."""
    return _CONTROL.sub("", text)


def one_line(text: str, width: int | None = None) -> str:
    """The text on one line, control characters dropped, cut to `width` characters."""
    line = clean(" ".join(text.split()))
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


class Console:
    """Answers on stdout, everything about them on stderr (or, for a transcript, on stdout as well).

    Args:
        notes_on_stdout: write notes to stdout too.

    """

    def __init__(self, *, notes_on_stdout: bool = False) -> None:
        self._notes: TextIO = sys.stdout if notes_on_stdout else sys.stderr
        self._safe = is_terminal(sys.stdout)
        self._dim = wants_style(self._notes)
        self._in_line = False

    def answer(self, text: str) -> None:
        """Write a piece of an answer to stdout at once."""
        shown = clean(text) if self._safe else text
        if shown:
            self._in_line = not shown.endswith("\n")  # first: Ctrl-C may come while it is being written
            sys.stdout.write(shown)
            sys.stdout.flush()

    def end_line(self) -> None:
        """End the line that the answer is in the middle of, if it is."""
        if self._in_line:
            self._in_line = False
            sys.stdout.write("\n")
            sys.stdout.flush()

    def note(self, text: str) -> None:
        """Write one line beside the answer, dim on a terminal."""
        self.end_line()
        line = one_line(text, _WIDEST_LINE)
        print(f"\x1b[2m{line}\x1b[0m" if self._dim else line, file=self._notes, flush=True)

    def warn(self, text: str) -> None:
        """Write one whole line beside the answer, never dim and never cut."""
        self.end_line()
        print(one_line(text), file=self._notes, flush=True)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads it."""
    return stream.isatty()


def columns_of(stream: TextIO) -> int | None:
    """How many characters a line of the terminal has; None if it is none."""
    if not is_terminal(stream):
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return _USUAL_COLUMNS


def wants_style(stream: TextIO) -> bool:
    """https://no-color.org: any value but the empty one turns styles off."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_json(value: object) -> None:
    """Write one JSON document to stdout: indented and inert on a terminal, one line elsewhere. It means the same."""
    terminal = is_terminal(sys.stdout)
    text = json.dumps(value, ensure_ascii=False, indent=2 if terminal else None)
    print(inert_json(text) if terminal else text, flush=True)


def inert_json(text: str) -> str:
    """The same JSON; what a terminal would obey or not show is escaped."""
    return _UNSEEN.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested JSON as dotted names with their values; lists of plain values on one line."""
    for name, item in value.items():
        key = f"{prefix}{name}"
        if isinstance(item, Mapping) and item:
            yield from flatten(item, f"{key}.")
        elif isinstance(item, list) and any(isinstance(part, dict | list) for part in item):
            yield key, str(len(item))
        elif isinstance(item, list):
            yield key, ", ".join(str(part) for part in item) or "none"
        else:
            yield key, _plain(item)


def _plain(value: object) -> str:
    if value is None or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def size_text(count: int | None) -> str:
    """A number of bytes for people: 999 B, 12.3 MiB; a dash where it is not known."""
    if count is None or count < 1024:
        return "-" if count is None else f"{count} B"
    value, unit = count / 1024, "KiB"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.1f} {unit}"


def counted(count: int, noun: str) -> str:
    """So many of them, such as `1 event` or `2 events`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table: drawn for a terminal, plain columns without a heading line's frills elsewhere."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        _print_rich(columns, shown)
        return
    widths = [max(map(len, column)) for column in zip(columns, *shown, strict=True)]
    for row in ([name.upper() for name in columns], *shown):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sys.stdout.flush()


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name.upper(), no_wrap=number == 0, overflow="ellipsis" if number == 0 else "fold")
    for row in rows:
        table.add_row(*map(Text, row))
    RichConsole(highlight=False).print(table)
