"""The proxy of one container that has no network: it connects to what an allow-list permits, and to nothing else.

It is reached by a Unix socket in a folder that only this container sees (`container_forward` is its other end), and
speaks HTTP/1.1: CONNECT for what is encrypted, and plain requests with an absolute target. A name is judged, resolved
here, once, and each address is judged too; the connection goes to that address. It follows no redirect and knows no
way around the list; what it refuses, it refuses with the reason in the status line, where programs show it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from .container_forward import SOCKET
from .egress_rules import Address, Rule, address_of, may_connect, may_name, normal_host

__all__ = ["Egress", "EgressRefused", "Target", "is_of_this_host", "listening_in", "target_of"]

_log = logging.getLogger(__name__)

_CONNECTIONS: Final = 32
_REQUEST_S: Final = 15.0  # for a request's head
_CONNECT_S: Final = 10.0  # for each address
_IDLE_S: Final = 120.0
_READ_BYTES: Final = 65_536
_MAX_ADDRESSES: Final = 4
_LOOKUPS: Final = 4  # threads that one container may hold with names that nobody answers for
_FULL_S: Final = 0.5  # before the next try where the system has no more descriptors
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED})
_ELSEWHERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"expect", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"}
    | {b"te", b"trailer", b"upgrade"}
)
_ENDS: Final = (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError, h11.LocalProtocolError)

Headers = Iterable[tuple[bytes, bytes]]
Stream = trio.abc.HalfCloseableStream


class EgressRefused(Exception):
    """A request that is not carried out. `status` of HTTP; the text is for whoever sent it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request wants to go. `path` is None for a tunnel."""

    host: str
    port: int
    path: bytes | None


def target_of(method: bytes, target: bytes) -> Target:
    """What the request line of a proxy means. Raises EgressRefused."""
    text = target.decode("ascii", "replace")
    if method == b"CONNECT":
        found = re.fullmatch(r"(.+):([0-9]{1,5})", text)
        host, port, path = (found[1], int(found[2]), None) if found is not None else ("", 0, None)
    else:
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", 80 if parts.port is None else parts.port
        except ValueError:
            parts, host, port = urlsplit(""), "", 0
        if parts.scheme == "https":
            raise EgressRefused(400, "https goes by CONNECT here")
        if parts.scheme != "http" or parts.username is not None or "@" in parts.netloc:
            host = ""
        path = target.partition(b"//")[2]
        path = path[len(parts.netloc) :].partition(b"#")[0]
        path = path if path.startswith(b"/") else b"/" + path
    name = normal_host(host)
    if name is None or not 0 < port < 65_536:
        raise EgressRefused(400, f"this is a proxy; it cannot use the target {text[:100]!a}")
    return Target(name, port, path)


def listening_in(folder: Path) -> socket.socket:
    """Listen in this folder, for whoever sees it: all users of a container. Blocks. Raises OSError."""
    folder.chmod(0o755)
    made = socket.socket(socket.AF_UNIX)
    try:
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            made.bind(f"/proc/self/fd/{place}/{SOCKET}")  # its own path may be longer than an address can be
        finally:
            os.close(place)
        (folder / SOCKET).chmod(0o666)
        made.listen(_CONNECTIONS)
    except BaseException:
        made.close()
        raise
    return made


class Egress:
    """Serves one container.

    Args:
        rules: what may be reached.
        shared: how many connections all containers together may have.
        max_bytes: sent and received together; 0 for no limit.
        resolve: a name to its addresses; raises OSError.
        dial: connects to an address and a port; raises OSError.
        own: whether this host itself has an address.

    """

    def __init__(
        self,
        rules: Sequence[Rule],
        shared: trio.Semaphore,
        *,
        max_bytes: int = 0,
        resolve: Callable[[str], Awaitable[Sequence[Address]]] | None = None,
        dial: Callable[[Address, int], Awaitable[Stream]] | None = None,
        own: Callable[[Address], bool] | None = None,
    ) -> None:
        self._rules = rules
        self._shared = shared
        self._own = trio.Semaphore(_CONNECTIONS)
        self._left = max_bytes if max_bytes else None
        self._resolve = resolve or partial(_resolve, trio.CapacityLimiter(_LOOKUPS))
        self._dial = dial or _dial
        self._own_address = own or is_of_this_host

    async def serve(self, listener: trio.abc.Listener[trio.SocketStream]) -> None:
        """Take connections until it is cancelled: then all of them end. More than are allowed wait, unseen."""
        async with listener, trio.open_nursery() as nursery:
            while True:
                await self._own.acquire()
                stream = await self._accept(listener)
                try:
                    await self._shared.acquire()
                except BaseException:
                    await trio.aclose_forcefully(stream)
                    raise
                nursery.start_soon(self._serve, stream)

    async def _accept(self, listener: trio.abc.Listener[trio.SocketStream]) -> Stream:
        while True:
            try:
                return await listener.accept()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                await trio.sleep(_FULL_S)

    async def _serve(self, stream: Stream) -> None:
        try:
            await self.handle(stream)
        finally:
            self._own.release()
            self._shared.release()

    async def handle(self, stream: Stream) -> None:
        """One connection, one request. Whatever comes of it ends this connection only."""
        try:
            async with stream:
                await _Exchange(stream, self).run()
        except (*_ENDS, EgressRefused):
            pass  # one of the two sides has gone, or says what is no HTTP; or all bytes are spent
        except Exception:
            _log.exception("a connection of a container's proxy failed")

    def spend(self, count: int) -> None:
        """Raise EgressRefused where the container has had all its bytes."""
        if self._left is None:
            return
        self._left -= count
        if self._left < 0:
            raise EgressRefused(403, "this container has sent and received all that it may; see network_bytes")

    async def connect(self, target: Target) -> Stream:
        """To an address of the target that may be connected to. Raises EgressRefused."""
        self.spend(0)
        if not may_name(self._rules, target.host, target.port):
            listed = ", ".join(map(str, self._rules))[:300]
            raise EgressRefused(403, f"{target.host}:{target.port} may not be reached from here, only {listed}")
        addresses = await self._addresses(target)
        good = [
            address
            for address in addresses
            if may_connect(self._rules, address, target.port, own=self._own_address(address))
        ]
        if not good:
            raise EgressRefused(
                403,
                f"{target.host} is at {addresses[0]}, which is not public, or of this host, and can only be allowed by "
                "its address",
            )
        for address in good[:_MAX_ADDRESSES]:
            with contextlib.suppress(OSError), trio.move_on_after(_CONNECT_S):
                return await self._dial(address, target.port)
        raise EgressRefused(502, f"{target.host}:{target.port} does not answer")

    async def _addresses(self, target: Target) -> Sequence[Address]:
        address = address_of(target.host)
        if address is not None:
            return [address]
        found: Sequence[Address] = ()
        with contextlib.suppress(OSError, UnicodeError), trio.move_on_after(_CONNECT_S):
            found = await self._resolve(target.host)
        if not found:
            raise EgressRefused(502, f"the name {target.host} has no address")
        return found


class _Exchange:
    """What comes on one connection: a request, and its answer or a tunnel."""

    def __init__(self, near: Stream, egress: Egress) -> None:
        self._near = near
        self._egress = egress
        self._http = h11.Connection(h11.SERVER)
        self._idle = trio.CancelScope()

    async def run(self) -> None:
        try:
            with trio.fail_after(_REQUEST_S):
                request = await self._next(self._http, self._near)
            if not isinstance(request, h11.Request):
                return
            target = target_of(request.method, request.target)
            far = await self._egress.connect(target)
        except trio.TooSlowError:
            return
        except h11.RemoteProtocolError:
            await self._refuse(EgressRefused(400, "this is no request"))
            return
        except EgressRefused as refusal:
            await self._refuse(refusal)
            return
        with self._idle:
            self._alive(0)
            async with far:
                if target.path is None:
                    await self._tunnel(far)
                else:
                    await self._forward(request, target, far)

    def _alive(self, count: int) -> None:
        self._idle.deadline = trio.current_time() + _IDLE_S
        self._egress.spend(count)

    async def _refuse(self, refusal: EgressRefused) -> None:
        text = f"{refusal}\n".encode()
        _log.debug("a container's proxy refused: %s", refusal)  # what is not trusted decides how often
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text))), ("Connection", "close")]
        answer = h11.Response(status_code=refusal.status, reason=str(refusal).encode(), headers=headers)
        data = b"".join(self._http.send(event) or b"" for event in (answer, h11.Data(data=text), h11.EndOfMessage()))
        with trio.move_on_after(_REQUEST_S):
            await self._near.send_all(data)
            await self._near.send_eof()
            while await self._near.receive_some(_READ_BYTES):
                pass  # or the answer could be lost with what was not read

    # A tunnel

    async def _tunnel(self, far: Stream) -> None:
        await self._send(self._http, self._near, h11.Response(status_code=200, reason=b"connected", headers=[]))
        early = self._http.trailing_data[0]
        if early:
            self._alive(len(early))
            await far.send_all(early)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, self._near, far)
            nursery.start_soon(self._copy, far, self._near)

    async def _copy(self, source: Stream, sink: Stream) -> None:
        try:
            while data := await source.receive_some(_READ_BYTES):
                self._alive(len(data))
                await sink.send_all(data)
            await sink.send_eof()
        except (*_ENDS, EgressRefused):
            self._idle.cancel()  # in a tunnel nobody can be told why

    # A plain request

    async def _forward(self, request: h11.Request, target: Target, far: Stream) -> None:
        upstream = h11.Connection(h11.CLIENT)
        host = f"[{target.host}]" if ":" in target.host else target.host
        named = host if target.port == 80 else f"{host}:{target.port}"
        headers = [(b"Host", named.encode()), *_end_to_end(request.headers.raw_items()), (b"Connection", b"close")]
        head = h11.Request(method=request.method, target=target.path or b"/", headers=headers)
        try:
            await self._send(upstream, far, head)
            await self._carry(self._http, self._near, upstream, far)
            answer = await self._answer(upstream, far)
            await self._send(self._http, self._near, answer)
            await self._carry(upstream, far, self._http, self._near)
        except EgressRefused as refusal:
            await self._refuse(refusal)

    async def _answer(self, upstream: h11.Connection, far: Stream) -> h11.Response:
        while True:
            event = await self._next(upstream, far)
            if isinstance(event, h11.Response):
                headers = [*_end_to_end(event.headers.raw_items()), (b"Connection", b"close")]
                return h11.Response(status_code=event.status_code, reason=event.reason, headers=headers)
            if not isinstance(event, h11.InformationalResponse):
                raise EgressRefused(502, "the server gave no answer")

    async def _carry(self, source: h11.Connection, from_: Stream, sink: h11.Connection, to: Stream) -> None:
        """A body, to its end."""
        while True:
            event = await self._next(source, from_)
            if isinstance(event, h11.Data):
                await self._send(sink, to, h11.Data(data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self._send(sink, to, h11.EndOfMessage())
                return
            else:
                raise trio.BrokenResourceError("it ended in the middle")

    async def _next(self, http: h11.Connection, stream: Stream) -> object:
        while True:
            event = http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await stream.send_all(http.send(go_on) or b"")
            data = await stream.receive_some(_READ_BYTES)
            self._alive(len(data))
            http.receive_data(bytes(data))

    async def _send(self, http: h11.Connection, stream: Stream, event: h11.Event) -> None:
        await stream.send_all(http.send(event) or b"")


def _end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Those for the other side. How long the body is, is said in one way only."""
    listed = list(headers)
    named = {
        name.strip().lower() for key, value in listed if key.lower() == b"connection" for name in value.split(b",")
    }
    chunked = any(key.lower() == b"transfer-encoding" for key, _ in listed)
    dropped = _HOP_BY_HOP | named | {b"host"} | ({b"content-length"} if chunked else set())
    return [(key, value) for key, value in listed if key.lower() not in dropped]


async def _dial(address: Address, port: int) -> Stream:
    return await trio.open_tcp_stream(str(address), port)


def is_of_this_host(address: Address) -> bool:
    """Whether it can be bound to: so every address where the system lets anybody bind any (ip_nonlocal_bind)."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in _ELSEWHERE
    return True


async def _resolve(threads: trio.CapacityLimiter, name: str) -> Sequence[Address]:
    """In threads of its own: a name can keep one for long, and those of `trio.socket` are everybody's."""
    look_up = partial(socket.getaddrinfo, name, None, type=socket.SOCK_STREAM)
    found = await trio.to_thread.run_sync(look_up, limiter=threads, abandon_on_cancel=True)
    addresses = [address_of(str(entry[4][0])) for entry in found]
    return [address for address in dict.fromkeys(addresses) if address is not None]
