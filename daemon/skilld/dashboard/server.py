"""The dashboard's listener: on the loopback address of this machine, for its user, and for so many connections.

The pages of a browser go through the same HTTP code as the daemon's socket. What is different: anybody on the machine
can connect to a port, so the kernel is asked whose connection it is, and everybody but the dashboard's own user and
root is turned away before a byte is read.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from skilld.dashboard.app import HEADERS, DashboardApp
from skilld.dashboard.gate import LOOPBACK, Gate
from skilld.dashboard.peer_user import peer_uid
from skilld.dashboard.relay import STREAM, Relay
from skilld.http.connection import Connection
from skilld.http.limits import ServerLimits

__all__ = ["Dashboard", "DashboardLimits", "listen"]

_log = logging.getLogger(__name__)

_BACKLOG: Final = 64
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_EXHAUSTED_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardLimits:
    """What browsers may cost.

    Args:
        connections: at once. The daemon grants one user 64 (`limits.connections_per_peer`), and others need some.
        http: of each connection.

    """

    connections: int = 40
    http: ServerLimits = field(default_factory=lambda: ServerLimits(max_header_bytes=32 << 10, max_body_bytes=1 << 20))


def listen(port: int) -> socket.socket:
    """A socket that listens on the loopback address. `port` 0 is any that is free. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOOPBACK, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


class Dashboard:
    """Serves pages on `sock`, and passes their calls on to the daemon at `daemon_socket`.

    Args:
        read_only: whether calls that change anything are refused.
        about: what the pages are told of this program.

    """

    def __init__(
        self,
        sock: socket.socket,
        daemon_socket: str,
        *,
        read_only: bool,
        about: Mapping[str, Any],
        limits: DashboardLimits | None = None,
    ) -> None:
        self.gate = Gate(port=sock.getsockname()[1])
        self._sock = sock
        self._limits = limits or DashboardLimits()
        relay = Relay(daemon_socket, read_only=read_only)
        self._app = DashboardApp(self.gate, relay, {**about, "read_only": read_only})
        self._open = 0

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept and serve until cancelled; the socket is closed then."""
        with trio.socket.from_stdlib_socket(self._sock) as listening:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    try:
                        accepted, _ = await listening.accept()
                    except OSError as error:
                        if error.errno == errno.ECONNABORTED:
                            continue
                        if error.errno not in _EXHAUSTED:
                            raise
                        await trio.sleep(_EXHAUSTED_PAUSE_S)
                        continue
                    nursery.start_soon(self._meet, trio.SocketStream(accepted))

    async def _meet(self, stream: trio.SocketStream) -> None:
        if self._open >= self._limits.connections:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            if await _is_ours(stream):  # others are not told why: a word would keep a place for as long as it takes
                await Connection(stream, self._app, self._limits.http, HEADERS, {STREAM: stream}).run()
        except Exception:
            _log.exception("a connection of the dashboard failed; the others go on")
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)


async def _is_ours(stream: trio.SocketStream) -> bool:
    """Whether our own user, or root, is at the other end. False where nobody can tell."""
    try:
        ours, theirs = stream.socket.getsockname()[:2], stream.socket.getpeername()[:2]
        uid = await trio.to_thread.run_sync(peer_uid, ours, theirs)
    except OSError:
        return False
    return uid is not None and uid in (0, os.geteuid())
