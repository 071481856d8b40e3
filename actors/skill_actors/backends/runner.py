"""The resident runner: a process beside one workspace that starts tool calls, carries their output and ends them.

`local_runner` is it on a host, `container_runner` in a container. Only the standard library and only modules that load
fast, so that it can be started anywhere an interpreter is. It speaks `frames` on stdin and stdout:

    daemon <== frames ==> runner <-- socket --> keeper, one per call --> the call's processes
                             ^------- pipes: stdout and stderr of the call -------+

Rules:
- Nobody has threads; every process here waits in one poll loop, or not at all.
- Runner and keepers are child subreapers. Whatever a call leaves behind (background jobs, double forks, sessions of
  their own, a cleared environment) becomes a child of its keeper, so a call is over only when its keeper has none.
- A child of the runner that is no keeper is an orphan of a keeper that was killed, and is killed too.
- A keeper ends its call when the main process ends, when it is told to, and when the runner dies (end of file).
- The runner ends every call and itself when its stdin ends, so nothing outlives the daemon.
- It enters the control group it is given before it starts anything, so that all of it can be killed at once.
- A frame that makes no sense is answered or ignored; it never ends the runner.
- Memory is bounded: a streaming call is read only while it has credit; without streaming only the first and last
  `max_chars` are kept, and the whole output goes to the spill file up to its limit.
- One keeper is forked ahead of need: it takes a fork out of the time of a call. What else can be done before a call or
  after its answer, is: a fork makes the first write to each page of memory dear, so everybody rehearses before; and a
  keeper that has answered waits to be killed, since the end of a process takes half a millisecond.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import time

from .call_output import Output, Spill
from .frames import (
    CANCEL,
    CREDIT,
    DONE,
    FATAL,
    HELLO,
    MAX_FRAME_BYTES,
    PROTOCOL,
    RUN,
    STDERR,
    STDOUT,
    Frames,
    frame,
)
from .keeper import IGNORED, REHEARSAL, Keeper
from .processes import KILL_S, adopt_orphans, end_family, kill, reap

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and collections.abc are not free to import, and the runner starts often
    from collections.abc import Callable
    from typing import Any, Final

__all__ = ["Call", "Kept", "Runner", "serve"]

_QUIET_MS: Final = 2.0
_REAP_MS: Final = 20.0  # for keepers that have answered to be gone
_READ_BYTES: Final = 65_536
_LONGEST_S: Final = 1e6  # of a call; poll(2) takes no more
_LOOK_S: Final = 0.05  # how often a call that may take only so much is looked at
_FORCE_S: Final = 0.4  # beyond that, the keeper itself is killed
_MAX_DRAIN_READS: Final = 64  # after the end of a call; its pipes hold at most a few reads
_JOB_FIELDS: Final = ("argv", "cwd", "env", "folders", "limits")
_MORE_JOB_FIELDS: Final = ("confine", "program", "scoped")  # for a runner that knows them (local_runner.py)


class Kept:
    """The runner's side of a keeper."""

    def __init__(self, pid: int, control: socket.socket, job: socket.socket, outputs: tuple[int, int]) -> None:
        self.pid = pid
        self.control = control
        self.job = job
        self.outputs = outputs

    @property
    def has_spoken(self) -> bool:
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        return bool(poller.poll(0))

    def send(self, job: bytes) -> None:
        self.job.settimeout(_FORCE_S)  # somebody may have stopped the process that should read it
        self.job.sendall(len(job).to_bytes(4, "big") + job)

    def failure(self) -> dict[str, Any]:
        """Why the job could not be started; empty if it was."""
        with contextlib.suppress(OSError):
            self.job.setblocking(False)
            return dict(json.loads(self.job.recv(_READ_BYTES) or b"{}"))
        return {}

    def close(self) -> None:
        """Let go of it. A keeper whose call has not ended then ends it; one that has answered then ends itself."""
        self.control.close()
        self.job.close()


