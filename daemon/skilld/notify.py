"""Telling systemd how the daemon is (sd_notify). Does nothing where nobody listens."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from typing import Final

__all__ = ["Notifier", "watchdog_interval_s"]

_log = logging.getLogger(__name__)

_USEC: Final = 1_000_000


def watchdog_interval_s(env: Mapping[str, str], *, pid: int | None = None) -> float | None:
    """How often systemd wants to hear from this process, in seconds; None if it does not ask."""
    if env.get("WATCHDOG_PID", str(os.getpid() if pid is None else pid)) != str(os.getpid() if pid is None else pid):
        return None
    text = env.get("WATCHDOG_USEC", "")
    return int(text) / _USEC if text.isascii() and text.isdigit() and int(text) > 0 else None


class Notifier:
    """Sends states to the service manager. Sending never blocks and never fails the daemon.

    Args:
        env: NOTIFY_SOCKET names the manager's socket, a path or, after "@", an abstract name.

    """

    def __init__(self, env: Mapping[str, str]) -> None:
        address = env.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = self._open() if address[:1] in ("/", "@") else None

    def _open(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)
        return sock

    @property
    def active(self) -> bool:
        """Whether somebody listens."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """The socket answers."""
        self._send({"READY": "1", "STATUS": status})

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send({"STATUS": status})

    def reloading(self, now_s: float) -> None:
        """The configuration is read again, until the next `ready`; `now_s` is of the monotonic clock."""
        self._send({"RELOADING": "1", "MONOTONIC_USEC": str(int(now_s * _USEC))})

    def stopping(self, status: str = "") -> None:
        """The daemon has begun to stop."""
        self._send({"STOPPING": "1", "STATUS": status})

    def extend_timeout(self, seconds: float) -> None:
        """Ask for this much more time to start or stop, counted from now."""
        self._send({"EXTEND_TIMEOUT_USEC": str(int(seconds * _USEC))})

    def watchdog(self) -> None:
        """Still alive."""
        self._send({"WATCHDOG": "1"})

    def close(self) -> None:
        """Let go of the socket. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, fields: Mapping[str, str]) -> None:
        if self._socket is None:
            return
        # One assignment a line: a line end inside a value would be read as another assignment.
        lines = [f"{name}={' '.join(value.split())}" for name, value in fields.items() if value]
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError as error:
            _log.warning("cannot notify the service manager: %s", error.strerror)
