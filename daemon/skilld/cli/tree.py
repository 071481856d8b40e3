"""The live supervision tree as text: lines drawn beside names, figures in columns. Pure; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from skilld.cli.output import one_line

__all__ = ["draw_reports", "draw_tree"]

_HEAD: Final = ("NAME", "KIND", "STATE", "RESTARTS", "QUEUE", "OLDEST", "MEMORY")
_NUMBERS: Final = 3  # columns from here on are figures, aligned to the right
_GAP: Final = "  "
_LEAST: Final = (16, 12)  # to which names, then kinds, are cut where the terminal is narrow
_WIDEST_KIND: Final = 32
_REPORTS: Final = 5
_CALM: Final = frozenset({"running"})
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_MODULE: Final = re.compile(r"^(\w+: )(?:\w+\.)+(?=\w)", re.ASCII)  # of the exception, behind the kind of exit

_BOLD: Final = "\x1b[1m"
_RED: Final = "\x1b[31m"
_YELLOW: Final = "\x1b[33m"
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"


class _Lines(NamedTuple):
    """What branches are drawn with; all of the same width."""

    branch: str
    last: str
    down: str
    nothing: str
    cut: str


_BOXES: Final = _Lines("├─ ", "└─ ", "│  ", "   ", "…")
_ASCII: Final = _Lines("|- ", "`- ", "|  ", "   ", "~")


class _Row(NamedTuple):
    """A line: a cell for each column, or one alone that stands across them."""

    cells: tuple[str, ...]
    style: str = ""


def draw_tree(tree: Mapping[str, Any], *, width: int | None, color: bool, unicode: bool) -> Iterator[str]:
    """The lines of a drawn tree.

    Args:
        tree: the `tree` of GET /v1/tree.
        width: columns of the terminal; names are cut to fit. None: nothing is cut.
        color: whether children that do not run, and supervisors, are marked by colours.
        unicode: whether box-drawing characters may be used; else ASCII.

    """
    lines = _BOXES if unicode else _ASCII
    rows = [_Row(_HEAD, _DIM), *_rows(tree, "", "", lines)]
    whole = [row.cells for row in rows if len(row.cells) == len(_HEAD)]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    if width is not None:
        for column, least in enumerate(_LEAST):
            too_wide = sum(widths) + len(_GAP) * (len(widths) - 1) - width
            widths[column] = min(widths[column], max(least, widths[column] - too_wide))
    for row in rows:
        line = _aligned(row.cells, widths, lines.cut) if len(row.cells) == len(_HEAD) else row.cells[0]
        yield _styled(line, row.style if color else "")


def draw_reports(reports: Sequence[Mapping[str, Any]], *, width: int | None, unicode: bool) -> Iterator[str]:
    """The latest reports, a line each, the latest last; cut to `width` if that is not None."""
    lines = _BOXES if unicode else _ASCII
    for report in reports[-_REPORTS:]:
        place = "/".join(part for part in (str(report["supervisor"]), str(report["child"])) if part)
        if str(report["child"]).startswith("root/"):
            place = str(report["child"])  # a supervisor that gave up is named by its path
        event = str(report["event"]).replace("_", " ")
        message = _MODULE.sub(r"\1", str(report["message"]))
        cells = (one_line(str(cell)) for cell in (report["time"], place, event, message))
        line = _GAP.join(cells).rstrip()
        yield line if width is None or len(line) <= width else f"{line[: width - 1]}{lines.cut}"


def _rows(node: Mapping[str, Any], before: str, below: str, lines: _Lines) -> Iterator[_Row]:
    """This node, drawn behind `before`, and what is under it, each line behind `below`."""
    yield _row(node, before)
    children: Sequence[Mapping[str, Any]] = node["children"]
    hidden = node["children_total"] - len(children)
    for number, child in enumerate(children, 1):
        last = number == len(children) and not hidden
        yield from _rows(
            child,
            below + (lines.last if last else lines.branch),
            below + (lines.nothing if last else lines.down),
            lines,
        )
    if hidden > 0:
        text = f"{hidden:,} more" if children else f"{hidden:,} not shown"
        yield _Row((below + lines.last + text,), _DIM)


def _row(node: Mapping[str, Any], before: str) -> _Row:
    phase = str(node["phase"])
    style = _BOLD if node["strategy"] is not None else ""
    if phase not in _CALM:
        style = _RED if phase in ("stopped", "dead") else _YELLOW
    return _Row(
        (
            before + one_line(str(node["id"])),
            _kind(node),
            phase,
            str(node["restarts"]),
            str(node["mailbox_depth"]),
            _age(node["oldest_message_s"]),
            "-" if node["memory_bytes"] is None else _size(node["memory_bytes"]),
        ),
        style,
    )


def _kind(node: Mapping[str, Any]) -> str:
    """What it does with its children, or its class; and how it is restarted, where that is not as usual."""
    kind = one_line(str(node["strategy"] or node["class"] or "-"), _WIDEST_KIND)
    if node["isolated"]:
        return f"{kind} (isolated)"
    return f"{kind} ({node['restart']})" if node["restart"] == "transient" else kind


def _age(seconds: float) -> str:
    if seconds <= 0:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _size(value: float) -> str:
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}"


def _aligned(cells: Iterable[str], widths: Sequence[int], cut: str) -> str:
    shown = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        if len(cell) > width:
            cell = cell[: width - 1] + cut
        shown.append(cell.rjust(width) if column >= _NUMBERS else cell.ljust(width))
    return _GAP.join(shown).rstrip()


def _styled(line: str, style: str) -> str:
    return f"{style}{line}{_PLAIN}" if style else line
