"""One HTTP/1.1 connection: h11 decides what the bytes mean, this moves them between a socket and an ASGI app.

States of a connection: idle (waiting for a request) -> head -> answering -> idle, until either side closes.
While an answer is under way the app may wait in `receive` for the client to leave. A half-closed client has only
said that it has no more requests: it still gets its answer. Gone is who closed both directions (POLLHUP) or whose
kernel refuses the bytes.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import h11
import trio

from skill_actors.errors import Refused
from skilld.http.errors import error_body
from skilld.http.limits import ServerLimits

__all__ = ["ASGIApp", "ClientGone", "Connection", "refuse"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
ASGIApp = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Header = tuple[bytes, bytes]

_log = logging.getLogger(__name__)

_READ_BYTES: Final = 64 << 10
_SLICE_BYTES: Final = 64 << 10
_LINGER_S: Final = 1.0
_HALF_CLOSED_POLL_S: Final = 0.25  # epoll, as trio offers it, cannot wait for the second half of a close


class ClientGone(OSError):
    """The client left, or does not read: nothing more can be said to it."""


class Connection:
    """Serves the requests of one stream, one after the other. `extra` goes into every ASGI scope."""

    def __init__(
        self,
        stream: trio.SocketStream,
        app: ASGIApp,
        limits: ServerLimits,
        headers: tuple[Header, ...],
        extra: Mapping[str, Any],
    ) -> None:
        self._stream = stream
        self._app = app
        self._limits = limits
        self._headers = headers
        self._extra = extra
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.max_header_bytes)
        self._idle: trio.CancelScope | None = None
        self._used = False  # whether a request has been read
        self._closing = False
        self._gone = False
        self._early = bytearray()  # sent by the client while an answer was under way

    async def run(self) -> None:
        """Serve until the connection ends. The stream is closed when this returns."""
        try:
            while not self._closing and await self._serve_one():
                self._recycle()
        finally:
            await trio.aclose_forcefully(self._stream)

    def finish(self) -> None:
        """Close at the end of the answer under way, or now if there is none."""
        self._closing = True
        if self._idle is not None:
            self._idle.cancel()

    async def _serve_one(self) -> bool:
        """Whether the connection can take another request."""
        try:
            request = await self._read_head()
        except h11.RemoteProtocolError as error:
            await self._reject(_refusal_of(error, self._limits))
            return False
        except trio.BrokenResourceError:
            return False
        if request is None:
            return False
        if _head_bytes(request) > self._limits.max_header_bytes:  # h11 bounds only what came without an end
            await self._reject(_header_too_large(self._limits))
            return False
        exchange = _Exchange(self, request)
        await self._answer(exchange, request)
        if exchange.complete and self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            return not self._gone
        if exchange.complete and not self._gone:
            await linger(self._stream)
        return False

    async def _read_head(self) -> h11.Request | None:
        """The next request; None if there is none."""
        timeout_s = self._limits.head_timeout_s if not self._used else self._limits.idle_timeout_s
        begun = False
        with trio.move_on_after(timeout_s) as self._idle:
            try:
                while (event := self._h11.next_event()) is h11.NEED_DATA:
                    self._h11.receive_data(await self._stream.receive_some(_READ_BYTES))
                    if not begun:
                        begun = True
                        self._idle.deadline = trio.current_time() + self._limits.head_timeout_s
            finally:
                self._idle = None
            self._used = True
            return event if isinstance(event, h11.Request) else None
        if begun and not self._closing:
            await self._reject(
                Refused("bad_request", f"the request's header was not complete in {self._limits.head_timeout_s:g} s")
            )
        return None

    async def _answer(self, exchange: _Exchange, request: h11.Request) -> None:
        try:
            scope = {**self._scope(request), "skilld.widen_body": exchange.widen_body}
            await self._app(scope, exchange.receive, exchange.send)
        except ClientGone:
            self._gone = True
        except Exception:
            _log.exception("the application failed on %s %s", request.method.decode(), _shown(request.target))
            if not exchange.started:
                await self._reject(Refused("internal", "the daemon failed on this request; its log says more"))
        else:
            if not exchange.complete and not self._gone:
                _log.error("the application left %s unanswered", _shown(request.target))

    def _scope(self, request: h11.Request) -> Scope:
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": None,
            "server": None,
            **self._extra,
        }

    def _recycle(self) -> None:
        self._h11.start_next_cycle()
        if self._early:
            self._h11.receive_data(bytes(self._early))
            self._early.clear()

    async def _reject(self, refused: Refused) -> None:
        """Say why and close, where the protocol still allows a word."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await refuse(self._stream, refused, self._headers)

    # What the exchange under way uses.

    async def read_body(self) -> bytes | None:
        """The next part of the body, b"" at its end; None if the client left in the middle.

        Raises:
            Refused: the body is malformed.
            trio.TooSlowError: via the caller's deadline.

        """
        if self._h11.they_are_waiting_for_100_continue:
            await self.transmit(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])))
        if self._h11.their_state not in (h11.SEND_BODY, h11.ERROR):  # a body that broke off has no end
            return b""  # its end was seen when the answer began: h11 would wait for the next request
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                if self._h11.trailing_data[1]:
                    return None
                raise Refused("bad_request", f"the request's body is malformed: {error}") from error
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if event is not h11.NEED_DATA:
                return b""
            try:
                self._h11.receive_data(await self._stream.receive_some(_READ_BYTES))
            except trio.BrokenResourceError:
                return None

    async def wait_gone(self) -> None:
        """Return when the client has closed its end for good."""
        while not self._gone:
            try:
                # Bounded: who sends more than this ahead of the answer waits for the answer.
                if len(self._early) <= self._limits.max_header_bytes:
                    data = await self._stream.receive_some(_READ_BYTES)
                    self._early += data
                    if data:
                        continue
            except trio.BrokenResourceError:
                break
            self._gone = _hung_up(self._stream)
            await trio.sleep(0 if self._gone else _HALF_CLOSED_POLL_S)
        self._gone = True

    def finish_body(self) -> bool:
        """Whether the body has ended, looking only at what has arrived."""
        try:
            while self._h11.their_state is h11.SEND_BODY and self._h11.next_event() is not h11.NEED_DATA:
                pass
        except h11.RemoteProtocolError:
            return False
        return self._h11.their_state is not h11.SEND_BODY

    def encode(self, event: h11.Event) -> bytes:
        return self._h11.send(event) or b""

    async def transmit(self, data: bytes | None) -> None:
        """Send all of it.

        Raises:
            ClientGone: the client left, or took nothing for the time that the limits give.

        """
        view = memoryview(data or b"")
        try:
            for start in range(0, len(view), _SLICE_BYTES):
                with trio.fail_after(self._limits.send_timeout_s):
                    await self._stream.send_all(view[start : start + _SLICE_BYTES])
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._gone = True
            raise ClientGone("the client closed the connection") from error
        except trio.TooSlowError as error:
            self._gone = True
            raise ClientGone(f"the client read nothing for {self._limits.send_timeout_s:g} s") from error

    @property
    def closing(self) -> bool:
        return self._closing

    @property
    def headers(self) -> tuple[Header, ...]:
        return self._headers

    @property
    def limits(self) -> ServerLimits:
        return self._limits

    @property
    def gone(self) -> bool:
        return self._gone


