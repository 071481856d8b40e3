"""The daemon's state as one file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skilld.http.route import Call, Route

__all__ = ["ROUTES"]

_TAR: Final = "application/x-tar"


class _Archive(Response):
    """Sends the pieces as they are made. What fails before the first is answered; later, the answer is cut."""

    def __init__(self, opened: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> None:
        super().__init__(headers={"cache-control": "no-store"}, media_type=_TAR)
        del self.headers["content-length"]
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened as pieces:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def backup(call: Call) -> Response:
    return _Archive(call.services.backup())


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/backup",
        handler=backup,
        permission="admin",
        summary="Everything the daemon keeps, as one tar; the manifest, its last member, tells that it is whole.",
        media=(_TAR,),
    ),
)
