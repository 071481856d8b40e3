"""The metrics once more, for a Prometheus that cannot speak to a Unix socket: on loopback, and nothing else there.

Everybody on the host can read it, so it says what `GET /metrics` says and takes no other path. It listens on loopback
only; what Prometheus on another host needs (TLS, a password) is a reverse proxy's business.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from skill_actors.runtime import TrioActor
from skilld.http.connection import Connection
from skilld.http.limits import ServerLimits
from skilld.loopback import is_local_host, loopback_address
from skilld.metrics import METRICS_TYPE

__all__ = ["MetricsPage"]

_log = logging.getLogger(__name__)

_LIMITS: Final = ServerLimits(max_header_bytes=16 << 10, max_body_bytes=0, idle_timeout_s=90.0)
_MAX_CONNECTIONS: Final = 32
_EXHAUSTED_PAUSE_S: Final = 0.2


class MetricsPage(TrioActor):
    """Serves `GET /metrics` on a TCP port of loopback.

    Args:
        listen: as `loopback_address` takes it. Port 0: any; the log says which.
        render: the page.
        version: goes into every answer.

    """

    def __init__(self, listen: str, render: Callable[[], Awaitable[bytes]], version: str) -> None:
        super().__init__()
        self._host, self._port = loopback_address(listen)
        self._render = render
        self._headers = ((b"skilld-version", version.encode("ascii")),)
        self._open = 0

    async def setup(self) -> None:
        """Bind. Raises OSError if somebody listens there; the supervisor tries again."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await listener.bind((self._host, self._port))
            listener.listen(_MAX_CONNECTIONS)
        except OSError as error:
            listener.close()
            raise OSError(error.errno, f"metrics.listen: {self._host}:{self._port}: {error.strerror}") from error
        _log.info("metrics on http://%s:%d/metrics", *listener.getsockname()[:2])
        self.spawn(self._serve, listener)

    async def _serve(self, listener: trio.socket.SocketType) -> None:
        with listener:
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        accepted, _ = await listener.accept()
                    except OSError as error:
                        if error.errno == errno.ECONNABORTED:
                            continue
                        await trio.sleep(_EXHAUSTED_PAUSE_S)  # descriptors are short; the socket's server complains
                        continue
                    if self._open >= _MAX_CONNECTIONS:
                        accepted.close()
                        continue
                    self._open += 1
                    nursery.start_soon(self._answer, trio.SocketStream(accepted))

    async def _answer(self, stream: trio.SocketStream) -> None:
        try:
            await Connection(stream, self._app, _LIMITS, self._headers, {}).run()
        except Exception:
            _log.exception("a connection to the metrics failed; the others go on")
        finally:
            self._open -= 1

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._respond(Request(scope)))(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if not is_local_host(request.headers.get("host", "")):
            return PlainTextResponse("Host: expected localhost or an address\n", status_code=421)
        if request.url.path != "/metrics":
            return PlainTextResponse("here is nothing but /metrics; the API is on the Unix socket\n", status_code=404)
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("GET only\n", status_code=405, headers={"allow": "GET, HEAD"})
        return Response(await self._render(), headers={"content-type": METRICS_TYPE})
