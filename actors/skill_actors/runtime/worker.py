"""The far side of a ProcessActor: a keeper, and the worker that it forks to run somebody's code.

Run as `python3 -I -S -E worker.py CONTROL_FD NAME`. One file, only the standard library, only modules that load fast.

    actor <== link: frames =================> worker    a socket pair of its own: what the code prints is not in it
      |   <-- pipes: stdout and stderr -----     ^ fork
      +------ control: START, TERM, KILL ---> keeper    packets; back: STARTED, ENDED

Rules:
- The keeper runs nobody's code, has no threads and waits in one poll loop: whatever the worker does, it can kill.
- The keeper is a child subreaper. A worker is over when *nothing* that it started lives, in whichever group or session;
  what its end leaves behind is killed.
- The keeper ends the worker and itself when `control` ends, and the kernel kills the worker with its keeper: nothing
  outlives the daemon. (PDEATHSIG follows the *thread* that forked, and the daemon's come and go; the keeper has one.)
- One START per worker, with a new link and new pipes: nothing of a killed worker can be taken for its successor's.
- Limits are set before the first line of the target's code. One request at a time.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback  # now: a worker may be out of descriptors when it needs it

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and collections.abc are not free to import, and the keeper starts often
    from collections.abc import Callable
    from typing import Any, Final, NoReturn

__all__ = [
    "ANSWER",
    "ASK",
    "BYTES",
    "CALL",
    "CHUNK",
    "CONFIGURE",
    "ERROR",
    "EXHAUSTED",
    "FAILED",
    "HEADER",
    "KILL",
    "READY",
    "RESULT",
    "START",
    "TERM",
    "FrameTooLarge",
    "Frames",
    "Line",
    "Value",
    "decode",
    "encode",
    "frame",
]

HEADER: Final = struct.Struct(">IBI")  # payload bytes, kind, number of the call

CONFIGURE: Final = 1  # to the worker, first: JSON of the spec
CALL: Final = 2  # to the worker: a request
ANSWER: Final = 3  # to the worker: to what it asked
READY: Final = 17  # from the worker, once: the target is imported
FAILED: Final = 18  # from the worker: it is not; JSON as in ERROR
CHUNK: Final = 19  # from the worker: output of the running request
RESULT: Final = 20  # from the worker: the request's answer
ERROR: Final = 21  # from the worker: the request raised {"type", "message", "traceback"}
EXHAUSTED: Final = 22  # from the worker: the request needed more memory than there is
ASK: Final = 23  # from the worker: the running request asks back, and waits for the ANSWER
BYTES: Final = 0x80  # added to CALL, CHUNK, RESULT, ASK and ANSWER: the payload is bytes as they are, not JSON

START: Final = b"S"  # to the keeper, with three descriptors: link, stdout, stderr
TERM: Final = b"T"  # to the keeper: SIGTERM to the worker's group
KILL: Final = b"K"  # to the keeper: end the worker and all that it started

_READ_BYTES: Final = 65_536
_KILL_S: Final = 1.0  # how long the keeper tries to end processes (some may be unkillable)
_MESSAGE_CHARS: Final = 2_000
_TRACE_CHARS: Final = 6_000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LIMITS: Final = {
    "memory_bytes": resource.RLIMIT_AS,
    "file_bytes": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
}

if TYPE_CHECKING:
    Value = str | int | float | bool | None | list[Any] | dict[str, Any] | bytes
else:
    Value = object


class FrameTooLarge(ValueError):
    """A frame announces more than the limit."""


def frame(kind: int, call: int, payload: bytes = b"") -> bytes:
    """A frame ready to be written."""
    return HEADER.pack(len(payload), kind, call) + payload


def encode(kind: int, call: int, value: Value, max_bytes: int, max_json_bytes: int | None = None) -> bytes:
    """A frame that holds a value: bytes as they are, all else as JSON in UTF-8, which may have a limit of its own.

    Raises:
        TypeError: if it is neither bytes nor JSON.
        ValueError: if it is not finite, not UTF-8, or longer than may be.

    """
    if isinstance(value, bytes | bytearray | memoryview):
        kind, payload = kind | BYTES, bytes(value)
    else:
        payload = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        max_bytes = max_bytes if max_json_bytes is None else max_json_bytes
    if len(payload) > max_bytes:
        raise FrameTooLarge(f"a value of {len(payload)} bytes is over the limit of {max_bytes}")
    return frame(kind, call, payload)


def decode(kind: int, payload: bytes) -> Value:
    """The value of a frame. Raises ValueError."""
    if kind & BYTES:
        return payload
    value: Value = json.loads(payload)
    return value


class Frames:
    """Bytes in, frames out."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes as they come."""
        self._buffer += data

    def next(self) -> tuple[int, int, bytes] | None:
        """The next whole frame as (kind, call, payload); None if more bytes are needed. Raises FrameTooLarge."""
        if len(self._buffer) < HEADER.size:
            return None
        length, kind, call = HEADER.unpack_from(self._buffer)
        if length > self._max_bytes:
            raise FrameTooLarge(f"a frame of kind {kind} announces {length} bytes; the limit is {self._max_bytes}")
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        return kind, call, payload

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole."""
        return len(self._buffer)


# Processes


def _descendants(root: int) -> list[tuple[int, int, int, str]]:
    """(pid, parent, process group, state) of the descendants of `root`."""
    children: dict[int, list[tuple[int, int, int, str]]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:  # gone meanwhile
            continue
        if len(fields) > 2:
            entry = (int(name), int(fields[1]), int(fields[2]), fields[0].decode("ascii"))
            children.setdefault(entry[1], []).append(entry)
    found: list[tuple[int, int, int, str]] = []
    parents = [root]
    while parents:
        below = children.get(parents.pop(), ())
        found += below
        parents += [entry[0] for entry in below]
    return found


def _reap(statuses: dict[int, int]) -> bool:
    """Collect the children that have ended; False if there are no children at all."""
    try:
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if not ended:
                return True
            statuses[ended] = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        return False


def _end_family(statuses: dict[int, int]) -> tuple[int, int]:
    """SIGKILL and reap every descendant; how many were killed, and how many are still there after _KILL_S."""
    deadline, pause_s = time.monotonic() + _KILL_S, 0.0005
    killed: set[int] = set()
    while _reap(statuses):
        living = [entry for entry in _descendants(os.getpid()) if entry[3] != "Z"]
        killed |= {entry[0] for entry in living}
        # A whole group dies at once, before any of it can fork again; only then the stragglers one by one.
        for group in {entry[2] for entry in living} - {os.getpgrp(), 0}:
            _signal(os.killpg, group, signal.SIGKILL)
        for entry in living:
            _signal(os.kill, entry[0], signal.SIGKILL)
        if time.monotonic() > deadline:
            return len(killed), len(living)
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.02)
    return len(killed), 0


def _signal(send: Callable[[int, int], None], target: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # what cannot be killed is counted as left
        send(target, number)


def _prctl(option: int, value: int, cache: list[Any] = []) -> None:  # noqa: B006  # one handle, loaded before the fork
    """prctl(2). Raises OSError."""
    if not cache:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
        cache.append(libc)
    if cache[0].prctl(option, value, 0, 0, 0) != 0:
        number = sys.modules["ctypes"].get_errno()
        raise OSError(number, os.strerror(number))


class Keeper:
    """The parent of one worker after another."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._statuses: dict[int, int] = {}
        self._worker = 0

    def run(self) -> NoReturn:
        """Do as told until the control socket ends."""
        for name in _IGNORED:
            signal.signal(name, signal.SIG_IGN)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 512)
            self._look()
            if self._control.fileno() in ready:
                self._obey()

    def _obey(self) -> None:
        try:
            order, fds, _, _ = socket.recv_fds(self._control, 16, 3)
        except OSError:
            order, fds = b"", []
        if not order:
            _end_family(self._statuses)
            os._exit(0)
        if order == START:
            self._start(fds)
        elif self._worker and order == TERM:
            _signal(os.killpg, self._worker, signal.SIGTERM)
        elif self._worker and order == KILL:
            self._end()

    def _start(self, fds: list[int]) -> None:
        keeper = os.getpid()
        self._worker = os.fork()
        if self._worker == 0:
            self._control.close()
            _become_worker(fds, keeper)
        for fd in fds:
            os.close(fd)
        self._say({"started": self._worker})

    def _look(self) -> None:
        _reap(self._statuses)
        if self._worker in self._statuses:
            self._end()

    def _end(self) -> None:
        by_itself = self._worker in self._statuses
        ended, left = _end_family(self._statuses)
        code = self._statuses.get(self._worker)
        self._statuses.clear()
        self._worker = 0
        self._say({"code": code, "ended": ended if by_itself else 0, "left": left})

    def _say(self, what: dict[str, int | None]) -> None:
        with contextlib.suppress(OSError):  # the daemon died: the next poll sees it
            self._control.send(json.dumps(what).encode())


