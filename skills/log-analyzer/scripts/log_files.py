"""Log files: finding them, opening them safely, and reading them line by line within bounds."""

from __future__ import annotations

import argparse
import gzip
import io
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MAX_BYTES = 128 * 1024 * 1024  # what a slow machine analyzes in a minute, half of a tool call's time
MAX_LINE_BYTES = 64 * 1024
MAX_FILES = 200
SAMPLE_BYTES = 8192
STDIN = "-"

LOG_NAME = re.compile(r"(\.log|\.err|\.out|\.jsonl|^syslog|^messages|^kern|^auth|^daemon|^debug)([.-]\d+)*(\.gz)?$")
CONTROL_BYTES = bytes(set(range(32)) - {9, 10, 12, 13, 27})


class LogFileError(Exception):
    """A log that cannot be read; the text names it and says why."""


def expand(argument: str) -> list[str]:
    """The log files that one argument stands for: itself, or the logs directly inside a directory.

    Raises:
        LogFileError: the directory cannot be listed, or holds no log.

    """
    if argument == STDIN or not os.path.isdir(argument):
        return [argument]
    try:
        with os.scandir(argument) as entries:
            names = sorted(e.name for e in entries if e.is_file(follow_symlinks=False) and LOG_NAME.search(e.name))
    except OSError as error:
        raise LogFileError(f"{argument}: {error.strerror}") from error
    if not names:
        raise LogFileError(f"{argument}: no log files directly in this directory; name the files")
    if len(names) > MAX_FILES:
        print(f"{argument}: only the first {MAX_FILES} of {len(names)} logs are read", file=sys.stderr)
    return [os.path.join(argument, name) for name in names[:MAX_FILES]]


class LogFile:
    """One open log: iterate over it for its lines, decoded and without their line breaks.

    Attributes:
        cut_lines: lines longer than 64 KiB, of which only the beginning was given.
        cut_bytes: whether the file held more than `max_bytes`; the end of a plain file is read, and the beginning of
            a compressed one.
        changed_s: when the file was last changed, seconds since the epoch; None for stdin.

    """

    def __init__(self, name: str, max_bytes: int = MAX_BYTES) -> None:
        """Open `name` (`-` is stdin).

        Raises:
            LogFileError: it is missing, unreadable, not a regular file, or holds binary data.

        """
        self.name = name
        self.cut_lines = 0
        self.cut_bytes = False
        self.changed_s: float | None = None
        self._left = max_bytes
        self._stream = self._open(max_bytes)

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[str]:
        """Give each line.

        Raises:
            LogFileError: the compressed data is damaged, or the disk is; the lines before it have been given.

        """
        try:
            yield from self._lines()
        except (OSError, EOFError, zlib.error) as error:
            raise LogFileError(f"{self.name}: damaged or unreadable from here on: {error}") from error

    def _open(self, max_bytes: int) -> IO[bytes]:
        try:
            raw = self._open_raw()
            compressed = raw.peek(2)[:2] == b"\x1f\x8b"
            stream = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if compressed else raw
            if is_binary(stream.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]):
                stream.close()
                raise LogFileError(f"{self.name}: binary data, not a text log")
            if not compressed:
                self._skip_to_end(raw, max_bytes)
            return stream
        except (OSError, EOFError, zlib.error) as error:
            raise LogFileError(f"{self.name}: {getattr(error, 'strerror', None) or error}") from error

    def _open_raw(self) -> io.BufferedReader:
        if self.name == STDIN:
            return sys.stdin.buffer  # type: ignore[return-value]
        # Without O_NONBLOCK opening a FIFO waits for a writer for ever.
        raw = os.fdopen(os.open(self.name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        status = os.fstat(raw.fileno())
        if not stat.S_ISREG(status.st_mode):
            raw.close()
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise LogFileError(f"{self.name}: {kind}; name a file, or pipe the data in and give -")
        self.changed_s = status.st_mtime
        return raw

    def _skip_to_end(self, raw: io.BufferedReader, max_bytes: int) -> None:
        if self.name == STDIN or os.fstat(raw.fileno()).st_size <= max_bytes:
            return
        self.cut_bytes = True
        raw.seek(-max_bytes, os.SEEK_END)
        while (piece := raw.readline(MAX_LINE_BYTES)) and not piece.endswith(b"\n"):
            self._left -= len(piece)

    def _lines(self) -> Iterator[str]:
        while self._left > 0:
            line = self._stream.readline(MAX_LINE_BYTES)
            if not line:
                return
            self._left -= len(line)
            if not line.endswith(b"\n") and len(line) == MAX_LINE_BYTES:
                self._drop_rest_of_line()
            yield line.decode("utf-8", "replace").rstrip("\r\n\0")
        if self._stream.read(1):
            self.cut_bytes = True

    def _drop_rest_of_line(self) -> None:
        self.cut_lines += 1
        while self._left > 0 and (piece := self._stream.readline(MAX_LINE_BYTES)):
            self._left -= len(piece)
            if piece.endswith(b"\n"):
                return


def is_binary(sample: bytes) -> bool:
    """Whether more than a tenth of the bytes are control characters, or a quarter is not text in UTF-8.

    A few of both are normal: terminals' colours, the zeros that a crash leaves in a log, names in another encoding.
    """
    controls = len(sample) - len(sample.translate(None, CONTROL_BYTES))
    undecodable = len(sample) - len(sample.decode("utf-8", "ignore").encode("utf-8"))
    return controls > len(sample) / 10 or undecodable > len(sample) / 4


def printable(text: str) -> str:
    """`text` without characters that could steer a terminal or hide what is there."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def count_argument(text: str) -> int:
    """A whole number above 0 from the command line.

    Raises:
        argparse.ArgumentTypeError: it is none.

    """
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def known_logs(root: Path = Path("/var/log")) -> list[str]:
    """The logs directly in /var/log that this user can read; empty where there is none."""
    try:
        return [name for name in expand(str(root)) if os.access(name, os.R_OK)]
    except LogFileError:
        return []
