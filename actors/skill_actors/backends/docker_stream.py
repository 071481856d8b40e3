"""The standard streams of a container, as one trio stream.

By hand and not by the SDK: closing what the SDK returns does not close the connection, and a container that waits for
the end of its stdin would wait for ever.
"""

from __future__ import annotations

import ssl
import struct
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from .base import BackendUnavailable

__all__ = ["AttachedStream", "Demultiplexer", "attach"]

_STDOUT: Final = 1
_HEADER: Final = struct.Struct(">BxxxL")
_READ_BYTES: Final = 65_536
_MAX_FRAME: Final = 64 << 20
_MAX_NOISE: Final = 4_000
_ANSWER_S: Final = 30.0


class Demultiplexer:
    """Bytes in, what stdout held out; the first of stderr is kept in `noise`."""

    def __init__(self) -> None:
        self.noise = b""
        self._buffer = bytearray()
        self._left = 0
        self._kind = 0

    def feed(self, data: bytes) -> bytes:
        """Raises ValueError if it is not what an engine sends."""
        self._buffer += data
        out = bytearray()
        while True:
            if not self._left:
                if len(self._buffer) < _HEADER.size:
                    return bytes(out)
                self._kind, self._left = _HEADER.unpack_from(self._buffer)
                if self._kind > 3 or self._left > _MAX_FRAME:
                    raise ValueError(f"a frame of kind {self._kind} with {self._left} bytes")
                del self._buffer[: _HEADER.size]
                continue
            taken = bytes(self._buffer[: self._left])
            if not taken:
                return bytes(out)
            del self._buffer[: len(taken)]
            self._left -= len(taken)
            if self._kind == _STDOUT:
                out += taken
            else:
                self.noise = (self.noise + taken)[:_MAX_NOISE]


class AttachedStream(trio.abc.Stream):
    """Writes to stdin, reads stdout. Closing it ends the container's stdin."""

    def __init__(self, stream: trio.abc.Stream, early: bytes) -> None:
        self._stream = stream
        self._early = early
        self._frames = Demultiplexer()

    @property
    def noise(self) -> str:
        """What came on stderr."""
        return self._frames.noise.decode(errors="replace").strip()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At least one byte, or none at the end. `max_bytes` is a wish."""
        while True:
            data, self._early = self._early or bytes(await self._stream.receive_some(_READ_BYTES)), b""
            if not data:
                return b""
            try:
                out = self._frames.feed(data)
            except ValueError as error:
                raise trio.BrokenResourceError(f"the engine sent what is no stream: {error}") from error
            if out:
                return out

    async def aclose(self) -> None:
        await self._stream.aclose()


async def attach(address: str, container: str, tls: ssl.SSLContext | None = None) -> AttachedStream:
    """Attach to a container that has not been started yet, so that nothing is missed. Raises BackendUnavailable."""
    stream = await _connect(address, tls)
    try:
        with trio.fail_after(_ANSWER_S):
            early = await _upgrade(stream, container)
    except (trio.BrokenResourceError, trio.TooSlowError, h11.RemoteProtocolError) as error:
        await trio.aclose_forcefully(stream)
        raise BackendUnavailable(f"the container engine at {address} does not let us attach: {error!r}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return AttachedStream(stream, early)


async def _connect(address: str, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    parts = urlsplit(address)
    try:
        if parts.scheme == "unix":
            return await trio.open_unix_socket(parts.path)
        if parts.scheme == "tcp" and parts.hostname and parts.port:
            plain = await trio.open_tcp_stream(parts.hostname, parts.port)
            if tls is None:
                return plain
            return trio.SSLStream(plain, tls, server_hostname=parts.hostname, https_compatible=True)
    except OSError as error:
        raise BackendUnavailable(f"no container engine at {address}: {error}; start it") from error
    raise BackendUnavailable(f"the docker backend cannot use the address {address!r}; unix:///path and tcp://host:port")


async def _upgrade(stream: trio.abc.Stream, container: str) -> bytes:
    """Ask for the streams; what came with the answer."""
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(
        method="POST",
        target=f"/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1",
        headers=[("Host", "docker"), ("Upgrade", "tcp"), ("Connection", "Upgrade"), ("Content-Length", "0")],
    )
    await stream.send_all((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
        elif isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            return bytes(connection.trailing_data[0])
        elif isinstance(event, h11.Response):
            raise BackendUnavailable(
                f"the container engine answered {event.status_code} when asked for a container's streams; "
                "see the engine's log"
            )
