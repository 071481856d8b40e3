"""The accept loop: who connects, how many, and what happens when descriptors run out.

HTTP is spoken by h11 directly rather than by hypercorn's trio TCPServer, after trying both (hypercorn 0.18):
its writes are shielded from cancellation, so that one client that never reads held up a stop until it went away
(3.0 s of 3.0 s tried); one `read_timeout` serves for headers and for event streams, so that a slow header cannot be
bounded without cutting the streams; its own refusals carry neither our JSON nor our version; and a request costs
four to five times as much (benchmarks/socket_round_trip.py prints both).
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from skill_actors.errors import Refused
from skilld.http.connection import ASGIApp, Connection, Header, refuse
from skilld.http.descent import Ancestry
from skilld.http.limits import ServerLimits
from skilld.http.listener import Listener
from skilld.http.peer import Peer, PeerRefused, overflow_uid, read_peer

__all__ = ["HttpServer"]

_log = logging.getLogger(__name__)

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_EXHAUSTED_PAUSE_S: Final = 0.1
_COMPLAIN_EVERY_S: Final = 60.0
_PLACE_WAIT_S: Final = 0.1  # a client connects anew before it is seen that it left
_PLACE_STEPS: Final = 10  # one step alone is over when the process got no time for as long, and has seen nothing


class HttpServer:
    """Serves an ASGI app on a Unix socket; the scope holds the peer under "skilld.peer".

    Args:
        on_stranger: told why, when a connection was refused whose user is unknown. Must not wait.
        ancestry: tells of each peer for whom it acts; None: each acts for its own user.

    """

    def __init__(
        self,
        app: ASGIApp,
        limits: ServerLimits,
        version: str,
        *,
        on_stranger: Callable[[str], None] = lambda why: None,
        ancestry: Ancestry | None = None,
    ) -> None:
        self._on_stranger = on_stranger
        self._ancestry = ancestry
        self._app = app
        self._limits = limits
        self._headers: tuple[Header, ...] = ((b"skilld-version", version.encode("ascii")),)
        self._connections: set[Connection] = set()
        self._per_peer: Counter[Hashable] = Counter()
        self._turned_away: Counter[Hashable] = Counter()
        self._left = trio.lowlevel.ParkingLot()  # who waits until some connection has ended
        self._unknown_uid = overflow_uid()
        self._accepting = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._complained_at = -_COMPLAIN_EVERY_S

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def serve(self, listener: Listener, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept and serve until `drain` has done its work, or until cancelled. The listener is closed then."""
        sock = trio.socket.from_stdlib_socket(listener.sock)
        async with trio.open_nursery() as self._nursery:
            try:
                task_status.started()
                with self._accepting:
                    await self._accept(sock, self._nursery)
            finally:
                listener.close()

    def drain(self, grace_s: float) -> None:
        """Accept nobody any more, let answers under way end for `grace_s` seconds, then cut them; `serve` returns."""
        self._accepting.cancel()
        if self._nursery is not None:
            self._nursery.cancel_scope.deadline = trio.current_time() + grace_s
        for connection in tuple(self._connections):
            connection.finish()

    async def _accept(self, sock: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            try:
                accepted, _ = await sock.accept()
            except OSError as error:
                if error.errno == errno.ECONNABORTED:
                    continue
                if error.errno not in _EXHAUSTED:
                    raise
                self._complain(error)
                await trio.sleep(_EXHAUSTED_PAUSE_S)
                continue
            nursery.start_soon(self._meet, trio.SocketStream(accepted))

    def _complain(self, error: OSError) -> None:
        """Once a minute: a log that fills while descriptors are short helps nobody."""
        if trio.current_time() - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = trio.current_time()
            _log.error("cannot accept a connection (%s); trying again: raise LimitNOFILE", error.strerror)

    async def _meet(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                peer = read_peer(stream.socket, self._unknown_uid)
                if self._ancestry is not None:
                    peer = self._ancestry.told_of(peer, stream.socket)
            except PeerRefused as error:
                self._on_stranger(str(error))
                await self._turn_away(stream, -1, Refused("forbidden", str(error)))
                return
            counted = peer.uid if peer.agent is None else peer.agent  # no agent uses up what its daemon's user may have
            if self._is_full(counted) and not await self._place_is_given_back(counted):
                limit, who = self._limits.connections_per_peer, "user" if peer.agent is None else "agent"
                message = f"your {who} has {limit} connections open, the most allowed (limits.connections_per_peer)"
                await self._turn_away(stream, counted, Refused("overloaded", message, retry_after_s=1))
                return
            try:
                with _one_more(self._per_peer, counted):
                    await self._serve(stream, peer)
            finally:
                self._left.unpark_all()

    def _is_full(self, counted: Hashable) -> bool:
        return self._per_peer[counted] >= self._limits.connections_per_peer

    async def _place_is_given_back(self, counted: Hashable) -> bool:
        """Whether another connection ends in a moment; as many wait as are told that they are turned away."""
        with _one_more(self._turned_away, counted) as waiting:
            if waiting <= self._limits.connections_per_peer:
                for _ in range(_PLACE_STEPS):
                    with trio.move_on_after(_PLACE_WAIT_S / _PLACE_STEPS):
                        while self._is_full(counted):
                            await self._left.park()
        return not self._is_full(counted)

    async def _serve(self, stream: trio.SocketStream, peer: Peer) -> None:
        connection = Connection(stream, self._app, self._limits, self._headers, {"skilld.peer": peer})
        self._connections.add(connection)
        try:
            if self._accepting.cancel_called:
                connection.finish()
            await connection.run()
        except Exception:
            _log.exception("a connection of uid %d failed; the others go on", peer.uid)
        finally:
            self._connections.discard(connection)

    async def _turn_away(self, stream: trio.SocketStream, counted: Hashable, refused: Refused) -> None:
        """Say why, to a bounded number of callers at once; to the rest nothing. The caller closes."""
        with _one_more(self._turned_away, counted) as told:
            if told <= self._limits.connections_per_peer:
                await refuse(stream, refused, self._headers)


@contextmanager
def _one_more(count: Counter[Hashable], key: Hashable) -> Iterator[int]:
    """How many there are with this one, while it lasts."""
    count[key] += 1
    try:
        yield count[key]
    finally:
        count[key] -= 1
        if not count[key]:
            del count[key]
