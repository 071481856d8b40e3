"""Events as a stream: server-sent events, or one JSON object a line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skill_actors.errors import Refused
from skill_actors.sessions.events import Event
from skill_actors.store import DamagedRow
from skilld.http.connection import ClientGone
from skilld.http.errors import damage_refusal, error_body

__all__ = ["JSON_LINES", "SSE", "EventStream", "as_json_line", "as_sse"]

SSE: Final = "text/event-stream"
JSON_LINES: Final = "application/x-ndjson"
KEEP_ALIVE_S: Final = 15.0
_PIECE_BYTES: Final = 64 << 10  # stored events go out together up to about this: a send costs more than an event

Opened = AbstractAsyncContextManager[AsyncIterator[Event]]


def as_sse(event: Event) -> bytes:
    """One server-sent event: its id is the position from which to resume. JSON holds no raw line ends."""
    return f"id: {event.position}\nevent: {event.type}\ndata: {event.to_json()}\n\n".encode()


def as_json_line(event: Event) -> bytes:
    """One line of JSON. A live delta also carries `offset`, since a line has no id to carry it."""
    if event.offset is None:
        return f"{event.to_json()}\n".encode()
    return f'{event.to_json()[:-1]},"offset":{event.offset}}}\n'.encode()


class EventStream(Response):
    """An answer that lasts as long as its events, or as long as the client.

    Args:
        opened: entered when the answer begins; left at once when the client leaves. If what it gives has `buffered`,
            how many events can be had without waiting, these are sent together.
        sse: server-sent events with a comment every 15 s of silence; else JSON lines.
        on_disconnect: awaited when the client left before the last event. Not called on a stop of the daemon.

    """

    def __init__(
        self,
        opened: Opened,
        *,
        sse: bool,
        on_disconnect: Callable[[], Awaitable[None]] | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store"}, media_type=SSE if sse else JSON_LINES)
        del self.headers["content-length"]
        self._opened = opened
        self._sse = sse
        self._on_disconnect = on_disconnect
        self._keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it.

        Damage in the store ends it with an error in the place of an event, since to resume is of no use.

        Raises:
            Exception: whatever else the events raise; the answer is then cut, which tells the client to resume.

        """
        # Entered outside the nursery below: an event source may own tasks, which must outlive those that read it.
        async with self._opened as events:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            delivery = _Delivery(receive, send, self._keep_alive_s if self._sse else None)
            await delivery.run(events, as_sse if self._sse else as_json_line)
        if not delivery.left:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif self._on_disconnect is not None:
            await self._on_disconnect()


class _Delivery:
    """Events going out while somebody watches whether the client is still there."""

    def __init__(self, receive: Receive, send: Send, keep_alive_s: float | None) -> None:
        self._receive = receive
        self._send = send
        self._keep_alive_s = keep_alive_s
        self._writing = trio.Lock()
        self._written_at = trio.current_time()
        self._failure: Exception | None = None
        self.left = False

    async def run(self, events: AsyncIterator[Event], encode: Callable[[Event], bytes]) -> None:
        """Return after the last event, or when the client has left; raise what the events raise."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            if self._keep_alive_s is not None:
                nursery.start_soon(self._keep_alive, self._keep_alive_s, nursery.cancel_scope)
            await self._deliver(events, encode)
            nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    async def _deliver(self, events: AsyncIterator[Event], encode: Callable[[Event], bytes]) -> None:
        try:
            await self._write(b"")  # the head at once: the first event may be hours away
            piece = bytearray()
            async for event in events:
                piece += encode(event)
                if len(piece) >= _PIECE_BYTES or not getattr(events, "buffered", 0):
                    await self._write(bytes(piece))
                    piece.clear()
            await self._writing.acquire()  # a keep-alive comment half sent would garble the end; kept for good
        except ClientGone:
            self.left = True
        except DamagedRow as error:
            await self._write(self._last_word(damage_refusal(error)))
            await self._writing.acquire()
        except Exception as error:
            self._failure = error  # raised after the nursery, from which it would come wrapped in a group

    def _last_word(self, refused: Refused) -> bytes:
        """The error in the place of an event: to read on is of no use."""
        _, body = error_body(refused)
        return b"event: error\ndata: " + body + b"\n\n" if self._keep_alive_s is not None else body + b"\n"

    async def _write(self, piece: bytes) -> None:
        async with self._writing:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            self._written_at = trio.current_time()

    async def _watch(self, scope: trio.CancelScope) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left = True
        scope.cancel()

    async def _keep_alive(self, silence_s: float, scope: trio.CancelScope) -> None:
        while True:
            await trio.sleep_until(self._written_at + silence_s)
            if trio.current_time() - self._written_at < silence_s:
                continue
            try:
                await self._write(b": still here\n\n")
            except ClientGone:
                self.left = True
                scope.cancel()
                return
