"""Ends of programs that end in a way of their own.

An ordinary end, an exception and SIGTERM need nothing of this: the client delivers by itself. A program with handlers
for signals, or a server whose workers end by other ways, says here when.
"""

from __future__ import annotations

import atexit
import signal
from contextlib import asynccontextmanager, contextmanager

from skilld_monitor.monitoring import disable_monitoring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import FrameType
    from typing import Any

__all__ = ["at_exit", "graceful", "lifespan", "on_signals"]

_timeout_s: float | None = None


def at_exit(timeout_s: float = 2.0) -> None:
    """Switch monitoring off when the program ends, waiting at most so long. Called again, the new time holds."""
    global _timeout_s
    if _timeout_s is None:
        atexit.register(_disable)
    _timeout_s = timeout_s


def _disable() -> None:
    disable_monitoring(_timeout_s or 0.0)


@contextmanager
def graceful(timeout_s: float = 2.0) -> Iterator[None]:
    """Switch monitoring off at the end of this block, however it ends."""
    try:
        yield
    finally:
        disable_monitoring(timeout_s)


@asynccontextmanager
async def lifespan(_app: object = None, timeout_s: float = 2.0) -> AsyncIterator[None]:
    """As `graceful`, for `lifespan=` of FastAPI and Starlette. What it waits for is not in the way of the loop."""
    import asyncio

    try:
        yield
    finally:
        await asyncio.get_running_loop().run_in_executor(None, disable_monitoring, timeout_s)


def on_signals(*numbers: int, timeout_s: float = 2.0) -> Callable[[], None]:
    """Switch monitoring off when one of these signals comes, before what the program does about it itself. One that
    is ignored stays so. The handlers stay when monitoring is switched off; call what is returned to put back what was
    there, in the main thread too.

    Args:
        numbers: SIGTERM and SIGINT if none is given.

    Raises:
        ValueError: outside the main thread, where Python takes no handlers.

    """
    made: dict[int, _Handler] = {}
    for number in numbers or (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if before != signal.SIG_IGN and not isinstance(before, _Handler):
            made[number] = _Handler(before, timeout_s)
            signal.signal(number, made[number])

    def undo() -> None:
        for number, handler in made.items():
            now: object = signal.getsignal(number)
            if now is handler:  # else somebody else's, which may call ours
                signal.signal(number, handler.before)

    return undo


class _Handler:
    """Delivers, and does what was done before."""

    def __init__(self, before: Any, timeout_s: float) -> None:
        self.before = signal.SIG_DFL if before is None else before
        self._timeout_s = timeout_s

    def __call__(self, number: int, frame: FrameType | None) -> None:
        disable_monitoring(self._timeout_s)
        if callable(self.before):
            self.before(number, frame)
        else:  # the system's own way to end
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
