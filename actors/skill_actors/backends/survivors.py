"""Ending what a runner left behind when it was killed itself. Blocks: call it in a worker thread.

A runner and all that it starts carry a mark in their environment. When the runner is killed, its keepers end their
calls; what then still carries the mark is killed here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Final

__all__ = ["end_marked", "marked"]

_KEEPERS_S: Final = 0.5
_KILL_S: Final = 2.0
_PAUSE_S: Final = 0.005


def marked(mark: str) -> list[int]:
    """Living processes with the environment entry `mark` (NAME=VALUE), as far as this user may see them."""
    entry = mark.encode()
    found: list[int] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read()
        except OSError:  # gone meanwhile, or another user's
            continue
        if entry in environment.split(b"\0"):
            found.append(int(name))
    return found


def end_marked(mark: str) -> int:
    """Wait for the keepers to do their work, then kill what is left. Returns how many could not be killed."""
    patience = time.monotonic() + _KEEPERS_S
    deadline = patience + _KILL_S
    while living := marked(mark):
        now = time.monotonic()
        if now > deadline:
            return len(living)
        if now > patience:
            for pid in living:
                with contextlib.suppress(ProcessLookupError, PermissionError):  # counted above
                    os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_S)
    return 0
