"""An approval as a person reads it before deciding: all that the call would run with, every character inert. Pure."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from skilld.cli.inert import inert, inert_lines, pieces, suspects

__all__ = ["BAR", "GOES_ON", "Card", "card_of", "decided_line", "duration_text", "headline"]

BAR: Final = "| "  # before a line of a text
GOES_ON: Final = ": "  # before what the terminal has no room for in one line
_MAX_LINES: Final = 40
_MAX_LINE_CHARS: Final = 1_000
_MAX_FILES: Final = 20
_MAX_NAMES: Final = 40
_MAX_NAMED: Final = 6  # characters
_LEAST_COLUMNS: Final = 4
_LABEL: Final = 12
_NARROW: Final = 50  # columns; below, what a label says stands under it


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is printed.

    Args:
        whole: whether it holds everything; else it says what was left out.

    """

    lines: Sequence[str]
    whole: bool


def card_of(view: Mapping[str, Any], now: datetime, *, complete: bool = False, columns: int | None = None) -> Card:
    """The card of an approval, as the daemon gives it.

    Args:
        complete: without bounds, for a pager or a file.
        columns: of the terminal, which would break longer lines so that their rest could pass for another row; None:
            there is none.

    """
    table = _Table(complete=complete, columns=columns)
    table.title(headline(view))
    for name, value in _input_of(view):
        table.block(name, value)
        for note in _notes(value):
            table.row("!", note)
    if view.get("cwd"):
        table.row("folder", str(view["cwd"]))
    table.listed("variables", [inert(str(name)) for name in view.get("environment") or ()], _MAX_NAMES)
    table.column("files", [_file(file) for file in view.get("files") or ()], _MAX_FILES)
    if view.get("skill"):
        skill = view["skill"]
        table.row("skill", f"{skill.get('name')} {str(skill.get('digest'))[:16]}")
    table.row("why", _why(view))
    table.row("session", f"{view.get('session')} {view.get('turn')}")
    table.row("state", _state(view, now))
    return Card(lines=table.lines, whole=table.whole)


def headline(view: Mapping[str, Any]) -> str:
    """Which approval it is, of which tool, where."""
    place, backend = str(view.get("place", "")), str(view.get("backend", ""))
    where = f"{place} ({backend})" if backend and backend != place else place
    return inert(f"{view.get('id')}  {view.get('tool')} in {where}")


def decided_line(view: Mapping[str, Any]) -> str:
    """What became of it, on one line."""
    return inert(f"{view.get('id')} {_outcome(view)}: {view.get('shown', '')}")


def duration_text(seconds: float) -> str:
    """12 s, 34 min, 5 h, 6 days."""
    if seconds < 100:
        return f"{max(0, round(seconds))} s"
    if seconds < 6000:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h" if seconds < 360_000 else f"{round(seconds / 86_400)} days"


