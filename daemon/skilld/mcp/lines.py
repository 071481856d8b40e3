"""Standard input and output as lines of text, each of a bounded length. Neither holds up the end of the program.

A line that is too long is given as an empty one, which is no message: its reader goes on with the next.
"""

from __future__ import annotations

import json
import os
from typing import Final

import trio

__all__ = ["MAX_LINE_BYTES", "LineReader", "LineWriter"]

MAX_LINE_BYTES: Final = 16 * 1024 * 1024

_CHUNK_BYTES: Final = 65_536


class LineReader:
    """The lines that come from a descriptor, until it ends. An asynchronous iterator.

    Reads in a thread that is left alone when it is not wanted any more: making the descriptor non-blocking would do
    so for everybody who shares it.
    """

    def __init__(self, fd: int, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._fd = fd
        self._max_line_bytes = max_line_bytes
        self._kept = bytearray()
        self._searched = 0
        self._skips = False
        self._ended = False

    def __aiter__(self) -> LineReader:
        return self

    async def __anext__(self) -> str:
        while True:
            line = self._next_line()
            if line is not None:
                return _whole(line.decode("utf-8", errors="replace"))
            if self._ended:
                raise StopAsyncIteration
            chunk = await trio.to_thread.run_sync(os.read, self._fd, _CHUNK_BYTES, abandon_on_cancel=True)
            self._kept += chunk
            self._ended = not chunk

    def _next_line(self) -> bytes | None:
        """A line that is whole, or what is left at the end; None where more has to come."""
        at = self._kept.find(b"\n", self._searched)
        if at < 0 and not (self._ended and self._kept):
            self._searched = len(self._kept)
            if len(self._kept) > self._max_line_bytes:
                self._skips = True
            if self._skips:
                self._kept.clear()
                self._searched = 0
            return None
        end = len(self._kept) if at < 0 else at + 1
        line = bytes(self._kept[:end])
        del self._kept[:end]
        self._searched = 0
        if self._skips or len(line) > self._max_line_bytes:
            self._skips = False
            return b"\n"
        return line


def _whole(line: str) -> str:
    """The line without escapes of half surrogate pairs: the library takes no such message, and never answers it."""
    if "\\ud" not in line.lower():
        return line
    try:
        return json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8", errors="replace").decode() + "\n"
    except (ValueError, RecursionError):
        return line


class LineWriter:
    """Writes text to a descriptor. Raises BrokenPipeError when nobody reads there any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def write(self, text: str) -> None:
        """Write all of it."""
        await trio.to_thread.run_sync(self._write, text.encode(), abandon_on_cancel=True)

    async def flush(self) -> None:
        """Everything is written already."""
        await trio.lowlevel.checkpoint()

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]
