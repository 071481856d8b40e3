"""The file tools: view, create_file and str_replace. Everything here blocks: call it in a worker thread.

Refusals are `PathRefused`, in words for the model. Files are bytes: what is written is exactly what was given, and
what is shown has U+FFFD where it is not UTF-8.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from . import tools
from .bundles import new_part
from .paths import Located, PathRefused, locate, opened, opened_parent, readable_file

__all__ = ["Written", "create_file", "str_replace", "view"]

_SNIFF_BYTES: Final = 8_192
_ROW_BYTES: Final = 16  # of a binary file
_ROW_CHARS: Final = 60
_FIRST_ROWS: Final = 16
_SCAN_BYTES: Final = 256 << 20  # of a file, to count its lines
_EDIT_BYTES: Final = 16 << 20
_MAX_ENTRIES: Final = 1_000  # of a listing
_MAX_READ_ENTRIES: Final = 20_000  # of one folder, to sort them
_MAX_PLACES: Final = 10
_MAX_COUNT: Final = 1_000  # of occurrences: to count millions takes many seconds, and helps nobody
_NOTE_CHARS: Final = 200  # kept free for a note


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was done, and to which file (relative to the workspace)."""

    message: str
    path: str


def view(request: tools.View, *, workspace: str, readable: Sequence[Path], max_chars: int) -> str:
    """Show a file with its line numbers, or a folder two levels deep; at most `max_chars`. Raises PathRefused."""
    where = locate(request.path, workspace=workspace, readable=readable)
    with opened(where) as fd:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            if request.first is not None:
                raise PathRefused(f"{where.shown} is a folder; view_range is for files")
            return _within(_listing(fd, where), max_chars)
        with open(readable_file(fd, where), "rb") as file, _explained(where):
            return _text_or_binary(file, request, max_chars)


def create_file(request: tools.CreateFile, *, workspace: str) -> Written:
    """Write the file whole or not at all, making missing folders. Raises PathRefused."""
    where = locate(request.path, workspace=workspace)
    data = request.file_text.encode()
    with opened_parent(where, make=True) as (folder, name):
        old = _regular(folder, name, where)
        with _explained(where):
            _replace(folder, name, data, old)
    was = "created" if old is None else f"overwritten (it had {old.st_size} bytes)"
    return Written(message=f"{where.shown}: {was}, {len(data)} bytes", path="/".join(where.parts))


def str_replace(request: tools.StrReplace, *, workspace: str) -> Written:
    """Replace the only occurrence of a text in a file. Raises PathRefused if there is none, or more than one."""
    where = locate(request.path, workspace=workspace)
    with opened_parent(where, make=False) as (folder, name):
        old = _regular(folder, name, where)
        data = _whole(where)
        target = request.old_str.encode()
        place = _only_place(data, target, where)
        with _explained(where):
            _replace(folder, name, data[:place] + request.new_str.encode() + data[place + len(target) :], old)
    return Written(
        message=f"{where.shown}: replaced the text at line {_line_of(data, place)}", path="/".join(where.parts)
    )


# Showing


def _text_or_binary(file: BinaryIO, request: tools.View, max_chars: int) -> str:
    start = file.read(_SNIFF_BYTES)
    if b"\0" in start:
        return _hex(file, request, os.fstat(file.fileno()).st_size, max_chars)
    file.seek(0)
    first, last = request.first or 1, request.last
    lines = _lines(file, first, last, max_bytes=max_chars * 4)
    if not lines.total and first == 1:
        return "(the file is empty)"
    if first > lines.total:
        raise PathRefused(f"{request.path} has {lines.total} lines; view_range begins at line {first}")
    return _numbered(lines, last, max_chars)


@dataclass(frozen=True, slots=True)
class _Lines:
    kept: dict[int, bytearray]
    total: int
    counted_all: bool


def _lines(file: BinaryIO, first: int, last: int | None, *, max_bytes: int) -> _Lines:
    """Lines first..last, as many as fit, and how many lines there are."""
    kept: dict[int, bytearray] = {}
    number, scanned, inside = 1, 0, False
    for piece in iter(partial(file.readline, 65_536), b""):
        if first <= number and (last is None or number <= last) and max_bytes > 0:
            kept.setdefault(number, bytearray()).extend(piece[:max_bytes])
            max_bytes -= len(piece)
        inside = not piece.endswith(b"\n")
        number += not inside
        scanned += len(piece)
        if scanned >= _SCAN_BYTES:
            return _Lines(kept, number, False)
    return _Lines(kept, number if inside else number - 1, True)


def _numbered(lines: _Lines, last: int | None, max_chars: int) -> str:
    wanted_last = lines.total if last is None else min(last, lines.total)
    room = max(1, max_chars - _NOTE_CHARS)
    shown: list[str] = []
    first = next(iter(lines.kept))
    cut = ""
    for number, raw in lines.kept.items():
        text = f"{number:6d}\t{raw.decode(errors='replace').removesuffix(chr(10))}\n"
        if len(text) > room:
            if not shown:  # a part of a line is better than nothing
                cut = f"; line {number} is cut, and bash_tool shows more of it, with cut -c"
                shown.append(text[:room].removesuffix("\n") + "\n")
            break
        shown.append(text)
        room -= len(text)
    final = first + len(shown) - 1
    text = "".join(shown)
    if final == wanted_last and not cut and lines.counted_all:
        return text
    total = f"{lines.total}" if lines.counted_all else f"more than {lines.total}"
    return (text + f"[lines {first}-{final} of {total} shown{cut}; view_range shows others]")[:max_chars]


