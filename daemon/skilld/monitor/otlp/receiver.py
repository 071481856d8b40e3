"""What is answered to an exporter of OTLP over HTTP: who may, what it means, and when to come again.

As the specification has it: 200 for what was taken, with a partial success where items were none; 400 and 413 for what
must not come again; 429 and 503 with Retry-After for what may. Metrics are not taken: nobody would read them here.
"""

from __future__ import annotations

import hmac
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skill_actors.errors import Refused
from skilld.http.body import read_body
from skilld.http.connection import ClientGone
from skilld.http.peer import Peer
from skilld.loopback import is_local_host
from skilld.monitor.batch import Batch
from skilld.monitor.inspected import Origin
from skilld.monitor.otlp.answers import JSON, PROTOBUF, Form, Refusal, refused, taken
from skilld.monitor.otlp.events import Kept, as_batches
from skilld.monitor.otlp.json_form import read_json
from skilld.monitor.otlp.protobuf_form import read_protobuf
from skilld.monitor.otlp.telemetry import BadRequest, Received, Signal
from skilld.monitor.rates import RateTable
from skilld.monitor.store import Written
from skilld.slot import NotStarted

__all__ = ["OtlpReceiver", "Rules", "inflate"]

_SIGNALS: Final[dict[str, Signal]] = {"/v1/traces": "traces", "/v1/logs": "logs"}
_MOST_READ: Final = 2  # requests at once: while one is read it takes many times its length
_AGAIN_S: Final = 5
_OF_BROWSERS: Final = ("origin", "sec-fetch-site")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may be sent.

    Args:
        max_bytes: of a body, packed and unpacked.
        token: what a request over TCP has to bear; None: nothing. Blocks, and may raise.
        keep: which spans are kept.

    """

    max_bytes: int
    token: Callable[[], str] | None
    keep: Kept


class OtlpReceiver:
    """The ASGI app. The scope holds the peer under `skilld.peer`, and under `skilld.tcp` whether it came over TCP.

    Args:
        rates: what each user may report. Raises while nothing can be kept.
        write: keeps a batch; what it raises is answered with 503.
        allowed: whether this peer may report.
        on_written: told of each batch. Must not wait.
        on_answer: told how each request ended, one of `outcomes.OUTCOMES`. Must not wait.

    """

    def __init__(
        self,
        rules: Rules,
        rates: Callable[[], RateTable],
        write: Callable[[Batch, Origin], Awaitable[Written]],
        allowed: Callable[[Peer], bool],
        *,
        on_written: Callable[[Batch, Written], None],
        on_answer: Callable[[str], None],
    ) -> None:
        self._rules = rules
        self._rates = rates
        self._write = write
        self._allowed = allowed
        self._on_written = on_written
        self._on_answer = on_answer
        self._reading = trio.CapacityLimiter(_MOST_READ)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        form: Form = PROTOBUF if _media_type(request) == PROTOBUF else JSON
        try:
            signal = self._check(request)
            rejected = await self._take(request, receive, signal, form)
        except Refusal as refusal:
            self._on_answer(refusal.outcome)
            headers = {} if refusal.retry_after_s is None else {"retry-after": str(refusal.retry_after_s)}
            answer = Response(refused(refusal, form), refusal.status, headers, form)
        except ConnectionAbortedError as error:  # in the middle of its body
            self._on_answer("bad")
            raise ClientGone(str(error)) from error
        else:
            self._on_answer("partial" if rejected else "ok")
            answer = Response(taken(signal, rejected, form), media_type=form)
        await answer(scope, receive, send)

    def _check(self, request: Request) -> Signal:
        """Everything that the head says. Raises Refusal."""
        peer: Peer = request.scope["skilld.peer"]
        if request.scope["skilld.tcp"] and not is_local_host(request.headers.get("host", "")):
            raise Refusal(421, "Host: expected localhost or an address of loopback", "forbidden")
        if any(name in request.headers for name in _OF_BROWSERS):
            raise Refusal(403, "web pages may not report", "forbidden")
        path = request.url.path
        if path == "/v1/metrics":
            raise Refusal(404, "metrics are not taken here: send them to your collector", "unknown")
        if path not in _SIGNALS:
            raise Refusal(404, "here are /v1/traces and /v1/logs, and nothing else", "unknown")
        if request.method != "POST":
            raise Refusal(405, "POST only", "unknown")
        if not self._allowed(peer):
            raise Refusal(403, f"uid {peer.uid} may not report: see [roles.report]", "forbidden")
        if _media_type(request) not in (JSON, PROTOBUF):
            raise Refusal(415, f"Content-Type: expected {PROTOBUF} or {JSON}", "bad")
        if _coding(request) not in ("identity", "gzip"):
            raise Refusal(415, "Content-Encoding: expected gzip, or none", "bad")
        return _SIGNALS[path]

    async def _take(self, request: Request, receive: Receive, signal: Signal, form: Form) -> int:
        """How many items were none. Raises Refusal."""
        if request.scope["skilld.tcp"] and self._rules.token is not None:
            await self._check_token(request.headers.get("authorization", ""), self._rules.token)
        peer: Peer = request.scope["skilld.peer"]
        self._admit(peer.uid, 0, 0)  # before it costs anything
        try:
            raw = await read_body(receive)
        except Refused as error:
            if error.code == "too_large":
                raise _too_large(self._rules.max_bytes) from error
            raise Refusal(400, str(error), "bad") from error
        read = partial(self._read, raw, signal, form, zipped=_coding(request) == "gzip", uid=peer.uid)
        batches, rejected, size = await trio.to_thread.run_sync(read, limiter=self._reading)
        self._admit(peer.uid, sum(len(batch.events) for batch in batches), size)
        for batch in batches:
            rejected += batch.refused + await self._keep(batch, peer)
        return rejected

    def _admit(self, uid: int, events: int, size: int) -> None:
        """Count what a user reports. Raises Refusal where that is too much, or nobody can say."""
        try:
            rates = self._rates()
        except NotStarted as error:
            raise Refusal(503, "monitoring is starting, or cannot; try again later", "failed", _AGAIN_S) from error
        wait_s = rates.admit(uid, events, size, trio.current_time())
        if wait_s > 0:
            raise Refusal(429, "your user reports more than it may; try again later", "overloaded", ceil(wait_s))

    async def _keep(self, batch: Batch, peer: Peer) -> int:
        """How many of its events were put aside."""
        try:
            written = await self._write(batch, Origin(peer.uid, peer.pid))
        except Exception as error:  # whatever a disk can do: the exporter has it still, and comes again
            raise Refusal(503, "it cannot be stored now; try again later", "failed", _AGAIN_S) from error
        self._on_written(batch, written)
        return written.quarantined

    async def _check_token(self, header: str, token: Callable[[], str]) -> None:
        try:
            wanted = await trio.to_thread.run_sync(token)
        except Exception as error:  # no token to compare with: nobody is let in
            raise Refusal(503, "the daemon has no token to compare with; see its log", "failed", _AGAIN_S) from error
        given = header.partition(" ")[2].strip() if header[:7].lower() == "bearer " else ""
        if not hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
            raise Refusal(401, "Authorization: expected Bearer and the token of monitor.otlp.token_file", "forbidden")

    def _read(self, raw: bytes, signal: Signal, form: Form, *, zipped: bool, uid: int) -> tuple[list[Batch], int, int]:
        """Batches, how many items were none, and the bytes of all, unpacked. Blocks. Raises Refusal."""
        if zipped:
            raw = inflate(raw, self._rules.max_bytes)
        try:
            received: list[Received] = (read_json if form == JSON else read_protobuf)(raw, signal)
        except BadRequest as error:
            raise Refusal(400, str(error), "bad") from error
        rejected = sum(group.rejected for group in received)
        return as_batches(received, uid, self._rules.keep), rejected, len(raw)


def inflate(raw: bytes, max_bytes: int) -> bytes:
    """What was packed by gzip.

    Raises:
        Refusal: it is broken, breaks off, or is larger than `max_bytes` unpacked: no more than that is unpacked.

    """
    found = bytearray()
    while raw:
        unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            found += unpacking.decompress(raw, max_bytes + 1 - len(found))
        except zlib.error as error:
            raise Refusal(400, "the body is not gzip, as its Content-Encoding says", "bad") from error
        if len(found) > max_bytes:
            raise _too_large(max_bytes)
        if not unpacking.eof:
            raise Refusal(400, "the body breaks off in the middle", "bad")
        raw = unpacking.unused_data
    return bytes(found)


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(413, f"the body is larger than monitor.otlp.max_bytes = {max_bytes}, unpacked or not", "too_large")


def _coding(request: Request) -> str:
    return request.headers.get("content-encoding", "identity").strip().lower()


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
