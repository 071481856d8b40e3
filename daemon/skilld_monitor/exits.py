"""The ends of a process, and its forks: whatever is queued is delivered, and a child begins anew.

Python calls `atexit` functions at an ordinary end. A process that ends by SIGTERM calls nothing, so a handler is put
there if the program has none of its own; it delivers, and ends the process by the signal as before. Children of
`multiprocessing` skip `atexit` too, and have a list of their own.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from skilld_monitor.monitoring import Monitoring

__all__ = ["forget", "remember"]

_remembered: list[Monitoring] = []
_is_registered = False
_children: list[_Child] = []


def remember(made: Monitoring) -> None:
    """Deliver all of it when the process ends, and follow forks."""
    global _is_registered
    _remembered.append(made)
    if not _is_registered:
        _is_registered = True
        atexit.register(_deliver)
        os.register_at_fork(after_in_child=_after_fork)  # cannot be taken back; does nothing while none is remembered
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def forget(made: Monitoring) -> None:
    """It has been delivered; SIGTERM does what it did before."""
    if made in _remembered:
        _remembered.remove(made)
    is_main = threading.current_thread() is threading.main_thread()
    if not _remembered and is_main and signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _deliver() -> None:
    for made in list(_remembered):
        made.deliver_all()


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    _deliver()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _after_fork() -> None:
    for made in list(_remembered):
        made.after_fork()
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _remembered:
        util.register_after_fork(_Child(), _Child.expect_end)


class _Child:
    """Stands for a child of multiprocessing in its list of what to call after a fork, which holds it weakly."""

    def __init__(self) -> None:
        _children.append(self)

    def expect_end(self) -> None:
        from multiprocessing.util import Finalize

        Finalize(None, _deliver, exitpriority=0)