class _Exchange:
    """One request and its answer, as ASGI sees them."""

    def __init__(self, connection: Connection, request: h11.Request) -> None:
        self._connection = connection
        self._bodiless = request.method == b"HEAD"
        self._declared = _content_length(request)
        self._received = 0
        self._body_done = False
        self._body_deadline: float | None = None
        self._max_body_bytes = connection.limits.max_body_bytes
        self._wide = False
        self._head: h11.Response | None = None
        self.started = False
        self.complete = False

    def widen_body(self, max_bytes: int) -> None:
        """Take a body of up to so many bytes: the time for a whole body is then that for each part of it."""
        self._max_body_bytes = max_bytes
        self._wide = True

    async def receive(self) -> Message:
        """ASGI receive: the body piece by piece, then the client's departure.

        Raises:
            Refused: too_large, or bad_request for a body that is malformed or too slow.

        """
        if self.complete or self._connection.gone:
            return {"type": "http.disconnect"}
        if self._body_done:
            await self._connection.wait_gone()
            return {"type": "http.disconnect"}
        part = await self._next_part()
        if part is None:
            return {"type": "http.disconnect"}
        self._body_done = not part
        return {"type": "http.request", "body": part, "more_body": bool(part)}

    async def _next_part(self) -> bytes | None:
        limits = self._connection.limits
        self._check_size(self._declared)
        if self._wide or self._body_deadline is None:
            self._body_deadline = trio.current_time() + limits.body_timeout_s
        with trio.CancelScope(deadline=self._body_deadline):
            part = await self._connection.read_body()
            self._received += len(part or b"")
            self._check_size(self._received)
            return part
        raise Refused("bad_request", f"the request's body was not complete in {limits.body_timeout_s:g} s")

    def _check_size(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise Refused(
                "too_large",
                f"the request's body is larger than limits.max_body_bytes = {self._max_body_bytes}",
                details={"max_body_bytes": self._max_body_bytes},
            )

    async def send(self, message: Message) -> None:
        """ASGI send.

        Raises:
            ClientGone: the client left, or does not read.

        """
        if self._connection.gone:
            raise ClientGone("the client closed the connection")
        if self.complete:
            return
        if message["type"] == "http.response.start":
            self._head = self._response(message)
            if self._bodiless:
                await self._finish(b"")
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if message.get("more_body", False):
                await self._connection.transmit(self._take_head() + self._connection.encode(h11.Data(data=body)))
            else:
                await self._finish(body)

    def _response(self, message: Message) -> h11.Response:
        headers = [*message.get("headers", []), *self._connection.headers]
        if self._connection.closing or not self._connection.finish_body():
            headers.append((b"connection", b"close"))
        return h11.Response(status_code=message["status"], headers=headers)

    def _take_head(self) -> bytes:
        if self._head is None:
            return b""
        head, self._head = self._head, None
        self.started = True
        return self._connection.encode(head)

    async def _finish(self, body: bytes) -> None:
        data = self._take_head()
        if body:
            data += self._connection.encode(h11.Data(data=body))
        data += self._connection.encode(h11.EndOfMessage())
        self.complete = True
        await self._connection.transmit(data)


async def refuse(stream: trio.SocketStream, refused: Refused, headers: tuple[Header, ...]) -> None:
    """Answer a connection that will not be served, and close it without cutting the answer off."""
    status, body = error_body(refused)
    lines = [f"HTTP/1.1 {status} refused", f"content-length: {len(body)}", "content-type: application/json"]
    lines += [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in headers]
    if refused.retry_after_s is not None:
        lines.append(f"retry-after: {max(1, round(refused.retry_after_s))}")
    head = "\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1")
    with trio.move_on_after(_LINGER_S):
        try:
            await stream.send_all(head + body)
        except trio.BrokenResourceError:
            return
    await linger(stream)


