"""The daemon's end of one resident runner: requests out, output and results in, for several calls at once.

It knows frames and streams, not processes: whoever started the runner hands over its two streams, and learns from
`serve` that the runner is gone. `runner.py` says what the frames mean.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, Final, Literal, TypeVar

import trio

from . import frames as wire
from .base import OutputChunk

__all__ = ["Done", "Limits", "Link", "Output", "Request", "RunnerBroken", "Spill"]

_log = logging.getLogger(__name__)

_HELLO_S: Final = 10.0
_CANCEL_S: Final = 1.9  # more than the runner needs to kill a keeper that does not answer
_WINDOW_BYTES: Final = 262_144  # output on its way to a slow consumer, per call
_OVERDRAFT_BYTES: Final = 8 << 20  # both pipes are emptied at the end, credit or not: a MiB each, U+FFFD has 3 bytes
_RESULT_BYTES: Final = 65_536  # of a result, without its output
_RESULT_BYTES_A_CHAR: Final = 4 * 12  # head and tail of two streams; 12 is a pair of surrogates in JSON
_STREAM_CHARS: Final = 1_000_000  # beyond it a call's output goes to the file only
_SPILL_MAX_BYTES: Final = 64 << 20

T = TypeVar("T")
Emit = Callable[[OutputChunk], Awaitable[None]]


class RunnerBroken(Exception):
    """The runner did not start, or what it says is not the protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Resource limits of each process of a call, and of a call as a whole; None: no other than the daemon's own.

    Args:
        cpu_s: processor time, in seconds; a process beyond it is killed.
        memory_bytes: address space.
        processes: processes of the same user on the whole host; without effect for root.
        file_bytes: size of a file that is written.
        open_files: descriptors.
        total_cpu_s: processor time of all processes of a call together. A call that takes more of any of these totals
            is ended whole; it is looked at 20 times a second.
        total_memory_bytes: memory of their own that they have in use, together.
        total_processes: how many there are at a time.

    """

    cpu_s: int | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    file_bytes: int | None = None
    open_files: int | None = None
    total_cpu_s: int | None = None
    total_memory_bytes: int | None = None
    total_processes: int | None = None


_LIMITS: Final = tuple(limit.name for limit in fields(Limits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call for the runner.

    Args:
        folders: made before the call starts, in this order, if they are missing.
        spill: where the whole output goes when it is more than `spill_after_chars`: path parts below `cwd`.
        may_spill: whether it may go there at all.
        max_chars: of the beginning, and of the end, of each stream that `Done` holds.
        confine: what the call's process gives up, as arguments of `confinement.confine`; None: nothing.
        scoped: whether it is kept from abstract sockets of others.
        program: what `argv` starts in the end, to be looked for before; None: `argv` itself.
        stream: whether output is handed over as it comes, up to `stream_chars`; beyond it goes to the file only.

    """

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    timeout_s: float
    max_chars: int
    spill: Sequence[str]
    spill_after_chars: int
    may_spill: bool = True
    folders: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    stream: bool = False
    stream_chars: int = _STREAM_CHARS
    confine: Mapping[str, Any] | None = None
    scoped: bool = False
    program: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A stream's first and last characters. `tail` follows `head` in the output, perhaps after a gap."""

    head: str = ""
    tail: str = ""
    chars: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spill:
    """The file of a call's whole output. `cut` says that it holds only the beginning."""

    bytes: int
    cut: bool
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a call ended; all its processes are gone, but `left` of them that could not be killed.

    Args:
        outcome: "exited"; "timeout"; "cancelled"; "limited" (it took more than it may); "refused" (never started);
            "lost" (its keeper or the runner died).
        code: exit code of the main process, negative for a signal.
        error: why it could not be started, with `errno` where the system said so; what it took too much of.
        ended: processes it had left behind, which were killed.
        tree: digest of the workspace's files, from a runner in a container.

    """

    outcome: Literal["exited", "timeout", "cancelled", "limited", "refused", "lost"]
    code: int | None = None
    error: str | None = None
    errno: int | None = None
    ended: int = 0
    left: int = 0
    stdout: Output = field(default_factory=Output)
    stderr: Output = field(default_factory=Output)
    spill: Spill | None = None
    tree: str | None = None


@dataclass(slots=True)
class _Open:
    """A call that is open, and what its runner may still say of it: a runner that says more is none of ours."""

    channel: trio.MemorySendChannel[OutputChunk | Done]
    output_bytes: int
    result_bytes: int

    def output(self, chunk: OutputChunk, size: int) -> None:
        """Raises RunnerBroken where there is no credit for it."""
        self.output_bytes -= size
        if self.output_bytes < 0:
            raise RunnerBroken("the runner sends more output than it may")
        self.channel.send_nowait(chunk)


class Link:
    """One runner. `serve` runs its conversation; `call` may be used by many tasks at once."""

    def __init__(self, send: trio.abc.SendStream, receive: trio.abc.ReceiveStream, name: str = "a runner") -> None:
        self._name = name  # in the log
        self._send = send
        self._receive = receive
        self._calls: dict[int, _Open] = {}
        self._number = 0
        self._outbox: list[bytes] = []
        self._wake = trio.Event()
        self._quiet = trio.Event()  # replaced whenever a call starts
        self._quiet.set()
        self._stop = trio.Event()
        self.closed = False
        self.hangs = False  # it did not end a call when it was told to

    async def serve(self, *, idle_s: float, task_status: trio.TaskStatus[Link] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry frames until the runner ends, `stop` is called, or there was no call for `idle_s` seconds.

        Started once the runner has said hello. Calls in flight stay open until `fail_all`: the owner first makes
        sure that their processes are gone. Raises RunnerBroken if no runner answers.
        """
        frames = wire.Frames()
        try:
            with trio.move_on_after(_HELLO_S) as waiting:
                early = await self._hello(frames)
            if waiting.cancelled_caught:
                raise RunnerBroken(f"the runner said nothing for {_HELLO_S:g} s after its start")
            task_status.started(self)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ends, nursery, self._read, frames, early)
                nursery.start_soon(self._ends, nursery, self._write)
                nursery.start_soon(self._ends, nursery, self._wait_idle, idle_s)
                nursery.start_soon(self._ends, nursery, self._stop.wait)
        finally:
            self.closed = True

    def stop(self) -> None:
        """Make `serve` return."""
        self.closed = True
        self._stop.set()

    def fail_all(self) -> None:
        """End the calls that are still open as "lost"."""
        self.closed = True
        for number in list(self._calls):
            self._deliver(number, Done(outcome="lost"))

    async def call(self, request: Request, emit: Emit | None) -> Done:
        """Run one call. On cancellation, or when `emit` raises, its processes are gone before this returns."""
        if self.closed:
            return Done(outcome="lost")
        self._number += 1
        number = self._number
        send, receive = trio.open_memory_channel[OutputChunk | Done](math.inf)  # bounded by the credit window
        self._calls[number] = _Open(
            send,
            _WINDOW_BYTES + _OVERDRAFT_BYTES if request.stream else 0,
            _RESULT_BYTES + request.max_chars * _RESULT_BYTES_A_CHAR,
        )
        self._quiet = trio.Event()
        self._post(wire.RUN, number, _encode(request))
        with receive:
            try:
                return await self._follow(number, receive, emit)
            finally:
                if number in self._calls:
                    with trio.CancelScope(shield=True):
                        await self._end(number, receive)

    def cancel_all(self) -> None:
        """Have the runner end every call; each then returns as "cancelled"."""
        for number in self._calls:
            self._post(wire.CANCEL, number)

    async def wait_quiet(self) -> None:
        """Return when no call is open."""
        await self._quiet.wait()

    async def _follow(
        self, number: int, receive: trio.MemoryReceiveChannel[OutputChunk | Done], emit: Emit | None
    ) -> Done:
        async for item in receive:
            if isinstance(item, Done):
                return item
            if emit is not None:
                await emit(item)
            size = len(item.text.encode())
            if number in self._calls:
                self._calls[number].output_bytes += size
            self._post(wire.CREDIT, number, size.to_bytes(4, "big"))
        raise AssertionError("a call's channel is closed by its result only")

    async def _end(self, number: int, receive: trio.MemoryReceiveChannel[OutputChunk | Done]) -> None:
        self._post(wire.CANCEL, number)
        with trio.move_on_after(_CANCEL_S):
            async for _ in receive:
                pass
            return
        # Its owner kills it now, and what it had started, and then calls fail_all.
        self.hangs = True
        self.stop()
        async for _ in receive:
            pass

    async def _hello(self, frames: wire.Frames) -> list[tuple[int, int, bytes | None]]:
        """The frames that came together with the hello."""
        while True:
            try:
                data = await self._receive.receive_some(65_536)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise RunnerBroken("the runner ended as soon as it was started")
            got = frames.feed(bytes(data))
            if not got:
                continue
            kind, _, payload = got[0]
            if kind != wire.HELLO or _object(payload).get("protocol") != wire.PROTOCOL:
                raise RunnerBroken(f"the runner did not greet with protocol {wire.PROTOCOL} but with {got[0]!r:.200}")
            return got[1:]

    async def _ends(self, nursery: trio.Nursery, work: Callable[..., Awaitable[None]], *args: object) -> None:
        await work(*args)
        self.closed = True
        nursery.cancel_scope.cancel()

    async def _read(self, frames: wire.Frames, early: list[tuple[int, int, bytes | None]]) -> None:
        try:
            for item in early:
                self._dispatch(*item)
            while data := await self._receive.receive_some(65_536):
                for kind, number, payload in frames.feed(bytes(data)):
                    self._dispatch(kind, number, payload)
        except trio.BrokenResourceError:
            return
        except RunnerBroken as error:
            _log.error("%s is stopped: %s", self._name, error)

    def _dispatch(self, kind: int, number: int, payload: bytes | None) -> None:
        if kind in (wire.STDOUT, wire.STDERR):
            if number in self._calls:
                stream: Literal["stdout", "stderr"] = "stdout" if kind == wire.STDOUT else "stderr"
                chunk = OutputChunk(stream, (payload or b"").decode(errors="replace"))
                self._calls[number].output(chunk, len(chunk.text.encode()))
        elif kind == wire.DONE:
            if number in self._calls and len(payload or b"") > self._calls[number].result_bytes:
                raise RunnerBroken(f"the runner sent a result of {len(payload or b'')} bytes")
            done = _decode(payload)
            self._deliver(number, done)
            if done.left:  # what the keeper could not end dies with the runner, by stronger means
                self.hangs = True
                self.stop()
        elif kind == wire.FATAL:
            _log.error("%s failed:\n%s", self._name, (payload or b"").decode(errors="replace"))
        else:
            raise RunnerBroken(f"frame of unknown kind {kind}")

    def _deliver(self, number: int, done: Done) -> None:
        call = self._calls.pop(number, None)
        if call is None:
            return
        call.channel.send_nowait(done)
        call.channel.close()
        if not self._calls:
            self._quiet.set()

    def _post(self, kind: int, number: int, payload: bytes = b"") -> None:
        self._outbox.append(wire.frame(kind, number, payload))
        self._wake.set()

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                data = b"".join(self._outbox)
                self._outbox.clear()
                await self._send.send_all(data)
        except trio.BrokenResourceError:
            return

    async def _wait_idle(self, idle_s: float) -> None:
        while True:
            await self._quiet.wait()
            served = self._number
            await trio.sleep(idle_s)
            if self._quiet.is_set() and served == self._number:
                return


