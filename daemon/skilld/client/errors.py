"""What a call to the daemon can raise.

SkilldError                 the daemon refused or failed; `code` is the daemon's stable word
 +-- DaemonUnreachable      nobody answers at the socket: nothing was sent
 +-- ConnectionLost         the connection broke after the request was sent: it may have been carried out
 +-- RequestTimeout         the time the caller allowed is over: it may still be carried out
 +-- ProtocolError          what answers at the socket does not speak as skilld does
ValueError
 +-- NotAName               no session, turn or skill can have this name; nothing was asked
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

__all__ = ["ConnectionLost", "DaemonUnreachable", "NotAName", "ProtocolError", "RequestTimeout", "SkilldError"]


class SkilldError(Exception):
    """A request was not carried out.

    Args:
        code: stable word for programs, such as "not_found" or "overloaded".
        message: names the thing, the value and the way out.
        retryable: whether the same request may succeed later.
        status: HTTP status, where there was an answer.
        details: JSON-ready facts.
        retry_after_s: how long the daemon asks to wait, in seconds, where it said so.

    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        status: int | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.status = status
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s


class DaemonUnreachable(SkilldError):
    """Nobody answers at `socket`. Nothing was sent, so the same request may be made again."""

    def __init__(self, socket: str, reason: str) -> None:
        super().__init__("unreachable", f"cannot reach the daemon at {socket}: {reason}", retryable=True)
        self.socket = socket

    @classmethod
    def from_os_error(cls, socket: str, error: OSError) -> DaemonUnreachable:
        """Say what the system's error means for somebody who wants to reach a daemon."""
        return cls(socket, _REASONS.get(error.errno or 0) or f"{error.strerror or error}. {_WAY_OUT}")


class ConnectionLost(SkilldError):
    """The connection broke before the answer was complete."""

    def __init__(self, socket: str, reason: str) -> None:
        super().__init__(
            "connection_lost",
            f"the connection to the daemon at {socket} broke: {reason}; the request may have been carried out",
            retryable=True,
        )
        self.socket = socket


class RequestTimeout(SkilldError):
    """There was no complete answer in the time allowed."""

    def __init__(self, message: str) -> None:
        super().__init__("timeout", message, retryable=True)


class ProtocolError(SkilldError):
    """The answer is none of skilld's."""

    def __init__(self, message: str) -> None:
        super().__init__("protocol", message)


class NotAName(ValueError):
    """The text cannot be the name of what is asked for: it is empty, "." or "..", or not Unicode."""

    def __init__(self, kind: str, value: str) -> None:
        super().__init__(f"{value!a} cannot be the name of a {kind}")


_WAY_OUT = (
    "Start it with 'skilld' or 'systemctl start skilld', or name another socket with SKILLD_SOCKET (skillctl: --socket)"
)
_REASONS = {
    errno.ENOENT: f"there is no such socket. {_WAY_OUT}",
    errno.ENOTDIR: f"there is no such socket. {_WAY_OUT}",
    errno.ECONNREFUSED: f"the socket is there, but no daemon listens on it. {_WAY_OUT}",
    errno.EACCES: "permission denied. Run as the daemon's user, or have yourself added to the group of the socket",
    errno.EAGAIN: "its queue of new connections is full. Try again in a moment",
}