async def linger(stream: trio.SocketStream) -> None:
    """Read what the client still sends for a moment: closing on unread bytes would reset it before it read ours."""
    with trio.move_on_after(_LINGER_S):
        try:
            await stream.send_eof()
            while await stream.receive_some(_READ_BYTES):
                pass
        except trio.BrokenResourceError:
            return


def _hung_up(stream: trio.SocketStream) -> bool:
    poll = select.poll()
    poll.register(stream.socket.fileno(), 0)
    return bool(poll.poll(0))


def _refusal_of(error: h11.RemoteProtocolError, limits: ServerLimits) -> Refused:
    if error.error_status_hint == 431:
        return _header_too_large(limits)
    return Refused("bad_request", f"not an HTTP/1.1 request: {error}")


def _header_too_large(limits: ServerLimits) -> Refused:
    return Refused("too_large", f"the header is larger than limits.max_header_bytes = {limits.max_header_bytes}")


def _head_bytes(request: h11.Request) -> int:
    """About what the header took on the wire."""
    return len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)


def _content_length(request: h11.Request) -> int:
    """0 where it is not declared; h11 has checked that it is a number of at most 20 digits."""
    return next((int(value) for name, value in request.headers if name == b"content-length"), 0)


def _shown(target: bytes) -> str:
    return ascii(target[:200].decode("latin-1"))
