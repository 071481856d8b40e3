"""The sinks that send events to other hosts: a collector of OpenTelemetry, and a receiver of generation B's JSON.

What a receiver will never take is divided until it is one event, which is counted and left out: one bad event costs no
other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import trio

from skilld.monitor.otlp.protobuf_writing import in_protobuf
from skilld.monitor.otlp.telemetry import Signal
from skilld.monitor.otlp.writing import as_requests, in_json
from skilld.monitor.sinks.canonical import compact
from skilld.monitor.sinks.envelope import envelopes
from skilld.monitor.sinks.posting import NeverTaken, Poster
from skilld.monitor.sinks.status import SinkStatus

if TYPE_CHECKING:
    from skilld.monitor.monitor import Monitor

__all__ = ["OtlpSink", "TelemetrySink"]

_log = logging.getLogger(__name__)

_MAX_BODY_BYTES: Final = 4 << 20
_COMPLAIN_EVERY_S: Final = 60.0

Event = dict[str, Any]
Body = Literal["object", "array", "lines"]
T = TypeVar("T")


class _Export:
    """What both have in common: they count, divide what is refused, and have nothing to do in between."""

    def __init__(self, poster: Poster, status: SinkStatus, page: int) -> None:
        self._poster = poster
        self._status = status
        self._complained_at = -math.inf
        self.page = page

    async def start(self, monitor: Monitor, cursor: int) -> int:
        """The cursor is all there is to know."""
        return cursor

    async def idle(self) -> None:
        """There is nothing to do."""

    async def close(self) -> None:
        """Let the connection go."""
        await self._poster.close()

    def _leave_out(self, event: Event, error: NeverTaken) -> None:
        """Count it, and say so once a minute: a receiver that takes nothing would fill the log."""
        self._status.failed += 1
        self._status.problem = f"event {event['id']}: {error}"
        if trio.current_time() - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = trio.current_time()
            _log.warning(
                "%s: event %d is left out; further ones are only counted for now: %s",
                *(self._status.name, event["id"], error),
            )

    async def _divide(self, events: Sequence[Event], send: Callable[[Sequence[Event]], Awaitable[int]]) -> None:
        """Send all, and where it is refused the halves. `send` says how many the receiver left out."""
        try:
            rejected = await send(events)
        except NeverTaken as error:
            if len(events) == 1:
                self._leave_out(events[0], error)
                return
            half = len(events) // 2
            await self._divide(events[:half], send)
            await self._divide(events[half:], send)
            return
        self._status.failed += min(rejected, len(events))
        self._status.sent += len(events) - min(rejected, len(events))


async def _made(make: Callable[[], T]) -> T:
    """Bodies, made in a thread.

    Raises:
        NeverTaken: if one of the events cannot be spelled: a program's data is no reason to stop for ever.

    """
    try:
        return await trio.to_thread.run_sync(make)
    except (ValueError, RecursionError) as error:
        raise NeverTaken(f"it cannot be encoded: {type(error).__name__}") from error


class OtlpSink(_Export):
    """Sends spans to `ENDPOINT/v1/traces` and everything else to `ENDPOINT/v1/logs`."""

    def __init__(
        self,
        poster: Poster,
        status: SinkStatus,
        endpoint: str,
        *,
        page: int,
        protocol: Literal["protobuf", "json"],
    ) -> None:
        super().__init__(poster, status, page)
        self._endpoint = endpoint.rstrip("/")
        self._protocol = protocol

    async def deliver(self, events: Sequence[Event]) -> None:
        """Spans first, then the rest."""
        for spans in (True, False):
            wanted = [event for event in events if (event["duration_ms"] is not None) == spans]
            if wanted:
                await self._divide(wanted, self._send)

    async def _send(self, events: Sequence[Event]) -> int:
        bodies = await _made(partial(self._bodies, events))
        if len(events) > 1 and any(len(body) > _MAX_BODY_BYTES for _, body in bodies):
            raise NeverTaken("it is too large for one request")
        media = "application/json" if self._protocol == "json" else "application/x-protobuf"
        rejected = 0
        for signal, body in bodies:
            answer = await self._poster.post(f"{self._endpoint}/v1/{signal}", body, media)
            rejected += await trio.to_thread.run_sync(partial(_rejected, answer, signal, self._protocol))
        return rejected

    def _bodies(self, events: Sequence[Event]) -> list[tuple[Signal, bytes]]:
        """Blocks."""
        requests = as_requests(events)
        if self._protocol == "json":
            return [(signal, in_json(request)) for signal, request in requests.items()]
        return [(signal, in_protobuf(request, signal)) for signal, request in requests.items()]


def _rejected(answer: bytes, signal: Signal, protocol: str) -> int:
    """How many items a success left out; 0 where it says nothing that can be read. Blocks."""
    from google.protobuf.json_format import Parse, ParseError
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    found = ExportLogsServiceResponse() if signal == "logs" else ExportTraceServiceResponse()
    try:
        if protocol == "json":
            Parse(answer or b"{}", found, ignore_unknown_fields=True)
        else:
            found.ParseFromString(answer)
    except (DecodeError, ParseError, ValueError, RecursionError):
        return 0
    partial_success = found.partial_success
    count = partial_success.rejected_log_records if signal == "logs" else partial_success.rejected_spans
    return max(0, int(count))


class TelemetrySink(_Export):
    """Posts envelopes of generation B to `ENDPOINT/v1/telemetry`: one a request, or many as an array or as lines."""

    def __init__(self, poster: Poster, status: SinkStatus, endpoint: str, *, page: int, body: Body) -> None:
        super().__init__(poster, status, page)
        base = endpoint.rstrip("/")
        self._url = base if base.endswith("/v1/telemetry") else f"{base}/v1/telemetry"
        self._body: Body = body

    async def deliver(self, events: Sequence[Event]) -> None:
        """In their order."""
        if self._body == "object":
            for event in events:
                await self._divide([event], self._send_each)
        else:
            await self._divide(events, self._send_together)

    async def _send_each(self, events: Sequence[Event]) -> int:
        for body in await _made(lambda: [compact(envelope) for event in events for envelope in envelopes(event)]):
            await self._poster.post(self._url, body, "application/json")
        return 0

    async def _send_together(self, events: Sequence[Event]) -> int:
        body = await _made(partial(self._encoded, events))
        if len(events) > 1 and len(body) > _MAX_BODY_BYTES:
            raise NeverTaken("it is too large for one request")
        media = "application/json" if self._body == "array" else "application/x-ndjson"
        await self._poster.post(self._url, body, media)
        return 0

    def _encoded(self, events: Sequence[Event]) -> bytes:
        found = [envelope for event in events for envelope in envelopes(event)]
        return compact(found) if self._body == "array" else b"".join(compact(envelope) + b"\n" for envelope in found)