def _encode(request: Request) -> bytes:
    *folders, name = request.spill
    return json.dumps(
        {
            "argv": list(request.argv),
            "cwd": request.cwd,
            "confine": request.confine,
            "program": request.program,
            "scoped": request.scoped,
            "env": dict(request.env),
            "folders": list(request.folders),
            "limits": {name: limit for name in _LIMITS if (limit := getattr(request.limits, name)) is not None},
            "timeout_s": request.timeout_s,
            "max_chars": request.max_chars,
            "window_bytes": _WINDOW_BYTES,
            "stream_chars": request.stream_chars if request.stream else 0,
            "spill": {
                "folders": folders,
                "name": name,
                "max_bytes": _SPILL_MAX_BYTES if request.may_spill else 0,
                "after_chars": request.spill_after_chars,
            },
        }
    ).encode()


def _object(payload: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(payload or b"")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RunnerBroken(f"the runner sent {payload!r:.200} where a JSON object is due")
    return value


def _decode(payload: bytes | None) -> Done:
    fields = _object(payload)
    try:
        for name in ("stdout", "stderr"):
            fields[name] = _checked(Output(**fields.get(name, {})), _OUTPUT_FIELDS)
        if fields.get("spill") is not None:
            fields["spill"] = _checked(Spill(**fields["spill"]), _SPILL_FIELDS)
        return _checked(Done(**fields), _DONE_FIELDS)
    except TypeError as error:
        raise RunnerBroken(f"the runner sent a result that makes no sense: {error}") from error


_OUTCOMES: Final = ("exited", "timeout", "cancelled", "limited", "refused", "lost")
_OUTPUT_FIELDS: Final = {"head": (str,), "tail": (str,), "chars": (int,)}
_SPILL_FIELDS: Final = {"bytes": (int,), "cut": (bool,), "error": (str, NoneType)}
_DONE_FIELDS: Final = {
    "outcome": (str,),
    "code": (int, NoneType),
    "error": (str, NoneType),
    "errno": (int, NoneType),
    "ended": (int,),
    "left": (int,),
    "tree": (str, NoneType),
}


def _checked(value: T, allowed: Mapping[str, tuple[type, ...]]) -> T:
    """The value, if its fields are of these types, its numbers of 64 bits, its outcome one. Raises TypeError."""
    for name, types in allowed.items():
        found = getattr(value, name)
        least = 0 if NoneType not in types else -1 << 31  # counts; a code may be that of a signal
        if type(found) not in types or (type(found) is int and not least <= found < 1 << 63):
            raise TypeError(f"{name} is {found!r:.100}")
        if name == "outcome" and found not in _OUTCOMES:
            raise TypeError(f"{name} is {found!r:.100}")
    return value
