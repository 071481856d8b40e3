"""Ending what a runner left behind when it was killed itself. Blocks: call it in a worker thread.

A runner and all that it starts carry a mark in their environment: NAME=OWNER.NUMBER, where the owner is the daemon
with its state directory. When the runner is killed, its keepers end their calls; what then still carries the mark is
killed here. When the daemon starts, whatever carries its owner's mark is from an earlier life, and is killed too.

What rids itself of its mark, and then kills the runner or launcher above it, comes to the daemon, which adopts orphans.
It is told from what the daemon has started by what no process can undo: see `is_stray`.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from . import processes

__all__ = ["end_marked", "end_owned", "end_strays", "is_stray", "marked"]

_KEEPERS_S: Final = 0.5
_KILL_S: Final = 2.0
_PAUSE_S: Final = 0.005


def marked(mark: str) -> list[int]:
    """Living processes with the environment entry `mark` (NAME=VALUE), as far as this user may see them."""
    return _carrying(_exactly(mark))


def end_marked(mark: str) -> int:
    """Wait for the keepers to do their work, then kill what is left. Returns how many could not be killed."""
    return _end(_exactly(mark), patience_s=_KEEPERS_S)


def end_owned(name: str, owner: str) -> int:
    """Kill whatever carries a mark of this owner, whatever its number; how many could not be killed."""
    start = f"{name}={owner}.".encode()
    return _end(lambda environment: any(entry.startswith(start) for entry in environment), patience_s=0.0)


def is_stray(pid: int, parent: int, proc: Path = Path("/proc")) -> bool:
    """Whether a child of `parent` was adopted: it has the mark of a call or program, or a session nobody gave it.

    Calls and programs of agents can gain no privileges, and programs have a mark besides, since a service may have been
    started so itself. Both are inherited and cannot be undone. A process that is started is in its parent's session, or
    begins its own. True if the process is gone.
    """
    try:
        session = _session(pid, proc)
        if session not in (pid, _session(parent, proc)):
            return True
        bound, bytes_left = _bounds(pid, proc)
        bound_above, bytes_above = _bounds(parent, proc)
        return (bound and not bound_above) or bytes_left < bytes_above
    except (OSError, ValueError, IndexError, StopIteration):
        return True


def _session(pid: int, proc: Path) -> int:
    return int((proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[3])


def _bounds(pid: int, proc: Path) -> tuple[bool, float]:
    """Whether it can gain no privileges, and what it may keep in message queues: see `processes.be_marked`."""
    bound = b"\nNoNewPrivs:\t1" in (proc / str(pid) / "status").read_bytes()
    limits = (proc / str(pid) / "limits").read_bytes().splitlines()
    hard = next(line.split()[4] for line in limits if line.startswith(b"Max msgqueue size"))
    return bound, math.inf if hard == b"unlimited" else int(hard)


def end_strays() -> int:
    """Kill and reap what this process has adopted, if it adopts orphans; how many could not be killed."""
    if not processes.adopts_orphans():
        return 0
    deadline = time.monotonic() + _KILL_S
    me = os.getpid()
    while strays := [entry[0] for entry in processes.family(me) if entry[1] == me and is_stray(entry[0], me)]:
        if time.monotonic() > deadline:
            return len(strays)
        for pid in strays:
            _end_stray(pid, me)
        time.sleep(_PAUSE_S)
    return 0


def _end_stray(pid: int, parent: int) -> None:
    """SIGKILL, and reap what has ended, unless the number has been given to another process meanwhile."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if is_stray(pid, parent):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # counted by the caller if it lives
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # another thread has reaped it
                os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)
    finally:
        os.close(handle)


Wanted = Callable[[list[bytes]], bool]


def _exactly(mark: str) -> Wanted:
    return lambda environment: mark.encode() in environment


def _carrying(wanted: Wanted) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _carries(int(name), wanted)]


def _carries(pid: int, wanted: Wanted) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return wanted(file.read().split(b"\0"))
    except OSError:  # gone meanwhile, or another user's
        return False


def _end(wanted: Wanted, patience_s: float) -> int:
    patience = time.monotonic() + patience_s
    deadline = patience + _KILL_S
    while living := _carrying(wanted):
        now = time.monotonic()
        if now > deadline:
            return len(living)
        if now >= patience:
            for pid in living:
                _kill(pid, wanted)
        time.sleep(_PAUSE_S)
    return 0


def _kill(pid: int, wanted: Wanted) -> None:
    """SIGKILL, unless the number has been given to another process meanwhile."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _carries(pid, wanted):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # counted by the caller if it lives
        return
    finally:
        os.close(handle)
