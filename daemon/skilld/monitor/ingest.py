"""The ingest socket: programs report here and can do nothing else.

One task per connection, which reads a line, has it written, acknowledges it, and reads the next: who sends faster than
is written waits. The kernel says who it is. Who sends what is no batch, a line without an end, or half of one for too
long, is told so once and closed; what was acknowledged stays.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio

from skilld.http.peer import Peer, PeerRefused, overflow_uid, read_peer
from skilld.monitor.batch import BadBatch, Batch, Hello, read_line
from skilld.monitor.inspected import NO_POLICY, Origin, policy_line
from skilld.monitor.naming import with_cut_head
from skilld.monitor.rates import Rate, RateTable
from skilld.monitor.store import Written

__all__ = ["Ingest", "IngestLimits"]

_log = logging.getLogger(__name__)

_READ_BYTES: Final = 256 << 10
_ANSWER_S: Final = 10.0  # a goodbye fits into the socket: only a host that is far too busy takes so long
_GOODBYE_S: Final = 1.0
_MOST_WAIT_S: Final = 1.0  # who is over the rate by more is sent away, and keeps what it has
_ROUNDING_S: Final = 0.001  # what a bucket lacks after the exact time for it is no reason to ask again
_COMPLAIN_EVERY_S: Final = 60.0
_HELLOS_PER_S: Final = 500  # of one user, who reports nothing else: the answer may have all rules
_MOST_GOODBYES: Final = 64  # said at once; who comes on top is closed without one
_OF_EACH_EVENT: Final = b'"seq"'  # a name in each; who writes it otherwise is charged once more when it was read
_COUNTED_AT_ONCE: Final = 64 << 10  # bytes: 0.1 ms, in which no other thread of this process goes on
_KNOWN_POLICY: Final = b'{"policy": null}\n'
_MOST_READ: Final = 2  # batches at once: while it is read one takes many times its length


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestLimits:
    """What one user may do.

    Args:
        connections: open at once, of one user.
        max_line_bytes: of a batch.
        line_s: seconds from the first byte of a batch to its last.
        rate: of events and bytes, of one user.

    """

    connections: int
    max_line_bytes: int
    line_s: float
    rate: Rate


class Ingest:
    """Takes connections until it is cancelled.

    Args:
        allowed: whether this peer may report.
        write: keeps a batch; it is acknowledged when this returns. Raises what the store raises.
        rates: what each user has left, where there are other ways to report; None: what is reported here counts alone.
        policy_for: what a program of this name has to look at itself. Must not wait.
        policy_line: the same as it is sent. Must not wait.
        on_written: told of each batch. Must not wait.
        on_dropped: told why a connection was dropped, one of `drops.DROPS`. Must not wait.

    """

    def __init__(
        self,
        limits: IngestLimits,
        allowed: Callable[[Peer], bool],
        write: Callable[[Batch, Origin], Awaitable[Written]],
        *,
        rates: RateTable | None = None,
        policy_for: Callable[[str], Mapping[str, Any]] = lambda _agent: NO_POLICY,
        policy_line: Callable[[str], bytes] = lambda _agent: policy_line(NO_POLICY),
        on_written: Callable[[Batch, Written], None],
        on_dropped: Callable[[str], None],
    ) -> None:
        self._limits = limits
        self._allowed = allowed
        self._write = write
        self._policy_for = policy_for
        self._policy_line = policy_line
        self._on_written = on_written
        self._on_dropped = on_dropped
        self._rates = rates or RateTable(limits.rate)
        self._open: Counter[int] = Counter()
        self._goodbyes = 0
        self._reading = trio.CapacityLimiter(_MOST_READ)
        self._unknown_uid = overflow_uid()
        self._complained_at = -_COMPLAIN_EVERY_S

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._open.total()

    async def serve(self, sock: trio.socket.SocketType) -> None:
        """Accept and serve, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    accepted, _ = await sock.accept()
                except ConnectionAbortedError:
                    continue
                except OSError as error:  # out of descriptors or memory
                    self._complain(f"cannot accept a connection: {error.strerror}")
                    await trio.sleep(0.1)
                    continue
                nursery.start_soon(self._meet, trio.SocketStream(accepted))

    async def _meet(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                peer = read_peer(stream.socket, self._unknown_uid)
            except PeerRefused as error:
                await self._drop(stream, "forbidden", str(error))
                return
            if not self._allowed(peer):
                await self._drop(stream, "forbidden", f"uid {peer.uid} may not report: see [roles.report]")
                return
            if self._open[peer.uid] >= self._limits.connections:
                await self._drop(stream, "crowded", f"your user has {self._limits.connections} connections open")
                return
            self._open[peer.uid] += 1
            try:
                await self._converse(stream, peer)
            except trio.BrokenResourceError:
                return  # it went away
            except Exception:
                _log.exception("reports of uid %d: a connection failed; the others go on", peer.uid)
                await self._drop(stream, "failed", "something failed here; try again later", code="overloaded")
            finally:
                self._open[peer.uid] -= 1
                if not self._open[peer.uid]:
                    del self._open[peer.uid]

    async def _converse(self, stream: trio.SocketStream, peer: Peer) -> None:
        lines = _Lines(stream, self._limits.max_line_bytes, self._limits.line_s)
        while True:
            try:
                line = await lines.next()
            except _LineError as error:
                await self._drop(stream, error.why, str(error))
                return
            if line is None:
                return
            expected = await self._expected(stream, peer, line)
            if expected is None or not await self._allow(stream, peer, expected, len(line)):
                return
            try:
                batch = await trio.to_thread.run_sync(read_line, line, limiter=self._reading)
            except BadBatch as error:
                await self._drop(stream, "bad", str(error))
                return
            if isinstance(batch, Hello):
                self._rates.take(peer.uid, self._limits.rate.events_per_s / _HELLOS_PER_S, 0, trio.current_time())
                is_known = self._policy_for(batch.agent)["version"] == batch.policy
                await stream.send_all(_KNOWN_POLICY if is_known else self._policy_line(batch.agent))
                continue
            if not await self._allow_more(stream, peer, len(batch.events) + batch.refused - expected):
                return
            if not await self._keep(stream, batch, Origin(peer.uid, peer.pid)):
                return

    async def _expected(self, stream: trio.SocketStream, peer: Peer, line: bytes) -> int | None:
        """How many events there seem to be, so that they and bytes are taken together, or nothing, before it is read.

        None if the bytes alone are too many, and the connection is dropped: then nobody looks.
        """
        if len(line) <= _COUNTED_AT_ONCE:
            return line.count(_OF_EACH_EVENT)
        if not await self._wait(stream, lambda: self._rates.lacks_s(peer.uid, 0, len(line), trio.current_time())):
            return None
        return await trio.to_thread.run_sync(_count, line, limiter=self._reading)

    async def _allow(self, stream: trio.SocketStream, peer: Peer, events: int, size: int) -> bool:
        """Wait until the user may report so much; False if that is not soon, and the connection is dropped."""
        return await self._wait(stream, lambda: self._rates.admit(peer.uid, events, size, trio.current_time()))

    async def _wait(self, stream: trio.SocketStream, asked: Callable[[], float]) -> bool:
        """As `_allow`, until there is nothing to wait for any more."""
        while wait_s := asked():
            if wait_s > _MOST_WAIT_S:
                await self._drop(stream, "overloaded", "your user reports more than it may; try again later")
                return False
            await trio.sleep(wait_s + _ROUNDING_S)
        return True

    async def _allow_more(self, stream: trio.SocketStream, peer: Peer, events: int) -> bool:
        """As `_allow`, for events that were not expected; of those that were and are none the user has them again."""
        if events < 0:
            self._rates.take(peer.uid, events, 0, trio.current_time())
            return True
        return not events or await self._allow(stream, peer, events, 0)

    async def _keep(self, stream: trio.SocketStream, batch: Batch, origin: Origin) -> bool:
        """Write and acknowledge. False if it could not be written: nothing is acknowledged that is not."""
        try:
            written = await self._write(batch, origin)
        except Exception as error:
            self._complain(f"reports cannot be stored: {type(error).__name__}: {error}")
            await self._drop(stream, "failed", "they cannot be stored now; try again later", code="overloaded")
            return False
        self._on_written(batch, written)
        version = self._policy_for(with_cut_head(batch).agent)["version"]
        refused = batch.refused + written.quarantined
        await _say(stream, {"ack": batch.number, "stored": written.stored, "refused": refused, "policy": version})
        return True

    async def _drop(self, stream: trio.SocketStream, why: str, message: str, *, code: str | None = None) -> None:
        self._on_dropped(why)
        if self._goodbyes >= _MOST_GOODBYES:
            return
        later = why in ("crowded", "overloaded")
        self._goodbyes += 1
        with trio.move_on_after(_ANSWER_S) as leaving:
            try:
                await _say(stream, {"error": {"code": code or ("overloaded" if later else why), "message": message}})
                await stream.send_eof()
                leaving.deadline = trio.current_time() + _GOODBYE_S
                while await stream.receive_some(_READ_BYTES):  # closing on unread bytes would take the answer along
                    pass
            except trio.BrokenResourceError:
                return
            finally:
                self._goodbyes -= 1

    def _complain(self, message: str) -> None:
        """Once a minute: a log that fills helps nobody."""
        if trio.current_time() - self._complained_at >= _COMPLAIN_EVERY_S:
            self._complained_at = trio.current_time()
            _log.error("%s", message)


def _count(line: bytes) -> int:
    """The names in a line, a part of it at a time: in between other threads go on."""
    beyond = _COUNTED_AT_ONCE + len(_OF_EACH_EVENT) - 1
    return sum(line.count(_OF_EACH_EVENT, start, start + beyond) for start in range(0, len(line), _COUNTED_AT_ONCE))


async def _say(stream: trio.SocketStream, answer: dict[str, Any]) -> None:
    await stream.send_all(json.dumps(answer).encode() + b"\n")


class _LineError(Exception):
    """No line comes; `why` is one of `drops.DROPS`."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


class _Lines:
    """The lines of a connection."""

    def __init__(self, stream: trio.SocketStream, max_bytes: int, line_s: float) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._line_s = line_s
        self._buffer = bytearray()

    async def next(self) -> bytes | None:
        """The next line without its end; None if there is none, or only the beginning of one.

        Raises:
            _LineError: if it is too large, or takes too long.

        """
        deadline = trio.current_time() + self._line_s if self._buffer else float("inf")
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > self._max_bytes:
                raise _LineError("too_large", f"a batch is larger than {self._max_bytes} bytes")
            with trio.move_on_at(deadline) as waiting:
                received = await self._stream.receive_some(_READ_BYTES)
            if waiting.cancelled_caught:
                raise _LineError("slow", f"a batch took longer than {self._line_s:g} s")
            if not received:
                return None
            if not self._buffer:
                deadline = trio.current_time() + self._line_s
            self._buffer += received
        if end > self._max_bytes:
            raise _LineError("too_large", f"a batch is larger than {self._max_bytes} bytes")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line
