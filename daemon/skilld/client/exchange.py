"""One request and its answer over h11, without I/O: bytes to send, bytes received, parts of the answer."""

from __future__ import annotations

from collections.abc import Iterator

import h11

from skilld.client.errors import ConnectionLost, ProtocolError
from skilld.client.wire import Request

__all__ = ["Exchange"]


class Exchange:
    """Feed it what arrives with `receive`; ask it what that means with `head` and then `part`."""

    def __init__(self, path: str, request: Request) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._path = path
        self._request = request
        self._http = h11.Connection(our_role=h11.CLIENT)

    def to_send(self) -> bytes:
        """The whole request, without its upload. The connection serves only this one."""
        request = self._request
        headers = [("host", "skilld"), ("connection", "close"), *request.headers.items()]
        if request.upload is not None:
            size = request.upload.size
            headers.append(("transfer-encoding", "chunked") if size is None else ("content-length", str(size)))
            return self._http.send(h11.Request(method=request.method, target=request.target, headers=headers)) or b""
        if request.body or request.method != "GET":
            headers.append(("content-length", str(len(request.body))))
        parts = [self._http.send(h11.Request(method=request.method, target=request.target, headers=headers))]
        if request.body:
            parts.append(self._http.send(h11.Data(data=request.body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        return b"".join(part for part in parts if part)

    def pieces(self) -> Iterator[bytes]:
        """What is to be sent after that: the upload piece by piece, read when it is asked for.

        Raises:
            ValueError: if the upload is not as long as it was said to be.

        """
        if self._request.upload is None:
            return
        try:
            for piece in self._request.upload.pieces():
                yield self._http.send(h11.Data(data=piece)) or b""
            yield self._http.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise ValueError("what is uploaded changed its length meanwhile") from error

    def receive(self, data: bytes) -> None:
        """Bytes from the daemon; none mean that it closed the connection."""
        self._http.receive_data(data)

    def head(self) -> bool:
        """Whether status and headers are there.

        Raises:
            ConnectionLost: if the connection was closed before.
            ProtocolError: if what came is not HTTP.

        """
        while (event := self._next()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
                return True
            if not isinstance(event, h11.InformationalResponse):
                raise ConnectionLost(self._path, "it was closed before the answer began")
        return False

    def part(self) -> bytes | None:
        """The next piece of the body; b"" while more has to arrive, None at its end.

        Raises:
            ConnectionLost: if the connection was closed in the middle.
            ProtocolError: if what came is not HTTP.

        """
        while (event := self._next()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                return None
            if isinstance(event, h11.Data) and event.data:
                return bytes(event.data)
        return b""

    def _next(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            if self._http.trailing_data[1]:
                raise ConnectionLost(self._path, "it was closed in the middle of the answer") from error
            raise ProtocolError(f"what answers at {self._path} does not speak HTTP: {error}") from error
