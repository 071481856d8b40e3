"""What a call has written, as its runner keeps it: the beginning and the end of each stream, and the file of all."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Output", "Spill"]


class Spill:
    """The whole output of a call in a file, in the order in which it was read."""

    def __init__(self, root: str, spec: dict[str, Any]) -> None:
        self._root = root
        self._folders = [str(folder) for folder in spec["folders"]]
        self._name = str(spec["name"])
        self._max_bytes = int(spec["max_bytes"])
        self._early: list[bytes] = []  # held back until it is known that a file is needed
        self._fd: int | None = None
        self._written = 0
        self._error: str | None = None
        self._cut = False

    def take(self, data: bytes, *, needed: bool) -> None:
        if not self._max_bytes:
            return  # nothing of it may be kept
        if self._fd is None and not needed:
            self._early.append(data)
            return
        if self._error is not None or self._cut:
            return
        try:
            if self._fd is None:
                self._fd = self._create()
                data = b"".join((*self._early, data))
                self._early.clear()
            room = self._max_bytes - self._written
            self._cut = len(data) > room
            view = memoryview(data)[:room]
            while view:
                written = os.write(self._fd, view)
                self._written += written
                view = view[written:]
        except (OSError, ValueError) as error:  # or a name that none can have
            number = error.errno if isinstance(error, OSError) else errno.EINVAL
            self._error = os.strerror(number or errno.EIO)
            self._early.clear()

    def _create(self) -> int:
        folder = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in self._folders:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(part, flags, dir_fd=folder)
                os.close(folder)
                folder = inner
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(self._name, flags, 0o644, dir_fd=folder)
        finally:
            os.close(folder)

    def close(self) -> dict[str, Any] | None:
        """What became of it; None if the output was small enough to need no file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        elif self._error is None:
            return None
        return {"bytes": self._written, "cut": self._cut, "error": self._error}


class Output:
    """One of the two output streams of a call: its pipe, its beginning and its end."""

    def __init__(self, fd: int, kind: int, max_chars: int) -> None:
        self.fd: int | None = fd
        self.kind = kind
        self.chars = 0
        self._max_chars = max_chars
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._head: list[str] = []
        self._head_chars = 0
        self._tail = ""

    def decode(self, data: bytes, *, final: bool = False) -> str:
        text = self._decoder.decode(data, final)
        self.chars += len(text)
        kept = text[: self._max_chars - self._head_chars]
        if kept:
            self._head.append(kept)
            self._head_chars += len(kept)
        if len(kept) < len(text):
            self._tail = (self._tail + text[len(kept) :])[-self._max_chars :]
        return text

    def summary(self) -> dict[str, Any]:
        return {"head": "".join(self._head), "tail": self._tail, "chars": self.chars}

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
