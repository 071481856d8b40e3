"""The keeper: the parent of one call, in a process of its own between the runner and the call's processes.

It is forked ahead of need, and has forked the process that will be the call; that one waits for the job on a socket.
Every page of memory that such a process writes first is copied then, at some microseconds each: so each goes once
through the motions of what it waits for (`rehearse`), and pays before a call does.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import resource
import select
import signal

from .processes import (
    MARK,
    adopt_orphans,
    die_with_parent,
    end_family,
    kill,
    no_new_privileges,
    reap,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any, Final, NoReturn

__all__ = ["IGNORED", "REHEARSAL", "TOTAL", "Keeper"]

TOTAL: Final = "total_"  # begins the names of limits that hold for a call as a whole
IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_READ_BYTES: Final = 65_536
_REAP_AT_ONCE: Final = 64
_LIMITS: Final = {
    "cpu_s": resource.RLIMIT_CPU,
    "memory_bytes": resource.RLIMIT_AS,
    "processes": resource.RLIMIT_NPROC,
    "file_bytes": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
}

REHEARSAL: Final = json.dumps(
    {
        "argv": ["/dev/null/none", *["argument" * 8] * 4],
        "cwd": "/",
        "env": {f"NAME_{number}": "value" * 8 for number in range(8)},
        "folders": ["/"],
        "limits": {},
        "timeout_s": 1.0,
        "max_chars": 30_000,
        "window_bytes": 1,
        "stream_chars": 0,
        "spill": {"folders": ["folder"], "name": "name", "max_bytes": 1, "after_chars": 1},
    }
).encode()  # a job that does nothing, of usual size


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
        self.rehearse()
        answer = self._see_through(main)
        with contextlib.suppress(OSError):  # the runner died: there is nobody to tell
            self._control.sendall(_line(answer))
            while self._control.recv(_READ_BYTES):  # its end would take time from the runner, who kills it later
                pass
        os._exit(0)

    def rehearse(self) -> None:
        """What the end of a call will do, but for its effects."""
        self._childless()
        _line({"code": 0, "ended": 0, "left": 0})

    def _prepare(self) -> None:
        gc.disable()  # a keeper makes nothing that would be worth a look
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1):
            os.dup2(null, standard)
        kept = {0, 1, 2, self._control.fileno(), self._job.fileno(), *self._outputs}
        # An inherited end of somebody else's pipe would keep it from ever reaching its end.
        for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
            if fd not in kept:
                with contextlib.suppress(OSError):  # the descriptor of the listing itself
                    os.close(fd)
        adopt_orphans()
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _see_through(self, main: int) -> dict[str, Any]:
        self._wait(main)
        by_itself = main in self._statuses
        if not by_itself:
            kill(main, os.killpg)
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
        more = False
        while main not in self._statuses:
            if any(fd != self._wake for fd, _ in poller.poll(0 if more else None)):
                return
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 512)
            # Of a fork bomb orphans end as fast as they are reaped: without a bound nobody would be heard any more.
            more = all(reap(-1, self._statuses) for _ in range(_REAP_AT_ONCE))

    def _childless(self) -> bool:
        while reap(-1, self._statuses):
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
        for name in (*IGNORED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(name, signal.SIG_DFL)
        os.setsid()
        die_with_parent()
        if os.getppid() != keeper:
            os._exit(127)
        # Without this a set-uid program could become somebody whose processes cannot be killed.
        no_new_privileges()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for standard, fd in zip((1, 2), outputs, strict=True):
            os.dup2(fd, standard)
        _rehearse_launch()
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
    argv, env = _as_bytes(job)
    for name, value in job["limits"].items():
        if name.startswith(TOTAL):
            continue
        _, hard = resource.getrlimit(_LIMITS[name])
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(_LIMITS[name], (ceiling, ceiling))
    _exec(argv, env)


def _as_bytes(job: dict[str, Any]) -> tuple[list[bytes], dict[bytes, bytes]]:
    env = {name.encode(): value.encode() for name, value in job["env"].items()}
    if MARK in os.environ:
        env[MARK.encode()] = os.environb[MARK.encode()]
    return [part.encode() for part in job["argv"]], env


def _rehearse_launch() -> None:
    """What a launch will do, but for its effects: there is no such program."""
    job = json.loads(REHEARSAL)
    with contextlib.suppress(FileExistsError):
        os.mkdir("/")
    with contextlib.suppress(OSError):
        _exec(*_as_bytes(job))


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


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"
