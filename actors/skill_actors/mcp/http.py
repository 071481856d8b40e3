"""A server over HTTP: the SDK's transport over a client of ours, which keeps to one host and to bounds.

What the client does not do: take a proxy from the environment, follow a redirect to another host, accept a certificate
that does not verify, take a compressed answer (which may unpack to anything), or read one without an end.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import anyio
import httpx2
import trio
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from skill_actors.mcp.errors import ServerFailed
from skill_actors.mcp.hearing import pass_on
from skill_actors.mcp.options import ServerOptions
from skill_actors.mcp.screen import Screen, Signals

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectSendStream

__all__ = ["address_of", "http_streams", "seconds_to_rest"]

_CONNECT_S: Final = 10.0
_SLACK_S: Final = 10.0  # beyond the time of a call, which is measured elsewhere
_MAX_REST_S: Final = 3_600.0
_RESTS: Final = (429, 503)


@asynccontextmanager
async def http_streams(
    options: ServerOptions, headers: Mapping[str, str], signals: Signals
) -> AsyncIterator[tuple[Any, Any]]:
    """The streams of a session with the server.

    Args:
        headers: all that are sent besides the protocol's.
        signals: told when the connection is not worth listening to.

    """
    url, socket = address_of(options.url)
    inner = httpx2.AsyncHTTPTransport(uds=socket, trust_env=False)
    transport = _Bounded(inner, options.max_result_bytes, signals)
    timeout = httpx2.Timeout(_CONNECT_S, read=options.timeout_s + _SLACK_S)
    client = httpx2.AsyncClient(
        transport=transport,
        headers={**headers, "accept-encoding": "identity"},
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
    )
    async with (
        client,
        streamable_http_client(url, http_client=client, max_sse_event_size=options.max_result_bytes) as (heard, said),
        trio.open_nursery() as nursery,
    ):
        to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        nursery.start_soon(_screened, heard, to_session, signals)
        try:
            yield incoming, said
        finally:
            nursery.cancel_scope.cancel()


def address_of(url: str) -> tuple[str, str | None]:
    """The URL of the endpoint, and the path of the socket for one like unix:/run/server.sock or unix:PATH:/mcp."""
    if not url.startswith("unix:"):
        return url, None
    path, _, endpoint = url.removeprefix("unix:").partition(":")
    # With a port, since servers of the SDK look at the host they are called by, and expect one.
    return f"http://localhost:8000{endpoint or '/mcp'}", path


async def _screened(heard: Any, session: MemoryObjectSendStream[SessionMessage | Exception], signals: Signals) -> None:
    """Give the session what it is to hear: answers, and requests, which it declines."""
    screen = Screen()
    async with session:
        try:
            async for message in heard:
                if isinstance(message, Exception):
                    screen.count_garbage()
                    continue
                screen.count()
                if not await pass_on(message, session, signals):
                    return
        except ServerFailed as error:
            signals.end(str(error))
    signals.end("the connection to it was lost")


class _Bounded(httpx2.AsyncBaseTransport):
    """Answers of a bounded size, and what is wrong with those that are none."""

    def __init__(self, inner: httpx2.AsyncHTTPTransport, max_bytes: int, signals: Signals) -> None:
        self._inner = inner
        self._max_bytes = max_bytes
        self._signals = signals

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as error:
            self._signals.problem = f"{type(error).__name__}: {error}"
            raise
        self._note(response)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.DecodingError("the answer is compressed, which was not asked for", request=request)
        streams = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        if not streams:  # whose events are bounded one by one
            response.stream = _Cut(response.stream, self._max_bytes)
        return response

    def _note(self, response: httpx2.Response) -> None:
        if response.status_code < 300 or response.status_code == 405:  # which says that nothing is sent unasked
            return
        self._signals.problem = f"HTTP {response.status_code}"
        if response.status_code in _RESTS:
            self._signals.rest_s = seconds_to_rest(response.headers.get("retry-after", ""), time.time())

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Cut(httpx2.AsyncByteStream):
    """A body that fails where it is too long."""

    def __init__(self, inner: Any, max_bytes: int) -> None:
        self._inner = inner
        self._left = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._left -= len(chunk)
                if self._left >= 0:
                    yield chunk
                else:  # what is left is not read, but for what ends the reading
                    await self._inner.aclose()
        except Exception:
            if self._left >= 0:
                raise
        if self._left < 0:
            raise httpx2.StreamError("the answer is longer than max_result_bytes")

    async def aclose(self) -> None:
        await self._inner.aclose()


def seconds_to_rest(text: str, now: float) -> float:
    """What a Retry-After header asks for, in seconds from now, at most an hour; 0 for what is none.

    Args:
        now: seconds since the epoch.

    """
    try:
        seconds = float(text) if text.strip().isdigit() else parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(_MAX_REST_S, max(0.0, seconds)) if math.isfinite(seconds) else 0.0
