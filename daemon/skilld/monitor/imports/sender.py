"""Delivers batches over the ingest socket, as the user who calls, and waits for each acknowledgement. Blocks."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["Acknowledged", "BatchSender", "NotDelivered"]

_TIMEOUT_S: Final = 30.0
_MAX_ANSWER_BYTES: Final = 1 << 20
_TRIES: Final = 8


class NotDelivered(OSError):
    """The daemon did not take a batch. What it acknowledged before is kept, and coming again does no harm."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What became of a batch's events."""

    stored: int
    refused: int


class BatchSender:
    """One connection, made when it is needed, and again while the daemon asks to come later."""

    def __init__(self, path: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self._path = path
        self._sleep = sleep
        self._socket: socket.socket | None = None
        self._unread = b""

    def send(self, line: bytes) -> Acknowledged:
        """Deliver one batch.

        Raises:
            NotDelivered: if it is not taken after some tries, or never will be.

        """
        pause_s = 0.5
        for attempt in range(1, _TRIES + 1):
            try:
                answer = self._exchange(line)
            except OSError as error:
                self.close()
                if attempt == _TRIES or isinstance(error, (FileNotFoundError, PermissionError, ConnectionRefusedError)):
                    raise NotDelivered(f"{self._path}: {error.strerror or error}") from error
            else:
                if "ack" in answer:
                    return Acknowledged(int(answer.get("stored", 0)), int(answer.get("refused", 0)))
                self.close()
                problem = answer.get("error", {})
                if problem.get("code") != "overloaded" or attempt == _TRIES:
                    raise NotDelivered(f"{self._path}: {problem.get('message', 'it does not answer')}")
            self._sleep(pause_s)
            pause_s = min(pause_s * 2, 10.0)
        raise NotDelivered(f"{self._path}: it does not answer")

    def close(self) -> None:
        """Forget the connection. May be called twice."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._unread = b""

    def _exchange(self, line: bytes) -> dict[str, Any]:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.connect(str(self._path))
        self._socket.sendall(line + b"\n")
        while b"\n" not in self._unread:
            more = self._socket.recv(65_536)
            if not more or len(self._unread) > _MAX_ANSWER_BYTES:
                raise ConnectionResetError("it closed the connection")
            self._unread += more
        raw, _, self._unread = self._unread.partition(b"\n")
        found = json.loads(raw)
        return found if isinstance(found, dict) else {}
