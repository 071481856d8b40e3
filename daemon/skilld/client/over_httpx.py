"""The way to the daemon through httpx: one client kept, so one connection serves many requests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import httpx

from skilld.client.errors import ConnectionLost, DaemonUnreachable, RequestTimeout, SkilldError
from skilld.client.wire import Request, Response

__all__ = ["AsyncHttpxTransport", "HttpxTransport"]

_BASE_URL: Final = "http://skilld"
_LIMITS: Final = httpx.Limits(max_connections=32, max_keepalive_connections=4, keepalive_expiry=5.0)


def _built(client: httpx.Client | httpx.AsyncClient, request: Request, timeout_s: float) -> httpx.Request:
    headers, upload = dict(request.headers), request.upload
    content: bytes | Iterator[bytes] | AsyncIterator[bytes] | None = request.body or None
    if upload is not None:
        content = upload.pieces() if isinstance(client, httpx.Client) else _read_in_threads(upload.pieces())
        if upload.size is not None:
            headers["content-length"] = str(upload.size)
    return client.build_request(
        request.method,
        request.target,
        headers=headers,
        content=content,
        timeout=httpx.Timeout(timeout_s, pool=None),
    )


async def _read_in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces; reading them may wait for a disk."""
    import trio  # only programs that use it already come here

    while (piece := await trio.to_thread.run_sync(next, pieces, b"")) != b"":
        yield piece


def _translated(error: httpx.TransportError, path: str, request: Request, *, streaming: bool) -> SkilldError:
    """Our name for what went wrong."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        cause = _os_error(error)
        return DaemonUnreachable.from_os_error(path, cause) if cause else DaemonUnreachable(path, str(error))
    if isinstance(error, httpx.TimeoutException):
        if streaming:
            return ConnectionLost(path, f"the daemon was silent for {request.timeout_s} s")
        return RequestTimeout(f"no answer to {request.method} {request.target} within {request.timeout_s} s")
    return ConnectionLost(path, str(error) or type(error).__name__)


def _os_error(error: BaseException) -> OSError | None:
    """The system's error that httpx has wrapped, for its number."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno:
            return link
        link = link.__cause__ or link.__context__
    return None


class _Answer:
    """A response whose body is read as it comes."""

    def __init__(self, response: httpx.Response, path: str, request: Request, deadline_s: float | None) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._path = path
        self._request = request
        self._deadline_s = deadline_s

    def chunks(self) -> Iterator[bytes]:
        try:
            for chunk in self._response.iter_raw():
                yield chunk
                if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
                    raise _late(self._request)
        except httpx.TransportError as error:
            if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
                raise _late(self._request) from error
            raise _translated(error, self._path, self._request, streaming=True) from error


def _late(request: Request) -> RequestTimeout:
    return RequestTimeout(f"no complete answer to {request.method} {request.target} in time")


class HttpxTransport:
    """Speaks to the daemon at `path`. Any number of threads may use one."""

    def __init__(self, path: str) -> None:
        self._path = path
        # A proxy or a CA of the environment means nothing on a Unix socket, and loading certificates costs 17 ms.
        transport = httpx.HTTPTransport(uds=path, verify=False, limits=_LIMITS, trust_env=False)
        self._client = httpx.Client(transport=transport, base_url=_BASE_URL, trust_env=False)

    def request(self, request: Request) -> Response:
        """Send, and read the whole answer; each wait for the daemon is bounded by the request's timeout."""
        try:
            answer = self._client.send(_built(self._client, request, request.timeout_s))
        except httpx.TransportError as error:
            raise _translated(error, self._path, request, streaming=False) from error
        return Response(status=answer.status_code, headers=answer.headers, body=answer.content)

    @contextmanager
    def stream(self, request: Request, deadline_s: float | None) -> Iterator[_Answer]:
        """Send, and read the answer as it comes. The deadline is looked at whenever something arrives."""
        wait_s = request.timeout_s
        if deadline_s is not None:
            wait_s = min(wait_s, max(deadline_s - time.monotonic(), 0.001))
        try:
            response = self._client.send(_built(self._client, request, wait_s), stream=True)
        except httpx.TransportError as error:
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise _late(request) from error
            raise _translated(error, self._path, request, streaming=True) from error
        try:
            yield _Answer(response, self._path, request, deadline_s)
        finally:
            response.close()

    def close(self) -> None:
        """Close the connections that are held open."""
        self._client.close()


class AsyncHttpxTransport:
    """Sends requests to the daemon at `path` from trio tasks. Event streams are not for it: see `over_trio`."""

    def __init__(self, path: str) -> None:
        self._path = path
        transport = httpx.AsyncHTTPTransport(uds=path, verify=False, limits=_LIMITS, trust_env=False)
        self._client = httpx.AsyncClient(transport=transport, base_url=_BASE_URL, trust_env=False)

    async def request(self, request: Request) -> Response:
        """Send, and read the whole answer."""
        try:
            answer = await self._client.send(_built(self._client, request, request.timeout_s))
        except httpx.TransportError as error:
            raise _translated(error, self._path, request, streaming=False) from error
        return Response(status=answer.status_code, headers=answer.headers, body=answer.content)

    async def aclose(self) -> None:
        """Close the connections that are held open."""
        await self._client.aclose()
