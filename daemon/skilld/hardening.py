"""Keeps what is in the daemon's memory out of files, and out of sight of other processes of its user."""

from __future__ import annotations

import os
import resource
from typing import Final

__all__ = ["forbid_dumps"]

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def forbid_dumps() -> None:
    """No core file of this process or of any it starts; no look at its memory or environment but by root.

    A core file holds API keys and whatever was said. A process that is not dumpable cannot be traced, and its
    /proc/PID/environ, mem and fd cannot be read, by others of the same user: commands of the local backend are such.
    Programs that it starts are dumpable again, and their own debuggers work.

    Raises:
        OSError: the kernel refuses; nothing should be started then.

    """
    import ctypes

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_DUMPABLE): {os.strerror(number)}")
