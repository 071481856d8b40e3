"""The resident runner: a process beside one workspace that starts tool calls, carries their output and ends them.

`local_runner` is it on a host, `container_runner` in a container. One file, only the standard library and only modules
that load fast, so that it can be started anywhere an interpreter is. It speaks frames on stdin and stdout (HEADER, then
the payload):

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
- One keeper is forked ahead of need: it takes a fork out of the time of a call.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and collections.abc are not free to import, and the runner starts often
    from collections.abc import Callable, Collection
    from typing import Any, Final, NoReturn

__all__ = [
    "CANCEL",
    "CREDIT",
    "DONE",
    "FATAL",
    "GROUP",
    "HEADER",
    "HELLO",
    "MARK",
    "MAX_FRAME_BYTES",
    "PROTOCOL",
    "RUN",
    "STDERR",
    "STDOUT",
    "TOTAL",
    "Call",
    "Frames",
    "Keeper",
    "Kept",
    "Runner",
    "die_with_parent",
    "end_family",
    "family",
    "frame",
    "join_group",
    "serve",
]

PROTOCOL: Final = 1
GROUP: Final = "SKILLD_CGROUP"  # environment variable with the control group to live in, if there is one
TOTAL: Final = "total_"  # begins the names of limits that hold for a call as a whole
MARK: Final = "SKILLD_RUNNER"  # environment variable that whoever starts the runner may set, to find what it left
HEADER: Final = struct.Struct(">IBI")  # payload bytes, kind, number of the call
MAX_FRAME_BYTES: Final = 16 << 20

RUN: Final = 1  # to the runner: start the call that the JSON payload describes
CREDIT: Final = 2  # to the runner: this many more bytes (4, big-endian) of output may be sent
CANCEL: Final = 3  # to the runner: end the call
HELLO: Final = 17  # from the runner, once: {"protocol", "pid"}
STDOUT: Final = 18  # from the runner: output, UTF-8
STDERR: Final = 19
DONE: Final = 20  # from the runner: the call and all its processes are over; JSON
FATAL: Final = 21  # from the runner: its own traceback, before it exits

_QUIET_MS: Final = 2.0
_READ_BYTES: Final = 65_536
_LOOK_S: Final = 0.05  # how often a call that may take only so much is looked at
_KILL_S: Final = 1.0  # how long a keeper tries to end a call's processes (some may be unkillable)
_FORCE_S: Final = 0.4  # beyond that, the keeper itself is killed
_MAX_DRAIN_READS: Final = 64  # after the end of a call; its pipes hold at most a few reads
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_JOB_FIELDS: Final = ("argv", "cwd", "env", "folders", "limits")
_MORE_JOB_FIELDS: Final = ("confine", "program")  # for a runner that knows them (local_runner.py)
_LIMITS: Final = {
    "cpu_s": resource.RLIMIT_CPU,
    "memory_bytes": resource.RLIMIT_AS,
    "processes": resource.RLIMIT_NPROC,
    "file_bytes": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
}


def frame(kind: int, call: int, payload: bytes = b"") -> bytes:
    """A frame ready to be written."""
    return HEADER.pack(len(payload), kind, call) + payload


class Frames:
    """Bytes in, frames out. A frame beyond the limit comes out with payload None, and its bytes are skipped."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[tuple[int, int, bytes | None]]:
        """Take `data`; return each frame that is complete now as (kind, call, payload)."""
        self._buffer += data
        frames: list[tuple[int, int, bytes | None]] = []
        while True:
            if self._skip:
                dropped = min(self._skip, len(self._buffer))
                del self._buffer[:dropped]
                self._skip -= dropped
            if self._skip or len(self._buffer) < HEADER.size:
                return frames
            length, kind, call = HEADER.unpack_from(self._buffer)
            if length > self._max_bytes:
                frames.append((kind, call, None))
                self._skip = HEADER.size + length
                continue
            end = HEADER.size + length
            if len(self._buffer) < end:
                return frames
            frames.append((kind, call, bytes(self._buffer[HEADER.size : end])))
            del self._buffer[:end]


# Processes


def family(root: int, spared: Collection[int] = ()) -> list[tuple[int, int, int, str]]:
    """(pid, parent, process group, state) of the descendants of `root`, leaving out `spared` and theirs."""
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
        for entry in children.get(parents.pop(), ()):
            if entry[0] not in spared:
                found.append(entry)
                parents.append(entry[0])
    return found