def _hex(file: BinaryIO, request: tools.View, size: int, max_chars: int) -> str:
    """Rows of sixteen bytes, counted from 1 as lines are: those asked for, as many as fit, else the first few."""
    total = -(-size // _ROW_BYTES)
    first = request.first or 1
    if first > total:
        raise PathRefused(f"{request.path} has {total} rows of {_ROW_BYTES} bytes; view_range begins at row {first}")
    last = _FIRST_ROWS if request.first is None else request.last or total
    fitting = max(1, (max_chars - _NOTE_CHARS) // _ROW_CHARS)
    last = min(last, total, first + fitting - 1)
    start = (first - 1) * _ROW_BYTES
    file.seek(start)
    data = file.read((last - first + 1) * _ROW_BYTES)
    rows = [
        f"{start + offset:08x}  {data[offset : offset + _ROW_BYTES].hex(' ')}"
        for offset in range(0, len(data), _ROW_BYTES)
    ]
    head = f"binary file, {size} bytes; " + ("it begins with" if first == 1 else f"rows from {first} on")
    if not (first == 1 and last == total):
        rows.append(f"[rows {first}-{last} of {total} shown, each of {_ROW_BYTES} bytes; view_range shows others]")
    return "\n".join((head, *rows))[:max_chars]


def _listing(fd: int, where: Located) -> Iterator[str]:
    yield f"{where.shown}: folder, two levels deep"
    empty = True
    for name, kind in _entries(fd, where):
        empty = False
        yield _entry(fd, kind, name, "")
        if kind == "dir":
            yield from _inner(fd, name, where)
    if empty:
        yield "(the folder is empty)"


def _inner(fd: int, name: str, where: Located) -> Iterator[str]:
    try:
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except OSError as error:
        yield f"?\t{_clean(name)}/: {error.strerror}"
        return
    try:
        for below, kind in _entries(inner, where):
            yield _entry(inner, kind, below, name + "/")
    finally:
        os.close(inner)


def _entries(fd: int, where: Located) -> list[tuple[str, str]]:
    """(name, kind) of a folder's entries, sorted."""
    with _explained(where):
        # A descriptor opened with O_PATH cannot be listed itself.
        readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(readable) as found:
                entries = [
                    (entry.name, _kind(entry)) for entry, _ in zip(found, range(_MAX_READ_ENTRIES), strict=False)
                ]
        finally:
            os.close(readable)
    return sorted(entries)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "dir"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _entry(fd: int, kind: str, name: str, prefix: str) -> str:
    shown = f"{kind}\t{_clean(prefix + name)}"
    if kind == "dir":
        return shown + "/"
    if kind == "link":
        with contextlib.suppress(OSError):  # gone meanwhile
            return f"{shown} -> {_clean(os.readlink(name, dir_fd=fd))}"
    return shown


def _clean(name: str) -> str:
    """A file name on one line: names may hold anything but a slash."""
    text = os.fsencode(name).decode(errors="replace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _within(lines: Iterable[str], max_chars: int) -> str:
    """The lines that fit, and a note if that is not all."""
    room = max_chars - _NOTE_CHARS
    shown: list[str] = []
    for count, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0 or count > _MAX_ENTRIES:
            shown.append("[there is more; view a folder below this one, or use bash_tool with find]")
            break
        shown.append(line)
    return "\n".join(shown)[:max_chars]


# Writing


def _regular(folder: int, name: str, where: Located) -> os.stat_result | None:
    """The file's status; None if there is no such file. Raises PathRefused if it is not a regular file."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PathRefused(f"{where.shown}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise PathRefused(f"{where.shown} is {what}")
    return found


def _replace(folder: int, name: str, data: bytes, old: os.stat_result | None) -> None:
    """Put `data` in the place of the file, in one step: nobody sees half of it."""
    part = new_part()
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
    try:
        with open(fd, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if old is not None:
                os.fchmod(fd, stat.S_IMODE(old.st_mode) & 0o777)
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(part, dir_fd=folder)
        raise


def _whole(where: Located) -> bytes:
    with opened(where) as fd, open(readable_file(fd, where), "rb") as file, _explained(where):
        data = file.read(_EDIT_BYTES + 1)
    if len(data) > _EDIT_BYTES:
        raise PathRefused(
            f"{where.shown} has more than {_EDIT_BYTES} bytes; edit it with bash_tool, for example by sed"
        )
    return data


def _only_place(data: bytes, target: bytes, where: Located) -> int:
    places: list[int] = []
    count = 0
    place = data.find(target)
    while place >= 0 and count <= _MAX_COUNT:
        count += 1
        if len(places) < _MAX_PLACES:
            places.append(place)
        place = data.find(target, place + 1)  # occurrences that overlap are as ambiguous as others
    if count == 1:
        return places[0]
    if not count:
        raise PathRefused(
            f"{where.shown}: old_str does not occur in the file; it must match exactly, "
            "also white space, and without the line numbers that view adds"
        )
    lines = ", ".join(str(_line_of(data, place)) for place in places)
    more = ", ..." if count > len(places) else ""
    times = f"{count}" if count <= _MAX_COUNT else f"more than {_MAX_COUNT}"
    raise PathRefused(
        f"{where.shown}: old_str occurs {times} times, at lines {lines}{more}; add text around it until it is unique"
    )


def _line_of(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1


@contextlib.contextmanager
def _explained(where: Located) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PathRefused(f"{where.shown}: {error.strerror}") from None
