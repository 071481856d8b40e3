"""A receiver of webhooks on the loopback: says what a test wants, and remembers what it was sent."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from https_kit import make_certificate
from wire_kit import is_whole, whole_request


@dataclass
class Receiver:
    """A running receiver. `answers` are statuses for the next requests, 0 for none at all; then it answers 204."""

    port: int
    certificate: Path | None
    answers: list[int] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)

    @property
    def url(self) -> str:
        return f"http{'s' if self.certificate else ''}://localhost:{self.port}/hook?key=in-the-url"

    async def wait_told(self, count: int) -> list[dict[str, Any]]:
        """What it was sent, once that is so many."""
        with trio.fail_after(20):
            while len(self.told) < count:
                self.changed = trio.Event()
                await self.changed.wait()
        return self.told

    async def serve(self, stream: trio.abc.Stream) -> None:
        try:
            data = await whole_request(stream)
            if not is_whole(data):
                return
            head, _, body = data.partition(b"\r\n\r\n")
            self.heads.append(head.decode("latin-1"))
            self.told.append(json.loads(body))
            self.changed.set()
            status = self.answers.pop(0) if self.answers else 204
            if status == 0:
                await trio.sleep_forever()
            await stream.send_all(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nlocation: /other\r\n\r\n".encode())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def receiver(folder: Path | None = None) -> AsyncIterator[Receiver]:
    """Serve; over https with a certificate for localhost if there is a folder to put it into."""
    context: ssl.SSLContext | None = None
    certificate: Path | None = None
    if folder is not None:
        certificate, key = make_certificate(folder, "localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

    async def serve(stream: trio.SocketStream) -> None:
        if context is None:
            await found.serve(stream)
        else:
            await found.serve(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        found = Receiver(listeners[0].socket.getsockname()[1], certificate)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield found
        nursery.cancel_scope.cancel()