class Call:
    """A call in flight."""

    def __init__(self, number: int, keeper: Kept, job: dict[str, Any]) -> None:
        self.number = number
        self.keeper = keeper
        self.started = time.monotonic()
        self.deadline = self.started + _timeout_s(job["timeout_s"])
        self.ending: str | None = None  # why it is being ended: timeout, cancelled, limited
        self.limits = _limits(job["limits"])
        self.looked_at = self.started  # by `Runner.exceeded`
        self.exceeded: str | None = None
        self.status = bytearray()
        max_chars = max(1, int(job["max_chars"]))
        self.outputs = tuple(
            Output(fd, kind, max_chars) for fd, kind in zip(keeper.outputs, (STDOUT, STDERR), strict=True)
        )
        self.spill_after_chars = int(job["spill"]["after_chars"])
        self.spill = Spill(str(job["cwd"]), job["spill"])
        self.credit_bytes = int(job["window_bytes"])
        self.stream_chars_left = int(job["stream_chars"])

    @property
    def may_read(self) -> bool:
        return self.stream_chars_left <= 0 or self.credit_bytes > 0

    def take(self, output: Output, data: bytes, *, final: bool = False) -> bytes:
        """Keep what was read; return the text to stream, as bytes."""
        text = output.decode(data, final=final)
        if data:
            self.spill.take(data, needed=sum(each.chars for each in self.outputs) > self.spill_after_chars)
        streamed = text[: max(0, self.stream_chars_left)]
        self.stream_chars_left -= len(streamed)
        payload = streamed.encode()
        self.credit_bytes -= len(payload)
        return payload


