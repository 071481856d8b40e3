"""The files of an event log: how they are called, which go, and whether they are what was written. Blocks.

    events.jsonl                                  is written
    events-20260115T093000.123456Z.jsonl.gz       was written until then

The last line of one that has ended tells the SHA-256 of all bytes before it and that of the file before, so that
neither a line nor a file can be changed, or taken out of the middle, unnoticed by `verify`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from skill_actors.durable import sync_directory
from skilld.monitor.sinks.canonical import EVENT_KEYS, compact

__all__ = [
    "CURRENT",
    "END_NAME",
    "Checked",
    "compress",
    "end_line",
    "ended_files",
    "ended_name",
    "ending",
    "read_end",
    "retain",
    "verify",
]

CURRENT: Final = "events.jsonl"
END_NAME: Final = "skilld.log.end"
_NAME: Final = "events-%Y%m%dT%H%M%S.%fZ.jsonl"
_ENDED: Final = re.compile(r"events-\d{8}T\d{6}\.\d{6}Z\.jsonl(\.gz)?\Z")
Lines = IO[bytes] | io.BufferedReader

_CHUNK_BYTES: Final = 1 << 20
_MAX_LINE_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look at one file found; `problem` is "" where it is what was written."""

    path: Path
    lines: int
    problem: str


def ended_name(folder: Path, now: datetime) -> str:
    """The name of a file that ends now: behind those that have ended, whatever a clock that was set back says."""
    ended = ended_files(folder)
    if ended:
        newest = datetime.strptime(ended[-1].name[:30], _NAME.removesuffix(".jsonl")).replace(tzinfo=UTC)
        now = max(now, newest + timedelta(microseconds=1))
    return now.astimezone(UTC).strftime(_NAME)


def ended_files(folder: Path) -> list[Path]:
    """Those that have ended, the oldest first."""
    return sorted(path for path in folder.iterdir() if _ENDED.match(path.name))


def end_line(digest: str, previous: str, lines: int, now: datetime) -> bytes:
    """The last line of a file; readers of generation B take it for an event."""
    attributes = {"sha256": digest, "previous": previous, "lines": lines}
    moment = now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    ending = {"schema_version": "1.0", "timestamp": moment, "name": END_NAME, "level": "INFO", "attributes": attributes}
    return compact({**ending, "trace_id": None, "span_id": None, "parent_span_id": None, "agent_id": "skilld"}) + b"\n"


def read_end(path: Path) -> dict[str, Any] | None:
    """What the last line of a file says, if it is such a line. Raises OSError."""
    last = b""
    with _opened(path) as file:
        try:
            for line in _lines(file):
                last = line
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return None
    return ending(last)


def ending(line: bytes) -> dict[str, Any] | None:
    """What the last line of a file says; None for a line that is another."""
    if END_NAME.encode() not in line:
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    attributes = found.get("attributes") if isinstance(found, dict) and found.get("name") == END_NAME else None
    if not isinstance(attributes, dict) or EVENT_KEYS[0] in attributes:  # an event that calls itself so
        return None
    return attributes


def compress(path: Path) -> None:
    """Pack a file; it is there, packed or not, whenever this ends. Raises OSError."""
    packed = path.with_name(path.name + ".gz")
    making = path.with_name(path.name + ".gz.tmp")
    try:
        _pack(path, making)
        making.rename(packed)
        sync_directory(path.parent)  # before the other goes: after a power cut there is one of them
    except OSError:
        making.unlink(missing_ok=True)  # on a full disk half of it is in the way of everything
        raise
    path.unlink()


def _pack(path: Path, into: Path) -> None:
    opened = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(opened, "wb") as raw:
        source_fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with (
            os.fdopen(source_fd, "rb") as source,
            gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as target,
        ):
            while chunk := source.read(_CHUNK_BYTES):
                target.write(chunk)
        raw.flush()
        os.fsync(raw.fileno())
    facts = path.stat()
    os.utime(into, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # it is as old as its last event


def retain(folder: Path, keep_s: float, max_bytes: int, now_s: float | None = None) -> int:
    """Remove files that are too old, and the oldest while all are too large; how many. Raises OSError."""
    now_s = time.time() if now_s is None else now_s
    found = [(path, path.stat()) for path in ended_files(folder)]
    total = sum(facts.st_size for _, facts in found)
    current = folder / CURRENT
    total += current.stat().st_size if current.exists() else 0
    removed = 0
    for path, facts in found:
        if facts.st_mtime < now_s - keep_s or total > max_bytes:
            path.unlink(missing_ok=True)
            total -= facts.st_size
            removed += 1
    return removed


def verify(folder: Path) -> list[Checked]:
    """Look at every file that has ended, the oldest first. Raises OSError."""
    found = []
    expected: str | None = None
    for path in ended_files(folder):
        checked, digest, previous = _verify_one(path)
        if not checked.problem and expected is not None and previous != expected:
            checked = Checked(path, checked.lines, "the file before it is missing, or is another one")
        found.append(checked)
        expected = digest
    return found


def _verify_one(path: Path) -> tuple[Checked, str, str]:
    digest, lines, last = hashlib.sha256(), 0, b""
    try:
        with _opened(path) as file:
            for line in _lines(file):
                digest.update(last)
                last = line
                lines += 1
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return Checked(path, lines, "it breaks off in the middle, or is damaged"), "", ""
    end = ending(last)
    if end is None:
        return Checked(path, lines, "it has no last line with a checksum"), "", ""
    previous = str(end.get("previous"))
    if end.get("sha256") != digest.hexdigest() or end.get("lines") != lines - 1:
        return Checked(path, lines - 1, "its lines are not those that were written"), digest.hexdigest(), previous
    return Checked(path, lines - 1, ""), digest.hexdigest(), previous


@contextmanager
def _opened(path: Path) -> Iterator[Lines]:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as raw:
        if path.suffix != ".gz":
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as packed:
            yield io.BufferedReader(packed)


def _lines(file: Lines) -> Iterator[bytes]:
    """Lines with their ends, in parts where they are very long."""
    while line := file.readline(_MAX_LINE_BYTES):
        yield line
