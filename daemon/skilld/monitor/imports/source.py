"""Opens old files, safely, and says of what kind they are. Blocks.

Nothing in a file is trusted: a line that is none is told with its number and passed over, and nothing is longer in
memory than one line may be.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import IO, Any, Final, Literal

from skilld.monitor.imports.generation_a import is_of_a, read_a
from skilld.monitor.imports.generation_b import is_of_b, read_b
from skilld.monitor.imports.own import is_own, read_own
from skilld.monitor.imports.record import BadRecord, Record
from skilld.monitor.sinks.log_files import ending

__all__ = ["MAX_LINE_BYTES", "BadSource", "Reading", "kind_of", "open_safely", "read_lines"]

MAX_LINE_BYTES: Final = 4 << 20
_MAX_PROBLEMS: Final = 20
_SQLITE: Final = b"SQLite format 3\0"
_GZIP: Final = b"\x1f\x8b"

Lines = IO[bytes] | io.BufferedReader
Kind = Literal["lines", "packed", "sqlite"]


class BadSource(ValueError):
    """The file is not read at all; the message says why."""


@dataclass(slots=True)
class Reading:
    """What reading a file has found so far.

    Args:
        records: that became events.
        notes: lines of a log's own, which are no events.
        bad: lines or rows that are none.
        problems: the first of those: where, and why.
        position: bytes of the file that are read, or rows.

    """

    records: int = 0
    notes: int = 0
    bad: int = 0
    position: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)

    def add_problem(self, where: int, why: str) -> None:
        """One line or row more that is none."""
        self.bad += 1
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append((where, why))


@contextmanager
def open_safely(path: Path) -> Iterator[IO[bytes]]:
    """The file, opened for reading.

    Raises:
        BadSource: if it cannot be opened, or is a link or no regular file.

    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        linked = path.is_symlink()
        raise BadSource("it is a link: name the file itself" if linked else str(error.strerror)) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadSource("it is no regular file")
    with os.fdopen(fd, "rb") as file:
        yield file


def kind_of(file: IO[bytes]) -> Kind:
    """Of what kind it is, by its first bytes. The file is at its beginning before and after."""
    beginning = file.read(len(_SQLITE))
    file.seek(0)
    if beginning == _SQLITE:
        return "sqlite"
    return "packed" if beginning.startswith(_GZIP) else "lines"


def read_lines(file: IO[bytes], zone: tzinfo | None, reading: Reading, *, packed: bool) -> Iterator[Record]:
    """Records of the lines of a file of either generation or of ours; what is none is noted.

    Raises:
        BadSource: if the packed file is damaged; what came before counts.

    """
    if not packed:
        yield from _read_lines(file, file, zone, reading)
        return
    with gzip.GzipFile(fileobj=file) as unpacked:
        try:
            yield from _read_lines(io.BufferedReader(unpacked), file, zone, reading)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadSource("it breaks off in the middle, or is damaged") from error


def _read_lines(lines: Lines, raw: IO[bytes], zone: tzinfo | None, reading: Reading) -> Iterator[Record]:
    number = 0
    while line := lines.readline(MAX_LINE_BYTES + 1):
        number += 1
        reading.position = raw.tell()
        if len(line) > MAX_LINE_BYTES:
            reading.add_problem(number, f"it is longer than {MAX_LINE_BYTES} bytes")
            _skip_line(lines)
            continue
        if not line.strip():
            continue
        try:
            record = _read_line(line, zone)
        except BadRecord as error:
            reading.add_problem(number, str(error))
            continue
        if record is None:
            reading.notes += 1
        else:
            reading.records += 1
            yield record


def _skip_line(lines: Lines) -> None:
    while (part := lines.readline(MAX_LINE_BYTES)) and not part.endswith(b"\n"):
        pass


def _read_line(line: bytes, zone: tzinfo | None) -> Record | None:
    """The record; None for a line of a log's own. Raises BadRecord."""
    try:
        found: Any = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadRecord("it is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise BadRecord("it is not JSON" if line.endswith(b"\n") else "it breaks off in the middle") from error
    if not isinstance(found, Mapping):
        raise BadRecord("it is no object")
    if ending(line) is not None:
        return None
    if is_own(found):
        return read_own(found)
    if is_of_b(found):
        return read_b(found)
    if is_of_a(found):
        return read_a(found, zone)
    if "message" in found:
        return None
    raise BadRecord("it is a record of neither generation, and none of ours")
