"""One client's connection to the fake API: requests in, answers out, and whether the client is still there."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, assert_never

import h11
import trio

from skill_actors.testing.replies import Cut, Failure, Garbage, HttpError, Stall, StreamError

__all__ = ["Connection", "ConnectionOver", "sse"]


class ConnectionOver(Exception):
    """The connection serves no more requests."""


def sse(event: Mapping[str, Any]) -> str:
    """An event with a type, as a stream has it."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


class Connection:
    """HTTP/1.1 on `stream`, by h11. `number` counts the connections of a server."""

    def __init__(self, stream: trio.SocketStream, number: int) -> None:
        self.number = number
        self.request_id = ""
        self._stream = stream
        self._http = h11.Connection(h11.SERVER)
        self._wants_body = True

    async def receive(self) -> tuple[h11.Request, bytes] | None:
        """The next request with its body, or None when there is no further one."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        if self._http.our_state is not h11.IDLE:
            return None
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None
        self._wants_body = head.method != b"HEAD"
        content = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            content += event.data
        return (head, bytes(content)) if isinstance(event, h11.EndOfMessage) else None

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._stream.receive_some(65536))
        return event

    async def watch(self, work: Callable[..., Awaitable[None]], *args: object) -> bool:
        """Do the work; True if the client closed the connection meanwhile, and the work was given up."""
        gone = False

        async def look() -> None:
            nonlocal gone
            # Looked at, not read: bytes of a further request stay where they are (and mean that the client is there).
            if not await self._peek():
                gone = True
                nursery.cancel_scope.cancel()

        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            try:
                await work(*args)
            except (ConnectionOver, trio.BrokenResourceError) as error:
                failure = error  # raised outside, so that it does not come as a group
            nursery.cancel_scope.cancel()
        if failure is not None and not gone:
            raise failure
        return gone

    async def _peek(self) -> bytes:
        try:
            return await self._stream.socket.recv(1, trio.socket.MSG_PEEK)
        except OSError:
            return b""

    async def send_whole(self, status: int, content_type: str, body: bytes, headers: Mapping[str, str] = {}) -> None:
        length = {"content-length": str(len(body))}
        data = [h11.Data(data=body)] if self._wants_body else []
        await self._send(self._head(status, content_type, {**headers, **length}), *data, h11.EndOfMessage())

    async def send_error(self, error: HttpError, body: Mapping[str, Any]) -> None:
        """Once its delay is over; `body` where it has no text."""
        await trio.sleep(error.delay_s)
        wait = {"retry-after": f"{error.retry_after_s:g}"} if error.retry_after_s is not None else {}
        kind, text = ("application/json", json.dumps(body)) if error.text is None else ("text/html", error.text)
        await self.send_whole(error.status, kind, text.encode(), {**wait, **error.headers})

    async def begin_stream(self) -> None:
        await self._send(self._head(200, "text/event-stream; charset=utf-8", {"cache-control": "no-cache"}))

    async def send_text(self, text: str) -> None:
        await self._send(h11.Data(data=text.encode()))

    async def break_stream(
        self, failure: Failure, cut: Mapping[str, Any], error: Callable[[StreamError], Mapping[str, Any]]
    ) -> None:
        """End the stream as a reply says that it fails.

        Args:
            cut: the event that would have been next.
            error: the event by which the API tells of an error.

        """
        match failure:
            case StreamError():
                await self.send_text(sse(error(failure)))
            case Stall():
                await trio.sleep_forever()
            case Cut():
                if failure.mid_event:
                    await self.send_text(sse(cut)[: len(sse(cut)) // 2])
                raise ConnectionOver
            case Garbage():
                await self.send_text(failure.text)
            case _:
                assert_never(failure)
        await self.end_stream()

    async def end_stream(self) -> None:
        await self._send(h11.EndOfMessage())

    def _head(self, status: int, content_type: str, headers: Mapping[str, str]) -> h11.Response:
        common = {"content-type": content_type, "request-id": self.request_id}
        return h11.Response(status_code=status, headers=list({**common, **headers}.items()))

    async def _send(self, *events: h11.Event) -> None:
        await self._stream.send_all(b"".join(self._http.send(event) or b"" for event in events))