def _timeout_s(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds <= _LONGEST_S:
        raise ValueError(f"a timeout of {seconds} s")
    return seconds


def _limits(value: Any) -> dict[str, int]:
    limits = dict(value)
    if not all(isinstance(name, str) and type(limit) is int for name, limit in limits.items()):
        raise TypeError("limits are numbers by name")
    return limits


class Runner:
    """The loop."""

    def __init__(self) -> None:
        self._frames = Frames()
        self._calls: dict[int, Call] = {}
        self._spare: Kept | None = None
        self._unsent: list[bytes] = []
        self._ended_keepers: set[int] = set()  # said how they ended, not reaped yet
        self._open = True
        self._spare_due = False

    def run(self) -> None:
        os.set_blocking(1, False)
        adopt_orphans()
        self._send(HELLO, 0, json.dumps({"protocol": PROTOCOL, "pid": os.getpid()}).encode())
        self._make_spare()
        while self._open or self._calls:
            self._step()
        if self._spare is not None:
            self._spare.close()
        end_family((), {})

    def _step(self) -> None:
        sources = self._sources()
        poller = select.poll()
        for fd in sources:
            poller.register(fd, select.POLLIN)
        if self._unsent:
            poller.register(1, select.POLLOUT)
        events = poller.poll(self._timeout_ms())
        for fd, _ in events:
            if fd == 1:
                self._flush()
            else:
                act, arguments = sources[fd]
                act(*arguments)
        self._expire()
        self._reap_keepers()
        if not events and self._wants_spare:
            self._make_spare()

    def _sources(self) -> dict[int, tuple[Callable[..., object], tuple[object, ...]]]:
        """What to call, with what, when a descriptor has something to say."""
        sources: dict[int, tuple[Callable[..., object], tuple[object, ...]]] = {}
        if self._open:
            sources[0] = (self._read_frames, ())
        for call in self._calls.values():
            sources[call.keeper.control.fileno()] = (self._read_status, (call,))
            for output in call.outputs:
                if output.fd is not None and call.may_read:
                    sources[output.fd] = (self._read_output, (call, output))
        if self._spare is not None:
            sources[self._spare.control.fileno()] = (self._lose_spare, (self._spare,))
        return sources

    @property
    def _wants_spare(self) -> bool:
        """Forking while a call runs would slow that call: it waits for a quiet moment."""
        return self._spare_due and self._open and not self._calls

    def _timeout_ms(self) -> float | None:
        if not self._calls:
            return _QUIET_MS if self._wants_spare else _REAP_MS if self._ended_keepers else None
        due = min(call.deadline for call in self._calls.values())
        looks = [call.looked_at + _LOOK_S for call in self._calls.values() if not call.ending and self.is_watched(call)]
        return max(0.0, min([due, *looks]) - time.monotonic()) * 1000 + 1

    # Frames

    def _read_frames(self) -> None:
        data = os.read(0, _READ_BYTES)
        if not data:
            self._close()
        for kind, number, payload in self._frames.feed(data):
            if payload is None:
                if kind == RUN and number not in self._calls:
                    self._refuse(number, f"the request is larger than {MAX_FRAME_BYTES} bytes")
            elif kind == RUN:
                self._start(number, payload)
            elif number in self._calls:
                self._steer(self._calls[number], kind, payload)

    def _steer(self, call: Call, kind: int, payload: bytes) -> None:
        if kind == CREDIT:
            call.credit_bytes += int.from_bytes(payload, "big")
        elif kind == CANCEL:
            self._end(call, "cancelled")

    def _send(self, kind: int, number: int, payload: bytes) -> None:
        self._unsent.append(frame(kind, number, payload))
        self._flush()

    def _flush(self) -> None:
        while self._unsent:
            try:
                written = os.write(1, self._unsent[0])
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._unsent.clear()
                self._close()
                return
            if written < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][written:]
            else:
                self._unsent.pop(0)

    def _close(self) -> None:
        self._open = False
        for call in self._calls.values():
            self._end(call, "cancelled")

    # Keepers

    def _fork(self) -> Kept:
        opened: list[int] = []
        try:
            for _ in range(2):
                opened += [end.detach() for end in socket.socketpair()]
            for _ in range(2):
                opened += os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        ours = [*opened[:3:2], *opened[4::2]]
        theirs = [*opened[1:4:2], *opened[5::2]]
        if pid == 0:
            try:
                control, job = (socket.socket(fileno=fd) for fd in theirs[:2])
                self.keeper(control, job, (theirs[2], theirs[3])).run()
            finally:  # nothing may run on into the runner's own code
                os._exit(1)
        for fd in theirs:
            os.close(fd)
        for fd in ours[2:]:
            os.set_blocking(fd, False)
        control, job = (socket.socket(fileno=fd) for fd in ours[:2])
        return Kept(pid, control, job, (ours[2], ours[3]))

    def keeper(self, control: socket.socket, job: socket.socket, outputs: tuple[int, int]) -> Keeper:
        """The keeper that the process just forked becomes."""
        return Keeper(control, job, outputs)

    def is_watched(self, call: Call) -> bool:
        """Whether `exceeded` is to be asked about it from time to time."""
        return False

    def exceeded(self, call: Call) -> str | None:
        """What the call takes more of than it may, in words; None if there is nothing."""
        return None

    def _make_spare(self) -> None:
        self._spare_due = False
        with contextlib.suppress(OSError):  # nothing to be had: the next call tries again, and says so
            self._spare = self._fork()
            self._rehearse(self._spare)

    def _rehearse(self, spare: Kept) -> None:
        """What the start of a call will do, but for its effects."""
        for _, number, payload in Frames().feed(frame(RUN, 0, REHEARSAL)):
            job = json.loads(payload or b"")
            Call(number, spare, job)
            _for_keeper(job)

    def _take_spare(self) -> Kept | None:
        """The spare, if there is one that lives: it speaks only when somebody has killed it or its child."""
        spare, self._spare = self._spare, None
        if spare is None or not spare.has_spoken:
            return spare
        self._drop(spare)
        return None

    def _lose_spare(self, spare: Kept) -> None:
        if spare is self._spare:  # a call that came at the same time may have taken it, or dropped it
            self._spare = None
            self._spare_due = True
            self._drop(spare)

    def _drop(self, keeper: Kept) -> None:
        """Let go of a keeper that has no call."""
        keeper.close()
        for fd in keeper.outputs:
            os.close(fd)
        self._ended_keepers.add(keeper.pid)
        self._end_orphans()

    def _start(self, number: int, payload: bytes) -> None:
        if number in self._calls:
            return
        keeper: Kept | None = None
        try:
            job = json.loads(payload)
            keeper = self._take_spare() or self._fork()
            call = Call(number, keeper, job)
            keeper.send(_for_keeper(job))
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            if keeper is not None:
                self._drop(keeper)
            self._refuse(number, f"{type(error).__name__}: {error}")
            return
        self._calls[number] = call

    def _refuse(self, number: int, error: str) -> None:
        self._send(DONE, number, json.dumps({"outcome": "refused", "error": error[:1000]}).encode())

    def _end(self, call: Call, why: str) -> None:
        """Tell the keeper to end the call; a keeper that does not answer in time is killed by `_expire`."""
        if call.ending is None:
            call.ending = why
            call.deadline = time.monotonic() + KILL_S + _FORCE_S
            with contextlib.suppress(OSError):  # it has ended by itself; its answer is on the way
                call.keeper.control.send(b"k")

    def _expire(self) -> None:
        now = time.monotonic()
        for call in self._calls.values():
            if call.ending is None and self.is_watched(call) and call.looked_at + _LOOK_S <= now:
                call.looked_at = now
                call.exceeded = self.exceeded(call)
                if call.exceeded is not None:
                    self._end(call, "limited")
        for call in [call for call in self._calls.values() if call.deadline <= now]:
            if call.ending is None:
                self._end(call, "timeout")
            else:
                kill(call.keeper.pid)
                call.deadline = now + _FORCE_S

    def _reap_keepers(self) -> None:
        for pid in list(self._ended_keepers):
            if reap(pid, {}):
                self._ended_keepers.discard(pid)

    # Output and end of a call

    def _read_output(self, call: Call, output: Output) -> bool:
        """Read once. False if there is nothing to read now, or never again."""
        if output.fd is None:
            return False
        try:
            data = os.read(output.fd, _READ_BYTES)
        except BlockingIOError:
            return False
        payload = call.take(output, data, final=not data)
        if payload:
            self._send(output.kind, call.number, payload)
        if not data:
            output.close()
        return bool(data)

    def _read_status(self, call: Call) -> None:
        try:
            data = call.keeper.control.recv(_READ_BYTES)
        except ConnectionResetError:
            data = b""
        call.status += data
        if call.status.endswith(b"\n"):
            del self._calls[call.number]
            self._ended_keepers.add(call.keeper.pid)
            self._finish(call, json.loads(bytes(call.status)))
        elif not data:
            kill(call.keeper.pid)
            del self._calls[call.number]
            killed, left = self._end_orphans()
            self._finish(call, {"code": None, "ended": killed, "left": left, "lost": True})

    def _end_orphans(self) -> tuple[int, int]:
        """A keeper was killed: its processes are ours now. Returns how many were killed and could not be."""
        spared = {call.keeper.pid for call in self._calls.values()} | self._ended_keepers
        if self._spare is not None:
            spared.add(self._spare.pid)
        return end_family(spared, {})

    def _finish(self, call: Call, answer: dict[str, Any]) -> None:
        self._spare_due = self._spare is None
        for output in call.outputs:
            for _ in range(_MAX_DRAIN_READS):
                if not self._read_output(call, output):
                    break
            if output.fd is not None:  # somebody outside the call holds the other end
                output.decode(b"", final=True)
                output.close()
        answer |= call.keeper.failure()
        lost = answer.pop("lost", False)
        outcome = call.ending or ("lost" if lost else "exited")
        if outcome == "limited":
            answer["error"] = call.exceeded
        stdout, stderr = (output.summary() for output in call.outputs)
        answer |= {"outcome": outcome, "stdout": stdout, "stderr": stderr, "spill": call.spill.close()}
        self._send(DONE, call.number, json.dumps(answer).encode())
        call.keeper.close()
        if not lost:
            kill(call.keeper.pid)  # it has nothing left to do, and somebody may have stopped it


def _for_keeper(job: dict[str, Any]) -> bytes:
    return json.dumps(
        {name: job[name] for name in _JOB_FIELDS} | {name: job.get(name) for name in _MORE_JOB_FIELDS}
    ).encode()


def serve(runner: Runner) -> None:
    """Run it to its end; if it fails, say why and leave nothing."""
    # A signal meant for a foreground job (Ctrl-C) must not end the runner before it has ended its calls.
    for name in IGNORED:
        signal.signal(name, signal.SIG_IGN)
    gc.collect()
    gc.freeze()  # what lives now lives on: to look through it would copy its pages in every process
    try:
        runner.run()
    except Exception:
        import traceback

        os.set_blocking(1, True)
        with contextlib.suppress(OSError):
            os.write(1, frame(FATAL, 0, traceback.format_exc().encode()))
        end_family((), {})
        raise
