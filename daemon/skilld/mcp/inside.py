"""The client for the daemon itself: requests that go to its own interface without a socket, in somebody's name.

What a route checks it checks here too: the peer that calls has its own rights, and nothing of the daemon's.
"""

from __future__ import annotations

from typing import Any, Final

import httpx
import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from skilld.client import AsyncClient
from skilld.client.errors import RequestTimeout
from skilld.client.wire import Request, Response
from skilld.http.peer import Peer

__all__ = ["InsideClient"]

_BASE_URL: Final = "http://skilld"


class InsideClient(AsyncClient):
    """Speaks to `app` as `peer`. It streams nothing: a call that follows events is refused by its transport."""

    def __init__(self, app: ASGIApp, peer: Peer) -> None:
        super().__init__("/nonexistent/inside")
        self._transport: Any = _Inside(app, peer)


class _Inside:
    """A transport as `AsyncHttpxTransport` is one."""

    def __init__(self, app: ASGIApp, peer: Peer) -> None:
        async def called(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "skilld.peer": peer}, receive, send)

        transport = httpx.ASGITransport(called)
        self._client = httpx.AsyncClient(transport=transport, base_url=_BASE_URL, trust_env=False)

    async def request(self, request: Request) -> Response:
        """Call, and read the whole answer."""
        built = self._client.build_request(
            request.method, request.target, headers=dict(request.headers), content=request.body or None
        )
        with trio.move_on_after(request.timeout_s):
            answer = await self._client.send(built)
            return Response(status=answer.status_code, headers=answer.headers, body=answer.content)
        raise RequestTimeout(f"no answer to {request.method} {request.target} within {request.timeout_s} s")

    async def aclose(self) -> None:
        """Nothing is held."""
        await self._client.aclose()