def end_family(spared: Collection[int], statuses: dict[int, int]) -> tuple[int, int]:
    """SIGKILL and reap every descendant of this process but `spared`.

    Exit statuses of reaped children go to `statuses`. Returns how many were killed, and how many are still
    there after _KILL_S (asleep in the kernel, or another user's).
    """
    me, group = os.getpid(), os.getpgrp()
    deadline = time.monotonic() + _KILL_S
    pause_s = 0.0005
    killed: set[int] = set()
    while True:
        living = 0
        victims = family(me, spared)
        for pid, parent, _, state in victims:
            if state == "Z":
                if parent == me:
                    _reap(pid, statuses)
                continue
            living += 1
            killed.add(pid)
        if not victims:
            return len(killed), 0
        # A whole group dies at once, before any of it can fork again; only then the stragglers one by one.
        for victim_group in {entry[2] for entry in victims if entry[3] != "Z"} - {group, 0}:
            _signal(os.killpg, victim_group)
        for pid, _, _, state in victims:
            if state != "Z":
                _signal(os.kill, pid)
        if time.monotonic() > deadline:
            return len(killed), living
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.02)


def _signal(kill: Callable[[int, int], None], target: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # what cannot be killed is counted as left
        kill(target, signal.SIGKILL)


def _reap(pid: int, statuses: dict[int, int]) -> bool:
    """Collect one child, or any (-1), that has ended. False if there is none to collect."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    if ended:
        statuses[ended] = os.waitstatus_to_exitcode(status)
    return ended != 0


def _prctl(option: int, value: int) -> None:
    """prctl(2). Raises OSError."""
    libc = _libc()
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = sys.modules["ctypes"].get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent() -> None:
    """Be killed when the parent ends. Taking another user's id undoes this. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _libc(cache: list[Any] = []) -> Any:  # noqa: B006  # one handle for the process, loaded before the first fork
    if not cache:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
        cache.append(libc)
    return cache[0]


# The keeper: parent of one call


class Keeper:
    """Runs in the forked process: starts the main process of one call, waits for it, and says how it ended."""

    def __init__(self, control: socket.socket, job: socket.socket, outputs: tuple[int, int]) -> None:
        self._control = control
        self._job = job
        self._outputs = outputs
        self._statuses: dict[int, int] = {}

    def run(self) -> NoReturn:
        self._prepare()
        keeper = os.getpid()
        main = os.fork()
        if main == 0:
            self._control.close()
            _become_call(self._job, self._outputs, keeper, self.launch)
        self._job.close()
        for fd in self._outputs:
            os.close(fd)
        answer = self._see_through(main)
        with contextlib.suppress(OSError):  # the runner died: there is nobody to tell
            self._control.sendall(json.dumps(answer).encode() + b"\n")
        os._exit(0)

    def _prepare(self) -> None:
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1):
            os.dup2(null, standard)
        kept = {0, 1, 2, self._control.fileno(), self._job.fileno(), *self._outputs}
        # An inherited end of somebody else's pipe would keep it from ever reaching its end.
        for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
            if fd not in kept:
                with contextlib.suppress(OSError):  # the descriptor of the listing itself
                    os.close(fd)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _see_through(self, main: int) -> dict[str, Any]:
        self._wait(main)
        by_itself = main in self._statuses
        if not by_itself:
            _signal(os.killpg, main)
        killed, left = (0, 0) if self._childless() else self.end_all()
        code = self._statuses.get(main)
        return {"code": code, "ended": killed if by_itself else 0, "left": left, **self.remarks()}

    # What a runner in a container does in another way (container_runner.py)

    def launch(self, job: dict[str, Any]) -> None:
        """Turn this process into what the job asks for; whatever returns or raises has failed."""
        _launch(job)

    def end_all(self) -> tuple[int, int]:
        """Kill every process of the call: how many there were, and how many could not be killed."""
        return end_family((), self._statuses)

    def remarks(self) -> dict[str, Any]:
        """More for the answer, once all processes are gone."""
        return {}

    def _wait(self, main: int) -> None:
        """Return when the main process has ended, or the runner wants an end (a byte) or is gone (end of file)."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while main not in self._statuses:
            if any(fd != self._wake for fd, _ in poller.poll()):
                return
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 512)
            while _reap(-1, self._statuses):
                pass

    def _childless(self) -> bool:
        while _reap(-1, self._statuses):
            pass
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return False


def _become_call(
    source: socket.socket, outputs: tuple[int, int], keeper: int, launch: Callable[[dict[str, Any]], None]
) -> NoReturn:
    """Get everything ready, wait for the job, and turn into it. What fails is said to `source`, as JSON."""
    try:
        signal.set_wakeup_fd(-1)
        for name in (*_IGNORED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(name, signal.SIG_DFL)
        os.setsid()
        die_with_parent()
        if os.getppid() != keeper:
            os._exit(127)
        # Without this a set-uid program could become somebody whose processes cannot be killed.
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for standard, fd in zip((1, 2), outputs, strict=True):
            os.dup2(fd, standard)
        job = _receive_job(source)
        if job is not None:
            launch(job)
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) else None
        what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else repr(error)
        source.sendall(json.dumps({"error": what[:1000], "errno": number}).encode())
    os._exit(127)


def _receive_job(source: socket.socket) -> dict[str, Any] | None:
    """The job, or None if the runner ends first."""
    data = bytearray()
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        more = source.recv(_READ_BYTES)
        if not more:
            return None
        data += more
    job: dict[str, Any] = json.loads(data[4:])
    return job


def _launch(job: dict[str, Any]) -> None:
    """execve, in the right place, with its limits. Raises OSError."""
    for folder in job["folders"]:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
    os.chdir(job["cwd"])
    env = {name.encode(): value.encode() for name, value in job["env"].items()}
    if MARK in os.environ:
        env[MARK.encode()] = os.environb[MARK.encode()]
    argv = [part.encode() for part in job["argv"]]
    for name, value in job["limits"].items():
        if name.startswith(TOTAL):
            continue
        _, hard = resource.getrlimit(_LIMITS[name])
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(_LIMITS[name], (ceiling, ceiling))
    _exec(argv, env)


def _exec(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """execve, with a search of PATH. os.execvpe does the same, but imports a module each time. Raises OSError."""
    folders = [b""] if b"/" in argv[0] else env.get(b"PATH", os.defpath.encode()).split(b":")
    refused: OSError | None = None
    for folder in folders:
        try:
            os.execve(os.path.join(folder, argv[0]), argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refused = error
    name = argv[0].decode()
    number = errno.ENOENT if refused is None or refused.errno is None else refused.errno
    raise OSError(number, os.strerror(number), name)


# The runner: what a call has written, and the loop


class _Spill:
    """The whole output of a call in a file, in the order in which it was read."""

    def __init__(self, root: str, spec: dict[str, Any]) -> None:
        self._root = root
        self._spec = spec
        self._early: list[bytes] = []  # held back until it is known that a file is needed
        self._fd: int | None = None
        self._written = 0
        self._error: str | None = None
        self._cut = False

    def take(self, data: bytes, *, needed: bool) -> None:
        if not self._spec["max_bytes"]:
            return  # nothing of it may be kept
        if self._fd is None and not needed:
            self._early.append(data)
            return
        if self._error is not None or self._cut:
            return
        try:
            if self._fd is None:
                self._fd = self._create()
                data = b"".join((*self._early, data))
                self._early.clear()
            room = int(self._spec["max_bytes"]) - self._written
            self._cut = len(data) > room
            view = memoryview(data)[:room]
            while view:
                written = os.write(self._fd, view)
                self._written += written
                view = view[written:]
        except OSError as error:
            self._error = os.strerror(error.errno or errno.EIO)
            self._early.clear()

    def _create(self) -> int:
        folder = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in self._spec["folders"]:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(part, flags, dir_fd=folder)
                os.close(folder)
                folder = inner
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(self._spec["name"], flags, 0o644, dir_fd=folder)
        finally:
            os.close(folder)

    def close(self) -> dict[str, Any] | None:
        """What became of it; None if the output was small enough to need no file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        elif self._error is None:
            return None
        return {"bytes": self._written, "cut": self._cut, "error": self._error}


