"""An answer of many lines that are made while they are sent, so that it may be larger than the memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

__all__ = ["LineStream"]

_PIECE_BYTES: Final = 64 << 10


class LineStream(Response):
    """Text lines without their ends, as `media_type`.

    Args:
        opened: entered when the answer begins. If the lines fail on the way the connection is cut.
        filename: what a browser would call it.

    """

    def __init__(
        self, opened: AbstractAsyncContextManager[AsyncIterator[str]], *, media_type: str, filename: str
    ) -> None:
        disposition = f'attachment; filename="{filename}"'
        super().__init__(headers={"content-disposition": disposition}, media_type=media_type)
        del self.headers["content-length"]
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened as lines:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            piece = bytearray()
            async for line in lines:
                piece += f"{line}\n".encode()
                if len(piece) >= _PIECE_BYTES:
                    await send({"type": "http.response.body", "body": bytes(piece), "more_body": True})
                    piece.clear()
            await send({"type": "http.response.body", "body": bytes(piece), "more_body": False})
