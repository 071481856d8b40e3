"""Event streams for trio programs: h11 over a trio socket, one connection a stream.

Not through httpx: it reads a body through six nested async generators and closes none of them, so leaving a stream
before its end, which is what followers do, makes trio warn and leaves the clean-up to the garbage collector.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio

from skilld.client.errors import ConnectionLost, DaemonUnreachable
from skilld.client.exchange import Exchange
from skilld.client.wire import Request

__all__ = ["AsyncAnswer", "open_stream"]

_CHUNK_BYTES = 64 * 1024


class AsyncAnswer:
    """An answer whose body is read as it comes."""

    def __init__(self, stream: trio.SocketStream, path: str, request: Request) -> None:
        self._stream = stream
        self._path = path
        self._request = request
        self._exchange = Exchange(path, request)

    @property
    def status(self) -> int:
        return self._exchange.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._exchange.headers

    async def begin(self) -> None:
        """Send the request and read the head of the answer."""
        # A daemon that refuses a large body answers before it has read it all: the answer says why.
        with contextlib.suppress(trio.BrokenResourceError):
            await self._stream.send_all(self._exchange.to_send())
        while not self._exchange.head():
            await self._receive()

    async def part(self) -> bytes | None:
        """The next piece of the body, None at its end.

        Raises:
            ConnectionLost: if it breaks off, or nothing came for the request's timeout.

        """
        while (part := self._exchange.part()) == b"":
            await self._receive()
        return part

    async def rest(self) -> bytes:
        """What is left of the body."""
        parts = []
        while (part := await self.part()) is not None:
            parts.append(part)
        return b"".join(parts)

    async def _receive(self) -> None:
        try:
            with trio.fail_after(self._request.timeout_s):
                data = await self._stream.receive_some(_CHUNK_BYTES)
        except trio.TooSlowError as error:
            raise ConnectionLost(self._path, f"the daemon was silent for {self._request.timeout_s} s") from error
        except trio.BrokenResourceError as error:
            raise ConnectionLost(self._path, str(error.__cause__ or error)) from error
        self._exchange.receive(bytes(data))


@asynccontextmanager
async def open_stream(path: str, request: Request) -> AsyncIterator[AsyncAnswer]:
    """Send the request and read the head of the answer; the connection is closed behind the block.

    Raises:
        DaemonUnreachable: if nobody answers at the socket.
        ConnectionLost: if the connection breaks before the answer begins.

    """
    try:
        stream = await trio.open_unix_socket(path)
    except OSError as error:
        raise DaemonUnreachable.from_os_error(path, error) from error
    async with stream:
        answer = AsyncAnswer(stream, path, request)
        await answer.begin()
        yield answer