# The worker


def _become_worker(fds: list[int], keeper: int) -> NoReturn:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for name in (*_IGNORED, signal.SIGCHLD):
            signal.signal(name, signal.SIG_DFL)
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(127)
        # Without this a set-uid program could become somebody whose processes cannot be killed.
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for standard, fd in zip((1, 2), fds[1:], strict=True):
            os.dup2(fd, standard)
            os.close(fd)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        _Worker(socket.socket(fileno=fds[0])).run()
        status = 0
    except SystemExit as leaving:
        code = leaving.code
        status = code if isinstance(code, int) else 0 if code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(status & 0xFF)


class Line:
    """What a target is given beside its request: called with a value, it emits it; `ask` asks back.

    Both may be used by several threads. They are of one request: with its end, `ask` raises RuntimeError.
    """

    def __init__(self, worker: _Worker, call: int) -> None:
        self._worker = worker
        self.call: Final = call
        self.is_over = False

    def __call__(self, value: Value) -> None:
        """Emit a piece of output."""
        self._worker.emit(self.call, value)

    def ask(self, value: Value) -> Value:
        """What whoever sent the request answers to this. Waits for it, and for what other threads ask.

        Raises:
            TypeError, ValueError: the question is no JSON, or too large.

        """
        return self._worker.ask(self, value)


