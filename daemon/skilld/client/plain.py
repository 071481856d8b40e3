"""The way to the daemon for programs that must start fast: h11 over a socket, one connection a request.

Importing httpx takes 0.3 s, and http.client 70 ms since it brings ssl and email; h11 takes 20 ms and is what both
httpx and the daemon's server parse with.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from skilld.client.errors import ConnectionLost, DaemonUnreachable, RequestTimeout
from skilld.client.exchange import Exchange
from skilld.client.wire import Request, Response

__all__ = ["PlainTransport"]

_CHUNK_BYTES = 64 * 1024


class PlainTransport:
    """Speaks HTTP/1.1 to the daemon at `path`. Any number of threads may use one."""

    def __init__(self, path: str) -> None:
        self._path = path

    def request(self, request: Request) -> Response:
        """Send, and read the whole answer within the request's timeout."""
        deadline_s = time.monotonic() + request.timeout_s
        with _Connection(self._path, request, deadline_s, silence_s=None) as answer:
            return Response(status=answer.status, headers=answer.headers, body=b"".join(answer.chunks()))

    @contextmanager
    def stream(self, request: Request, deadline_s: float | None) -> Iterator[_Connection]:
        """Send, and read the answer as it comes; nothing for `request.timeout_s` counts as a lost connection."""
        with _Connection(self._path, request, deadline_s, silence_s=request.timeout_s) as answer:
            yield answer

    def close(self) -> None:
        """Nothing is held open between requests."""


class _Connection:
    """One request and its answer."""

    def __init__(self, path: str, request: Request, deadline_s: float | None, silence_s: float | None) -> None:
        self._path = path
        self._request = request
        self._deadline_s = deadline_s
        self._silence_s = silence_s
        self._exchange = Exchange(path, request)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> _Connection:
        try:
            self._connect()
            self._send()
            while not self._exchange.head():
                self._exchange.receive(self._receive())
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def status(self) -> int:
        return self._exchange.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._exchange.headers

    def chunks(self) -> Iterator[bytes]:
        while (part := self._exchange.part()) is not None:
            if part:
                yield part
            else:
                self._exchange.receive(self._receive())

    def _connect(self) -> None:
        try:
            self._arm()
            self._socket.connect(self._path)
        except OSError as error:
            raise DaemonUnreachable.from_os_error(self._path, error) from error

    def _send(self) -> None:
        try:
            self._socket.sendall(self._exchange.to_send())
            for piece in self._exchange.pieces():
                self._arm()
                self._socket.sendall(piece)
        except TimeoutError as error:
            raise self._out_of_time() from error
        except (BrokenPipeError, ConnectionResetError):
            pass  # a daemon that refuses a large body answers before it has read it all: the answer says why
        except OSError as error:
            raise ConnectionLost(self._path, str(error)) from error

    def _receive(self) -> bytes:
        self._arm()
        try:
            return self._socket.recv(_CHUNK_BYTES)
        except TimeoutError as error:
            raise self._out_of_time() from error
        except OSError as error:
            raise ConnectionLost(self._path, error.strerror or str(error)) from error

    def _arm(self) -> None:
        """Let the next wait last no longer than the silence and the deadline allow."""
        if self._deadline_s is None:
            self._socket.settimeout(self._silence_s)
            return
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise self._out_of_time()
        self._socket.settimeout(left_s if self._silence_s is None else min(left_s, self._silence_s))

    def _out_of_time(self) -> RequestTimeout | ConnectionLost:
        if self._deadline_s is not None and time.monotonic() >= self._deadline_s - 0.001:
            return RequestTimeout(f"no complete answer to {self._request.method} {self._request.target} in time")
        return ConnectionLost(self._path, f"the daemon was silent for {self._silence_s} s")
