"""Writes the files of an event log. Every method blocks; one thread at a time.

What was written is known by its last line: after a crash the writer takes away half a line, and the first of two lines
of a span whose second is missing, and says which event was the last. So no event is in it twice or missing.

A file that was moved away (logrotate does so) gets its last line where it is now, and another one is begun. One that
was made shorter under our feet is read again, so that its checksum is that of what it has.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from skill_actors.durable import sync_directory
from skilld.monitor.sinks.canonical import EVENT_KEYS, compact, one_line
from skilld.monitor.sinks.envelope import START, envelopes
from skilld.monitor.sinks.log_files import (
    CURRENT,
    compress,
    end_line,
    ended_files,
    ended_name,
    ending,
    read_end,
    retain,
)

__all__ = ["LastWritten", "LogRules", "LogWriter"]

_CHUNK_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 8 << 20  # the last two lines are in it: an event is much smaller
_PERIODS: Final = {"hourly": "%Y%m%d%H", "daily": "%Y%m%d"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRules:
    """How it is written; the keys of [monitor.event_log]."""

    folder: Path
    format: Literal["skilld", "B"] = "skilld"
    max_file_bytes: int = 64 << 20
    rotate: Literal["never", "hourly", "daily"] = "daily"
    gzip: bool = True
    keep_s: float = 30 * 86_400.0
    max_bytes: int = 1 << 30
    fsync: Literal["always", "rotation", "never"] = "always"


@dataclass(frozen=True, slots=True)
class LastWritten:
    """The last event of a file: its id in the store, and what it is known by if that is another store now."""

    id: int
    run: str
    seq: int


class LogWriter:
    """One log. `now` tells the time, for names and for the turn of an hour or a day."""

    def __init__(self, rules: LogRules, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._rules = rules
        self._now = now
        self._path = rules.folder / CURRENT
        self._fd = -1
        self._size = 0
        self._lines = 0
        self._digest = hashlib.sha256()
        self._previous = ""
        self._period = ""
        self._torn = False  # behind `_size` there may be half of something
        self.has_ended = False  # a file has, and was not tidied up after

    def open(self) -> LastWritten | None:
        """Open the current file, made if it is missing; its last event, if it has one.

        Raises:
            OSError: if folder or file cannot be used, or the file is a link.

        """
        self.close()
        folder = self._rules.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob("events-*.gz.tmp"):
            left.unlink()
        self._previous = self._last_digest()
        return self._open_current()

    def _open_current(self) -> LastWritten | None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        self._fd = os.open(self._path, flags, 0o600)
        facts = os.fstat(self._fd)
        if not stat.S_ISREG(facts.st_mode):
            self.close()
            raise OSError(f"{self._path} is no regular file")
        self._keep_name()
        last = self._mend(facts.st_size)
        self._read_again()
        moment = datetime.fromtimestamp(facts.st_mtime, UTC) if self._size else self._now()
        self._period = self._period_of(moment)
        return last

    def _keep_name(self) -> None:
        """What is on the disk has to be found there under its name."""
        if self._rules.fsync == "never":
            return
        try:
            sync_directory(self._rules.folder)
        except OSError:
            self.close()  # else lines would follow that are in a file without a name
            raise

    def append(self, events: Sequence[Mapping[str, Any]]) -> list[int]:
        """Write events at the end, all of them or none; on the disk when this returns, if that is the rule.

        Returns:
            The ids of those that no line can hold, and that are left out.

        Raises:
            OSError: if it cannot be written. What was written of it is taken back.

        """
        self._look_around()
        raw, lines, left_out = self._encoded(events)
        if not raw:
            return left_out
        if self._is_due(len(raw)):
            self._end_file()
        self._write(raw, sync=self._rules.fsync == "always")
        self._digest.update(raw)
        self._size += len(raw)
        self._lines += lines
        return left_out

    def tidy(self) -> int:
        """End the file at the turn of its hour or day, pack those that have ended, remove what is too old or too much.

        Raises:
            OSError: if one of that cannot be done.

        """
        removed = self.make_room()  # first: on a full disk nothing else can be done
        if self._fd >= 0 and self._is_due(0):
            self._look_around()
            self._end_file()
        if self._rules.gzip:
            for path in ended_files(self._rules.folder):
                if path.suffix != ".gz":
                    compress(path)
        self.has_ended = False
        return removed + self.make_room()

    def make_room(self) -> int:
        """Remove files that are too old or too much; how many. Raises OSError."""
        return retain(self._rules.folder, self._rules.keep_s, self._rules.max_bytes)

    def close(self) -> None:
        """Close the file, which goes on next time. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._torn = -1, False

    def _encoded(self, events: Sequence[Mapping[str, Any]]) -> tuple[bytes, int, list[int]]:
        """The lines, how many, and the ids of events of which there are none."""
        lines, left_out = list[bytes](), list[int]()
        for event in events:
            try:
                lines += self._lines_of(event)
            except (ValueError, RecursionError):  # a program's data: one event is no reason to stop for ever
                left_out.append(int(event["id"]))
        return b"".join(lines), len(lines), left_out

    def _lines_of(self, event: Mapping[str, Any]) -> list[bytes]:
        if self._rules.format == "skilld":
            return [one_line(event)]
        return [compact(envelope) + b"\n" for envelope in envelopes(event)]

    def _write(self, raw: bytes, *, sync: bool) -> None:
        """All of it, on the disk if `sync`, or none: what cannot be taken back now is so before more is written."""
        view = memoryview(raw)
        self._torn = True
        try:
            while view:
                view = view[os.write(self._fd, view) :]
            if sync:
                os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                self._take_back()
            raise
        self._torn = False

    def _take_back(self) -> None:
        os.ftruncate(self._fd, self._size)
        self._torn = False

    def _is_due(self, more_bytes: int) -> bool:
        full = self._size + more_bytes > self._rules.max_file_bytes
        return self._size > 0 and (full or self._period_of(self._now()) != self._period)

    def _period_of(self, moment: datetime) -> str:
        return moment.astimezone(UTC).strftime(_PERIODS.get(self._rules.rotate, ""))

    def _end_file(self) -> None:
        """Write its last line, give it its name, and begin another."""
        digest, now = self._digest.hexdigest(), self._now()
        self._write(end_line(digest, self._previous, self._lines, now), sync=self._rules.fsync != "never")
        self._path.rename(self._path.with_name(ended_name(self._rules.folder, now)))
        self._previous = digest
        self.has_ended = True
        self.close()
        self._open_current()

    def _look_around(self) -> None:
        """Whether the file is still the one that has the name, and as long as we left it."""
        if self._fd < 0:
            self.open()
            return
        if self._torn:
            self._take_back()
        facts = os.fstat(self._fd)
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            named = None
        if named is None or (named.st_dev, named.st_ino) != (facts.st_dev, facts.st_ino):
            if facts.st_nlink and facts.st_size == self._size:
                self._write(end_line(self._digest.hexdigest(), self._previous, self._lines, self._now()), sync=False)
                self._previous = self._digest.hexdigest()
            self.close()
            self._open_current()
        elif facts.st_size != self._size:
            self._read_again()

    def _read_again(self) -> None:
        """The checksum of what the file has."""
        self._digest, self._size, self._lines = hashlib.sha256(), 0, 0
        while chunk := os.pread(self._fd, _CHUNK_BYTES, self._size):
            self._digest.update(chunk)
            self._size += len(chunk)
            self._lines += chunk.count(b"\n")

    def _mend(self, size: int) -> LastWritten | None:
        """Take away what is not whole; the last event that is."""
        start, tail = size, b""
        while b"\n" not in tail and start > 0:  # as a rule once
            begin = max(0, start - _TAIL_BYTES)
            start, tail = begin, os.pread(self._fd, start - begin, begin)
        whole = tail[: tail.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        while lines and (_is_start(lines[-1]) or ending(lines[-1]) is not None):
            whole = whole[: -len(lines.pop())]
        if start + len(whole) < size:
            os.ftruncate(self._fd, start + len(whole))
        return _last_of(lines)

    def _last_digest(self) -> str:
        ended = ended_files(self._rules.folder)
        ending = read_end(ended[-1]) if ended else None
        return str(ending["sha256"]) if ending and "sha256" in ending else ""


def _is_start(line: bytes) -> bool:
    """Whether it is the first of the two lines of a span."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    attributes = found.get("attributes") if isinstance(found, dict) else None
    return isinstance(attributes, dict) and attributes.get(START) is True


def _last_of(lines: Sequence[bytes]) -> LastWritten | None:
    """Which event the last line is, in either format."""
    if not lines:
        return None
    try:
        found = json.loads(lines[-1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    attributes = found.get("attributes")
    values = (
        [attributes.get(key) for key in EVENT_KEYS]
        if isinstance(attributes, dict)
        else [found.get(key) for key in ("id", "run", "seq")]
    )
    id, run, seq = values
    if type(id) is not int or type(seq) is not int or not isinstance(run, str):
        return None
    return LastWritten(id, run, seq)