class _Worker:
    """Serves requests with the target, one after another, until the link ends."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._lock = _thread.allocate_lock()
        self._asking = _thread.allocate_lock()
        self._frames = Frames(1 << 30)  # the other side is the daemon
        self._limits: tuple[int, int | None] = (0, None)  # in bytes, of a value and of one in JSON
        self._pid = os.getpid()
        self._cpu_s: int | None = None

    def run(self) -> None:
        configure = self._receive()
        if configure is None:
            return
        config = json.loads(configure[2])
        self._limits = config["max_frame_bytes"], config["max_json_bytes"]
        try:
            self._apply(config)
            target = _load(config["target"], config["paths"])
        except Exception as error:
            self._send(frame(FAILED, 0, _described(error)))
            sys.exit(1)
        self._send(frame(READY, 0))
        while (request := self._receive()) is not None:
            kind, call, payload = request
            del request
            self._serve(target, kind, call, payload)

    def _apply(self, config: dict[str, Any]) -> None:
        os.chdir(config["cwd"])
        _yield_processor(config["nice"])
        self._cpu_s = config["limits"].pop("cpu_s")
        for name, value in config["limits"].items():
            if value is not None:
                _, hard = resource.getrlimit(_LIMITS[name])
                ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(_LIMITS[name], (ceiling, ceiling))

    def _serve(self, target: Callable[..., Value], kind: int, call: int, payload: bytes) -> None:
        line = Line(self, call)
        self._allow_cpu()
        try:
            answer = encode(RESULT, call, target(decode(kind, payload), line), *self._limits)
        except MemoryError as error:
            error.__traceback__ = None  # its frames hold what filled the memory
            answer = frame(EXHAUSTED, call)
        except Exception as error:
            answer = frame(ERROR, call, _described(error))
        if os.getpid() != self._pid:
            os._exit(1)  # the target forked, and this is the copy: a second answer would be taken for another request's
        with self._asking:  # a thread of the target's may be asking: what it waits for must not be taken for a request
            line.is_over = True
        self._send(answer)

    def emit(self, call: int, value: Value) -> None:
        self._send(encode(CHUNK, call, value, *self._limits))

    def ask(self, line: Line, value: Value) -> Value:
        if os.getpid() != self._pid:
            raise RuntimeError("a copy of the process cannot ask: the answer would go to the other")
        with self._asking:
            if line.is_over:
                raise RuntimeError("the request is over")
            self._send(encode(ASK, line.call, value, *self._limits))
            answer = self._receive()
        if answer is None:
            os._exit(0)  # the daemon is gone
        return decode(answer[0], answer[2])

    def _allow_cpu(self) -> None:
        """The limit is of the process, the allowance of one request."""
        if self._cpu_s is not None:
            used = resource.getrusage(resource.RUSAGE_SELF)
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            soft = int(used.ru_utime + used.ru_stime) + 1 + self._cpu_s
            resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))

    def _receive(self) -> tuple[int, int, bytes] | None:
        while (whole := self._frames.next()) is None:
            data = self._link.recv(_READ_BYTES)
            if not data:
                return None
            self._frames.feed(data)
        return whole

    def _send(self, data: bytes) -> None:
        with self._lock:  # the target may have threads, and they may emit
            self._link.sendall(data)


def _yield_processor(nice: int) -> None:
    """Be nicer, also where the kernel shares the processor between sessions and niceness counts only inside of one."""
    os.nice(nice)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:  # there is none in a control group
        group.write(str(nice))


def _load(target: str, paths: list[str]) -> Callable[..., Value]:
    sys.path[:0] = paths
    module, _, name = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{target} is not callable")
    called: Callable[..., Value] = found
    return called


def _described(error: BaseException) -> bytes:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception:
        message = "(its text cannot be made)"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:
        trace = ""
    described = {"type": name[:200], "message": message[:_MESSAGE_CHARS], "traceback": trace[-_TRACE_CHARS:]}
    return json.dumps(described).encode()  # as ASCII: whatever the text holds


if __name__ == "__main__":
    Keeper(socket.socket(fileno=int(sys.argv[1]))).run()
