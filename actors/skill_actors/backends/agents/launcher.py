"""The parent of one agent's program: run as `python3 -I -S -E launcher.py CONTROL_FD`, between daemon and program.

The program has this process's stdin, stdout and stderr, a session and a process group of its own. What it starts and
loses comes to this process, which kills all of it when the program has ended, when the daemon says so by closing the
control socket, and when the daemon is gone, which closes it as well. Messages are JSON, one a line:

- in: {"argv", "cwd", "env", "memory_bytes", "memory_group"} once; then {"signal": NUMBER}, to the program's group, at
  any time;
- out: {"started": PID} or {"error": TEXT, "errno": NUMBER or null, "of": "cwd" or "argv"}; at the end {"code": NUMBER,
  "ended": processes it had left behind, "left": those that could not be killed, "limited": TEXT or null}.

The job comes by the socket since the environment in it may hold a key, which then is in nobody's environment but the
program's.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Final, NoReturn

__all__ = ["main"]

_PACKAGE: Final = "skilld_box"
_READ_BYTES: Final = 65_536
_LOOK_MS: Final = 500  # between two looks at the memory in use
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


def main(control_fd: int) -> int:
    """Serve one program; 0 when nothing of it is left that could be killed."""
    processes = _processes()
    processes.join_group()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    processes.adopt_orphans()
    os.set_inheritable(control_fd, False)  # the program has no word in it, and cannot keep it open
    control = _Control(socket.socket(fileno=control_fd))
    job = control.next()
    if job is None:
        return 0
    launcher = _Launcher(processes, control, job)
    if not launcher.start():
        return 0
    return launcher.see_through()


def _processes() -> ModuleType:
    """The module beside ours, in a package that is nothing but its folder: the real one would load the daemon's."""
    import importlib

    package = sys.modules[_PACKAGE] = type(sys)(_PACKAGE)
    package.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    return importlib.import_module(f"{_PACKAGE}.processes")


class _Control:
    """The daemon's end of the conversation, message by message."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._data = b""
        self.fd = channel.fileno()

    def next(self) -> dict[str, Any] | None:
        """The next message; None when there will be none. Waits."""
        while b"\n" not in self._data:
            try:
                more = self._channel.recv(_READ_BYTES)
            except OSError:
                more = b""
            if not more:
                return None
            self._data += more
        line, _, self._data = self._data.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    @property
    def holds_more(self) -> bool:
        """Whether `next` would not wait."""
        return b"\n" in self._data

    def say(self, **message: Any) -> None:
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:  # nobody is there any more
            return

    def wait_end(self) -> None:
        """Until the daemon has closed its end."""
        while self.next() is not None:
            pass


class _Launcher:
    def __init__(self, processes: ModuleType, control: _Control, job: dict[str, Any]) -> None:
        self._processes = processes
        self._control = control
        self._job = job
        self._statuses: dict[int, int] = {}
        self._program = 0
        self._limited: str | None = None

    def start(self) -> bool:
        """Start the program and tell of it; False if it cannot be."""
        report, far = os.pipe2(os.O_CLOEXEC)
        launcher = os.getpid()
        self._program = os.fork()
        if self._program == 0:
            self._become_program(far, launcher)
        os.close(far)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):  # else their other ends would never see that the program has closed them
            os.dup2(null, standard)
        failure = os.read(report, _READ_BYTES)
        os.close(report)
        if failure:
            self._control.say(**json.loads(failure))
            return False
        self._control.say(started=self._program)
        return True

    def _become_program(self, report: int, launcher: int) -> NoReturn:
        of = "cwd"
        try:
            for number in _IGNORED:
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            self._processes.die_with_parent()
            if os.getppid() != launcher:
                os._exit(127)
            if group := self._job.get("memory_group"):  # the program, and not the one who has to tell of its end
                with open(f"{group}/cgroup.procs", "w") as file:
                    file.write("0")
            # Without this a set-uid program could become somebody whose processes cannot be killed.
            self._processes.no_new_privileges()
            self._processes.be_marked()
            os.chdir(self._job["cwd"])
            of = "argv"
            os.execvpe(self._job["argv"][0], self._job["argv"], self._job["env"])
        except BaseException as error:
            code = error.errno if isinstance(error, OSError) else None
            text = error.strerror if isinstance(error, OSError) else repr(error)
            os.write(report, json.dumps({"error": str(text)[:1000], "errno": code, "of": of}).encode())
        os._exit(127)

    def see_through(self) -> int:
        """Wait for the program's end, or the daemon's; then end what is left, and tell."""
        self._wait()
        asked = self._program not in self._statuses
        ended, left = self._processes.end_family((), self._statuses)
        if asked:
            ended = 0  # the program was among them
        code = self._statuses.get(self._program)
        self._control.say(code=code, ended=ended, left=left, limited=self._limited)
        self._control.wait_end()
        return 1 if left else 0

    def _wait(self) -> None:
        handle = os.pidfd_open(self._program)
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        poller.register(self._control.fd, select.POLLIN)
        look_ms = _LOOK_MS if self._job["memory_bytes"] else None
        while not self._has_ended():
            ready = [fd for fd, _ in poller.poll(look_ms)]
            if self._control.fd in ready and not self._obey():
                return
            if look_ms is not None and self._exceeds():
                return

    def _has_ended(self) -> bool:
        while self._processes.reap(-1, self._statuses):  # also what came to us and has ended
            pass
        return self._program in self._statuses

    def _obey(self) -> bool:
        """Do what the daemon says; False when it wants an end, or is gone."""
        while True:
            message = self._control.next()
            if message is None:
                return False
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended: that is seen next
                os.killpg(self._program, message["signal"])
            if not self._control.holds_more:
                return True

    def _exceeds(self) -> bool:
        """Whether the program and all that it started have more memory of their own than they may."""
        limit: int = self._job["memory_bytes"]
        if _was_held(self._job.get("memory_group")):  # what is left of it would go on without what was killed
            self._limited = f"it needed more than {limit} bytes of memory"
            return True
        used = sum(_memory_bytes(entry[0]) for entry in self._processes.family(os.getpid()) if entry[3] != "Z")
        if used > limit:
            self._limited = f"it had {used} bytes of memory in use, more than {limit}"
        return used > limit


def _was_held(group: str | None) -> bool:
    """Whether the kernel has killed something in this group of version 1; on version 2 it ends all of it by itself."""
    if group is None:
        return False
    with contextlib.suppress(OSError), open(f"{group}/memory.oom_control", "rb") as file:
        return any(line.startswith(b"oom_kill ") and line.split()[1] != b"0" for line in file)
    return False


def _memory_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared = map(int, file.read().split()[:3])
    except (OSError, ValueError):  # gone meanwhile
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
