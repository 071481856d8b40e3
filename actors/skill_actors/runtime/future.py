"""A pykka Future that can be awaited under trio, read from threads with `get()`, and set from either.

Who may touch it: the setter writes `_done` last; the waiting side publishes itself (`_task`, `_event`) before it
looks at `_done` again. So one of the two always sees the other, without a lock on the way of an ask.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Final, TypeVar, cast

import outcome
import pykka
import trio
from pykka._future import GetHookFunc, _Unset

from skill_actors.runtime.errors import BlockingInTrioThread

__all__ = ["Expired", "TrioFuture"]

T = TypeVar("T")
_OptExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

_event_lock: Final = threading.Lock()  # held only to create an event, so that two threads make one
_MAX_HOOK_THREADS: Final = 40
_hook_limiter: Final = trio.lowlevel.RunVar[trio.CapacityLimiter]("skill_actors.future_hooks")


def _limiter() -> trio.CapacityLimiter:
    try:
        return _hook_limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(_MAX_HOOK_THREADS)
        _hook_limiter.set(limiter)
        return limiter


class Expired(Exception):
    """Raised in the task that waits for a future whose time is over."""


class TrioFuture(pykka.Future[T]):
    """The answer to one ask.

    `abandoned` is set when its waiter was cancelled, or its time is over: a queued message with an abandoned future is
    skipped. `on_abandon` is called at that moment, on the trio thread.
    """

    _get_hook: GetHookFunc[T] | None = None
    _get_hook_result: T | _Unset = _Unset()
    _done: bool = False
    _value: Any = None
    _error: BaseException | None = None
    _task: trio.lowlevel.Task | None = None
    _token: trio.lowlevel.TrioToken | None = None
    _thread_id: int = 0
    _event: threading.Event | None = None
    abandoned: bool = False
    on_abandon: Callable[[], object] | None = None

    def __init__(self) -> None:
        """All defaults live in the class: a future per ask must cost next to nothing."""

    def set(self, value: T | None = None) -> None:
        """Give the answer, from any thread.

        Raises:
            queue.Full: if there is one already, as in pykka.

        """
        self._check_unset()
        self._value = value
        self._finish()

    def set_exception(self, exc_info: _OptExcInfo | None = None) -> None:
        """Give an exception as the answer, by default the one being handled; from any thread.

        Raises:
            queue.Full: if there is an answer already, as in pykka.
            ValueError: if there is no exception, given or being handled.

        """
        self._check_unset()
        kind, error, trace = exc_info or sys.exc_info()
        if error is None:
            if kind is None:
                raise ValueError("set_exception() without an exception: pass exc_info or call it in an except block")
            error = kind()
        self._error = error if error.__traceback__ is trace else error.with_traceback(trace)
        self._finish()

    def fail(self, error: BaseException) -> None:
        """Give `error` as the answer unless there is one already."""
        if not self._done and self._get_hook is None:
            self._error = error
            self._finish()

    def set_get_hook(self, func: GetHookFunc[T]) -> None:
        """Compute the answer with `func(timeout)` when it is first asked for, as in pykka."""
        if self._done:
            raise queue.Full
        self._get_hook = func

    def _check_unset(self) -> None:
        if self._done or self._get_hook is not None:
            raise queue.Full

    def _finish(self) -> None:
        self._done = True
        if self._event is not None:
            self._event.set()
        if self._task is None:
            return
        if threading.get_ident() == self._thread_id:
            self._wake()
        elif self._token is not None:
            self._token.run_sync_soon(self._wake)

    def _wake(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def _result(self) -> T:
        error = self._error
        if error is None:
            return cast("T", self._value)
        try:
            raise error
        finally:
            del error, self  # else the traceback holds the future that holds the traceback

    def get(self, *, timeout: float | None = None) -> T:
        """Block this thread for the answer, at most `timeout` seconds. Never on the trio thread.

        Raises:
            pykka.Timeout: if it takes longer.
            BlockingInTrioThread: on the trio thread while there is no answer yet; the question is then withdrawn.

        """
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self._done:
            if trio.lowlevel.in_trio_run():
                self._abandon()
                raise BlockingInTrioThread(
                    "get() would stop the event loop: await the future, or use ref.call() instead of ask(block=True)"
                )
            if not self._thread_event().wait(timeout):
                raise pykka.Timeout(f"{timeout} seconds")
        return self._result()

    def _thread_event(self) -> threading.Event:
        with _event_lock:
            if self._event is None:
                self._event = threading.Event()
        if self._done:
            self._event.set()
        return self._event

    def _abandon(self) -> None:
        self.abandoned = True
        if self.on_abandon is not None:
            self.on_abandon()

    def expire(self) -> None:
        """Its time is over: whoever waits for it gets Expired, and it is abandoned. Nothing if it has its answer."""
        task = self._task
        if task is None or self._done:
            return
        self._task = None
        self._abandon()
        trio.lowlevel.reschedule(task, outcome.Error(Expired()))

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        self._abandon()
        return trio.lowlevel.Abort.SUCCEEDED

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for the answer as one trio task. A hook (map, join, stop) runs in a worker thread."""
        if self._get_hook is not None:
            return (yield from self._await_hook().__await__())
        if self._done:
            yield from trio.lowlevel.checkpoint().__await__()  # noqa: ASYNC105  # this is how __await__ awaits
            return self._result()
        if self._task is not None:
            raise RuntimeError("this future is being awaited by another task; await it once and share the result")
        self._thread_id = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()
        self._task = trio.lowlevel.current_task()
        if self._done:
            self._task = None
        else:
            yield from trio.lowlevel.wait_task_rescheduled(self._abort).__await__()  # noqa: ASYNC105
        try:
            return self._result()
        finally:
            del self

    __iter__ = __await__

    async def _await_hook(self) -> T:
        # Abandoned on cancel: such a thread waits for answers that actors always give, so it ends by itself.
        return await trio.to_thread.run_sync(self.get, abandon_on_cancel=True, limiter=_limiter())
