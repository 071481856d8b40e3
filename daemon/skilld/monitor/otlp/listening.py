"""The actor of OTLP: a TCP port of loopback, a Unix socket, or both, and whose each connection is."""

from __future__ import annotations

import errno
import logging
import socket
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from skill_actors.errors import Refused
from skill_actors.models.credentials import KeyFile
from skill_actors.runtime import ChildSpec, TrioActor
from skilld.http.connection import Connection, refuse
from skilld.http.limits import ServerLimits
from skilld.http.listener import Listener, open_listener
from skilld.http.peer import Peer, PeerRefused, overflow_uid, read_peer
from skilld.loopback import loopback_address
from skilld.monitor.batch import Batch
from skilld.monitor.inspected import Origin
from skilld.monitor.keeper import count_batch, may_report, report
from skilld.monitor.otlp.receiver import OtlpReceiver, Rules
from skilld.monitor.otlp.tcp_peer import OwnerGone, groups_of, tcp_owner
from skilld.monitor.store import Written

if TYPE_CHECKING:
    from skilld.parts import Parts

__all__ = ["OtlpListener", "otlp_children"]

_log = logging.getLogger(__name__)

_MAX_CONNECTIONS: Final = 128
_EXHAUSTED_PAUSE_S: Final = 0.2


class OtlpListener(TrioActor):
    """Serves OTLP over HTTP until it is stopped."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts
        self._config = parts.config.monitor.otlp
        self._unknown_uid = overflow_uid()
        self._open: Counter[int] = Counter()
        self._headers = ((b"skilld-version", parts.version.encode("ascii")),)
        limits = parts.config.limits
        self._limits = ServerLimits(
            max_header_bytes=limits.max_header_bytes, max_body_bytes=self._config.max_bytes, idle_timeout_s=90.0
        )
        token_file = self._config.token_file
        self._app = OtlpReceiver(
            Rules(
                max_bytes=self._config.max_bytes,
                token=None if token_file is None else KeyFile(token_file, what="token"),
                keep=self._config.spans,
            ),
            lambda: parts.monitor.get().rates,
            self._write,
            self._may_report,
            on_written=self._count,
            on_answer=lambda outcome: parts.bus.emit("monitor.otlp", {}, {"outcome": outcome}),
        )

    async def setup(self) -> None:
        """Bind. Raises OSError or ListenerError if somebody listens there; the supervisor tries again."""
        config = self._config
        if config.listen:
            port = await _bind(config.listen)
            _log.info("OTLP on http://%s:%d", *port.getsockname()[:2])
            self.spawn(self._serve_tcp, port)
        if config.socket is not None:
            shared = self._parts.config.roles.report.names_anybody
            listener = open_listener(config.socket, {}, shared=shared)
            _log.info("OTLP at %s", config.socket)
            self.spawn(self._serve_unix, listener)

    async def _serve_tcp(self, port: trio.socket.SocketType) -> None:
        with port:
            await self._accept(port, tcp=True)

    async def _serve_unix(self, listener: Listener) -> None:
        try:
            await self._accept(trio.socket.from_stdlib_socket(listener.sock), tcp=False)
        finally:
            listener.close()

    async def _accept(self, sock: trio.socket.SocketType, *, tcp: bool) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    accepted, _ = await sock.accept()
                except OSError as error:
                    if error.errno != errno.ECONNABORTED:
                        await trio.sleep(_EXHAUSTED_PAUSE_S)  # descriptors are short; the socket's server complains
                    continue
                if self._open.total() >= _MAX_CONNECTIONS:
                    accepted.close()
                    continue
                nursery.start_soon(self._meet, trio.SocketStream(accepted), tcp)

    async def _meet(self, stream: trio.SocketStream, tcp: bool) -> None:
        async with stream:
            self._open[-1] += 1  # until it is known whose it is
            counted = -1
            try:
                peer = await self._peer_of(stream, tcp)
                self._open.subtract([-1])
                counted = peer.uid
                self._open[counted] += 1
                if self._open[counted] > self._parts.config.limits.connections_per_peer:
                    return
                extra = {"skilld.peer": peer, "skilld.tcp": tcp}
                await Connection(stream, self._app, self._limits, self._headers, extra).run()
            except PeerRefused as error:
                self._parts.bus.emit("monitor.otlp", {}, {"outcome": "forbidden"})
                await refuse(stream, Refused("forbidden", f"{error}; see monitor.otlp.uid"), self._headers)
            except OSError:
                return  # it went away
            except Exception:
                _log.exception("a connection of OTLP failed; the others go on")
            finally:
                self._open.subtract([counted])

    async def _peer_of(self, stream: trio.SocketStream, tcp: bool) -> Peer:
        """Whose the connection is. Raises PeerRefused where nobody knows, and nobody is configured for that."""
        if not tcp:
            return read_peer(stream.socket, self._unknown_uid)
        peer, own = stream.socket.getpeername()[:2], stream.socket.getsockname()[:2]
        try:
            uid = await trio.to_thread.run_sync(partial(tcp_owner, peer, own))
        except OwnerGone as error:
            raise PeerRefused("its program has closed it, and nobody can say any more whose it was") from error
        if uid is None:
            stream.socket.getpeername()  # raises of one that was reset, and was in the table before
        if uid is None or uid == self._unknown_uid:
            uid = self._config.uid
        if uid is None:
            raise PeerRefused("the kernel does not say whose it is: a container's")
        groups = await trio.to_thread.run_sync(groups_of, uid)
        return Peer(uid=uid, gid=-1, pid=0, groups=groups)

    async def _write(self, batch: Batch, origin: Origin) -> Written:
        """Have a batch kept by its source, as those of the ingest socket."""
        return await report(self._parts, batch, origin)

    def _may_report(self, peer: Peer) -> bool:
        """As on the ingest socket; and whom the operator has named for connections whose user nobody knows."""
        return may_report(self._parts, peer, self._config.uid)

    def _count(self, batch: Batch, written: Written) -> None:
        count_batch(self._parts, batch, written)


async def _bind(listen: str) -> trio.socket.SocketType:
    host, number = loopback_address(listen)
    port = trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await port.bind((host, number))
        port.listen(_MAX_CONNECTIONS)
    except OSError as error:
        port.close()
        raise OSError(error.errno, f"monitor.otlp.listen: {host}:{number}: {error.strerror}") from error
    return port


def otlp_children(parts: Parts) -> list[ChildSpec]:
    """The actor of OTLP, where an address is configured."""
    config = parts.config.monitor
    if not config.enabled or not (config.otlp.listen or config.otlp.socket):
        return []
    return [ChildSpec(id="otlp", factory=lambda: OtlpListener(parts), isolated=True)]