class _Table:
    """Lines of a label and what it says. What a row says never begins where labels do."""

    def __init__(self, *, complete: bool, columns: int | None) -> None:
        self.lines: list[str] = []
        self.whole = True
        self._complete = complete
        self._columns = columns
        self._narrow = columns is not None and columns < _NARROW

    def title(self, line: str) -> None:
        self.lines += self._pieces(line, 0)

    def row(self, label: str, value: str) -> None:
        self._say(label, [inert(value)])

    def block(self, label: str, text: str) -> None:
        """Line by line behind a bar, so that none of them can pass for another row."""
        shown = [self._line(line) for line in self._some(inert_lines(text), _MAX_LINES, "lines")]
        self._say(inert(label), shown, BAR, GOES_ON)

    def listed(self, label: str, values: Sequence[str], most: int) -> None:
        if values:
            self._say(label, [", ".join(self._some(values, most, "names"))])

    def column(self, label: str, values: Sequence[str], most: int) -> None:
        if values:
            self._say(label, self._some(values, most, "files"))

    def _say(self, label: str, lines: Sequence[str], bar: str = "", goes_on: str = "  ") -> None:
        """What goes on behind the end of the terminal's line is told from what begins a line of its own."""
        indent = "    " if self._narrow else " " * (_LABEL + 2)
        told = []
        for line in lines:
            first, *rest = self._pieces(line, len(indent) + len(goes_on))
            told += [f"{indent}{bar}{first}", *(f"{indent}{goes_on}{piece}" for piece in rest)]
        if self._narrow or len(label) > _LABEL:
            self.lines += self._pieces(f"  {label}", 0)
        else:
            told[0] = f"  {label:{_LABEL}}{told[0][len(indent) :]}"
        self.lines += told

    def _pieces(self, line: str, taken: int) -> Sequence[str]:
        return [line] if self._columns is None else pieces(line, max(self._columns - taken, _LEAST_COLUMNS))

    def _line(self, line: str) -> str:
        if self._complete or len(line) <= _MAX_LINE_CHARS:
            return line
        self.whole = False
        half = _MAX_LINE_CHARS // 2
        return f"{line[:half]} [{len(line) - 2 * half} CHARACTERS NOT SHOWN] {line[-half:]}"

    def _some(self, values: Sequence[str], most: int, what: str) -> Sequence[str]:
        if self._complete or len(values) <= most:
            return values
        self.whole = False
        half = most // 2
        return [*values[:half], f"[{len(values) - 2 * half} {what.upper()} NOT SHOWN]", *values[-half:]]


def _input_of(view: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the call does: the command, else every part of its input. What describes it is the model's word."""
    given = view.get("input")
    given = dict(given) if isinstance(given, Mapping) else {}
    command = view.get("command")
    if command is not None:
        given.pop("command", None)
        yield ("command" if view.get("argv") is None else "program"), str(command)
    description = given.pop("description", None)
    for name, value in given.items():
        yield str(name), value if isinstance(value, str) else json.dumps(value)
    if description:
        yield "it says", str(description)


def _notes(text: str) -> Iterator[str]:
    """What a reader would not see in the text."""
    hidden, foreign = suspects(text)
    if hidden:
        yield f"written as escapes above: {_some_of([_named(char) for char in reversed(hidden)])}"
    if foreign:
        yield f"not ASCII above: {_some_of([f'{char} is {_named(char)}' for char in foreign])}"


def _some_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _named(char: str) -> str:
    return f"U+{ord(char):04X} {unicodedata.name(char, '')}".rstrip()


def _file(file: Mapping[str, Any]) -> str:
    hashed = f"sha256 {str(file['sha256'])[:16]}" if file.get("sha256") else "no hash"
    note = f" ({file['note']})" if file.get("note") else ""
    return inert(f"{file.get('path')}  {hashed}{note}")


def _why(view: Mapping[str, Any]) -> str:
    reason, rule = str(view.get("reason") or ""), str(view.get("rule") or "")
    return reason if rule in reason and reason else " · ".join(filter(None, (reason, rule))) or "the policy asks"


def _state(view: Mapping[str, Any], now: datetime) -> str:
    if view.get("status") != "pending":
        return _outcome(view)
    since, until = _time(view.get("created")), _time(view.get("expires"))
    told = "waits" if since is None else f"waits for {duration_text((now - since).total_seconds())}"
    if until is None:
        return told
    left = until - now
    return f"{told}, {duration_text(left.total_seconds())} left" if left > timedelta() else f"{told}, its time is over"


def _outcome(view: Mapping[str, Any]) -> str:
    decision = view.get("decision") or {}
    told = str(view.get("status"))
    if decision.get("decision") == "edit":
        told += ", edited,"
    if decision.get("scope") == "session":
        told += " for the session"
    if decision.get("by_uid") is not None:
        told += f" by uid {decision['by_uid']}"
    return f"{told} ({decision['reason']})" if decision.get("reason") else told


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
