"""Ending what a runner left behind when it was killed itself. Blocks: call it in a worker thread.

A runner and all that it starts carry a mark in their environment: NAME=OWNER.NUMBER, where the owner is the daemon
with its state directory. When the runner is killed, its keepers end their calls; what then still carries the mark is
killed here. When the daemon starts, whatever carries its owner's mark is from an earlier life, and is killed too.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Final

__all__ = ["end_marked", "end_owned", "marked"]

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
