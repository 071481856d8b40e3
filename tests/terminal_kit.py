"""A program at a terminal of its own, as a person has it."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from proc_kit import state_of

__all__ = ["SOON_S", "Terminal", "at_terminal"]

SOON_S: Final = 30.0


class Terminal:
    """The program, and the other end of its terminal."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self._fd = fd
        self.raw = b""  # all that was ever written
        self.seen = ""  # and was not waited for
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a read may end within a character

    def type(self, text: str) -> None:
        self.type_bytes(text.encode())

    def type_bytes(self, data: bytes) -> None:
        os.write(self._fd, data)

    def interrupt(self) -> None:
        """Ctrl-C, once the program waits.

        Readline acts upon a signal that comes between its last look and its wait for a key with the next key only; and
        the kernel throws away what was typed before Ctrl-C and is not read.
        """
        deadline = time.monotonic() + SOON_S
        while state_of(self.process.pid) != "S":
            assert time.monotonic() < deadline, f"it never waits; it wrote {self.seen!r}"
            time.sleep(0.01)
        self.type("\x03")

    def screen(self, columns: int) -> list[str]:
        """The lines of all that was written, as a terminal of this width has broken them."""
        lines = self.raw.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
        return [line[at : at + columns] for line in lines for at in range(0, max(len(line), 1), columns)]

    def until(self, pattern: str) -> str:
        """Everything up to where this appears next; it is then over."""
        deadline = time.monotonic() + SOON_S
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < deadline, f"{pattern!r} did not appear in {self.seen!r}"
            self._read(0.1)
        before, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return before

    def end(self) -> int:
        """The exit code, once it has ended and all that it wrote was read."""
        deadline = time.monotonic() + SOON_S
        while True:
            ended = self.process.poll() is not None  # looked at first: its last words may come behind an empty read
            if not self._read(0.1) and ended:
                return self.process.wait(SOON_S)
            assert time.monotonic() < deadline, f"it goes on; it wrote {self.seen!r}"

    def _read(self, timeout_s: float) -> bool:
        """Whether there was something."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self._fd, 65_536)
        except OSError:  # Linux' end of file on a terminal whose other side is closed
            return False
        self.raw += data
        self.seen += self._decoder.decode(data)
        return bool(data)


@contextmanager
def at_terminal(
    command: Sequence[str], env: Mapping[str, str], *, stdin: int | None = None, columns: int = 0
) -> Iterator[Terminal]:
    """The program for as long as the block lasts, with its terminal for all three streams, or but for stdin.

    Args:
        columns: of the terminal; 0, as a serial line has it: it does not say.

    """
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (24 if columns else 0, columns))
    process = subprocess.Popen(
        command,
        stdin=child if stdin is None else stdin,
        stdout=child,
        stderr=child,
        env=env,
        preexec_fn=lambda: _own_terminal(child),
    )
    os.close(child)
    try:
        yield Terminal(process, parent)
    finally:
        process.kill()
        process.wait(SOON_S)
        os.close(parent)


def _own_terminal(fd: int) -> None:
    """Make it the controlling one, so that Ctrl-C is a signal."""
    os.setsid()
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
