"""The ends of a process, and its forks: whatever is queued is delivered, and a child begins anew.

Python calls `atexit` functions at an ordinary end; ours is registered when the package is imported. A process that ends
by SIGTERM, or by SIGHUP when its terminal is closed, calls nothing, so a handler is put there if the program has none
of its own and does not ignore them; it delivers, and ends the process by the signal as before. Children of
`multiprocessing` skip `atexit` too, and have a list of their own.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from skilld_monitor.monitoring import Monitoring

__all__ = ["deliver", "forget", "remember"]

_remembered: list[Monitoring] = []
_is_registered = False
_children: list[_Child] = []
_expecting = 0  # the child of multiprocessing whose end is waited for
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def remember(made: Monitoring) -> None:
    """Deliver all of it when the process ends, and follow forks."""
    global _is_registered
    _remembered.append(made)
    if not _is_registered:
        _is_registered = True
        os.register_at_fork(after_in_child=_after_fork)  # cannot be taken back; does nothing while none is remembered
    _exchange(signal.SIG_DFL, _on_signal)
    _expect_end_of_child()


def forget(made: Monitoring) -> None:
    """It has been delivered; signals do what they did before."""
    _remembered[:] = [one for one in _remembered if one is not made and not one.is_over]
    if not _remembered:
        _exchange(_on_signal, signal.SIG_DFL)


def _exchange(found: object, wanted: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
    """Handle the signals that end a process this way, where they are handled that way; only the main thread may."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) == found:
                with suppress(ValueError):  # in an interpreter that is not the first of its process, none may
                    signal.signal(number, wanted)


def deliver() -> None:
    """All that waits, of whatever is switched on: the process is about to end."""
    for made in list(_remembered):
        made.deliver_all()


def _on_signal(number: int, frame: FrameType | None) -> None:
    deliver()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _after_fork() -> None:
    for made in list(_remembered):
        made.after_fork()
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _remembered:
        util.register_after_fork(_Child(), _Child.expect_end)


def _expect_end_of_child() -> None:
    """In a child of multiprocessing that switches monitoring on itself."""
    global _expecting
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None and _expecting != os.getpid():
        _Child().expect_end()


class _Child:
    """Stands for a child of multiprocessing in its list of what to call after a fork, which holds it weakly."""

    def __init__(self) -> None:
        _children.append(self)

    def expect_end(self) -> None:
        from multiprocessing.util import Finalize

        global _expecting
        _expecting = os.getpid()
        Finalize(None, deliver, exitpriority=0)
