"""A lock that takes next to no memory while nobody holds it: there may be many thousands of conversations that wait."""

from __future__ import annotations

from types import TracebackType

import trio

__all__ = ["RestingLock"]


class RestingLock:
    """Used as `async with lock`. First come, first served; waiting can be cancelled."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock: trio.Lock | None = None

    async def __aenter__(self) -> None:
        lock = self._lock = self._lock or trio.Lock()
        await lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lock = self._lock
        assert lock is not None
        lock.release()  # to whoever waits longest: then it is still held
        if not lock.locked():
            self._lock = None