class _Output:
    """One of the two output streams of a call: its pipe, its beginning and its end."""

    def __init__(self, fd: int, kind: int, max_chars: int) -> None:
        self.fd: int | None = fd
        self.kind = kind
        self.chars = 0
        self._max_chars = max_chars
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._head: list[str] = []
        self._head_chars = 0
        self._tail = ""

    def decode(self, data: bytes, *, final: bool = False) -> str:
        text = self._decoder.decode(data, final)
        self.chars += len(text)
        kept = text[: self._max_chars - self._head_chars]
        if kept:
            self._head.append(kept)
            self._head_chars += len(kept)
        if len(kept) < len(text):
            self._tail = (self._tail + text[len(kept) :])[-self._max_chars :]
        return text

    def summary(self) -> dict[str, Any]:
        return {"head": "".join(self._head), "tail": self._tail, "chars": self.chars}

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Kept:
    """The runner's side of a keeper."""

    def __init__(self, pid: int, control: socket.socket, job: socket.socket, outputs: tuple[int, int]) -> None:
        self.pid = pid
        self.control = control
        self.job = job
        self.outputs = outputs

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
        """Let go of it. A keeper whose call has not ended then ends it."""
        self.control.close()
        self.job.close()


class Call:
    """A call in flight."""

    def __init__(self, number: int, keeper: Kept, job: dict[str, Any]) -> None:
        self.number = number
        self.keeper = keeper
        self.started = time.monotonic()
        self.deadline = self.started + float(job["timeout_s"])
        self.ending: str | None = None  # why it is being ended: timeout, cancelled, limited
        self.limits: dict[str, int] = job["limits"]
        self.looked_at = self.started  # by `Runner.exceeded`
        self.exceeded: str | None = None
        self.status = bytearray()
        max_chars = max(1, int(job["max_chars"]))
        self.outputs = tuple(
            _Output(fd, kind, max_chars) for fd, kind in zip(keeper.outputs, (STDOUT, STDERR), strict=True)
        )
        self.spill_after_chars = int(job["spill"]["after_chars"])
        self.spill = _Spill(job["cwd"], job["spill"])
        self.credit_bytes = int(job["window_bytes"])
        self.stream_chars_left = int(job["stream_chars"])

    @property
    def may_read(self) -> bool:
        return self.stream_chars_left <= 0 or self.credit_bytes > 0

    def take(self, output: _Output, data: bytes, *, final: bool = False) -> bytes:
        """Keep what was read; return the text to stream, as bytes."""
        text = output.decode(data, final=final)
        if data:
            self.spill.take(data, needed=sum(each.chars for each in self.outputs) > self.spill_after_chars)
        streamed = text[: max(0, self.stream_chars_left)]
        self.stream_chars_left -= len(streamed)
        payload = streamed.encode()
        self.credit_bytes -= len(payload)
        return payload


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
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
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
            sources[self._spare.control.fileno()] = (self._drop, (self._spare,))
        return sources

    @property
    def _wants_spare(self) -> bool:
        """Forking while a call runs would slow that call: it waits for a quiet moment."""
        return self._spare_due and self._open and not self._calls

    def _timeout_ms(self) -> float | None:
        if not self._calls:
            return _QUIET_MS if self._wants_spare else None
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

    def _drop(self, keeper: Kept) -> None:
        """Let go of a keeper that has no call. The spare speaks only when somebody has killed it or its child."""
        if keeper is self._spare:
            self._spare = None
            self._spare_due = True
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
            keeper, self._spare = self._spare or self._fork(), None
            call = Call(number, keeper, job)
            sent = {name: job[name] for name in _JOB_FIELDS} | {name: job.get(name) for name in _MORE_JOB_FIELDS}
            keeper.send(json.dumps(sent).encode())
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
            call.deadline = time.monotonic() + _KILL_S + _FORCE_S
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
                _signal(os.kill, call.keeper.pid)
                call.deadline = now + _FORCE_S

    def _reap_keepers(self) -> None:
        for pid in list(self._ended_keepers):
            if _reap(pid, {}):
                self._ended_keepers.discard(pid)

    # Output and end of a call

    def _read_output(self, call: Call, output: _Output) -> bool:
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
            _signal(os.kill, call.keeper.pid)
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
        call.keeper.close()
        lost = answer.pop("lost", False)
        outcome = call.ending or ("lost" if lost else "exited")
        if outcome == "limited":
            answer["error"] = call.exceeded
        stdout, stderr = (output.summary() for output in call.outputs)
        answer |= {"outcome": outcome, "stdout": stdout, "stderr": stderr, "spill": call.spill.close()}
        self._send(DONE, call.number, json.dumps(answer).encode())


def join_group() -> None:
    """Enter the control group that the environment names, if it does."""
    if group := os.environ.pop(GROUP, ""):
        with contextlib.suppress(OSError), open(f"{group}/cgroup.procs", "w") as members:
            members.write("0")  # without a group, trees and marks have to do


def serve(runner: Runner) -> None:
    """Run it to its end; if it fails, say why and leave nothing."""
    # A signal meant for a foreground job (Ctrl-C) must not end the runner before it has ended its calls.
    for name in _IGNORED:
        signal.signal(name, signal.SIG_IGN)
    try:
        runner.run()
    except Exception:
        import traceback

        os.set_blocking(1, True)
        with contextlib.suppress(OSError):
            os.write(1, frame(FATAL, 0, traceback.format_exc().encode()))
        end_family((), {})
        raise
