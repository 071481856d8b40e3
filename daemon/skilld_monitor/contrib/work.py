"""Calls of functions, as work that is reported: plain ones, coroutines, generators and asynchronous generators.

The function that comes out is of the kind that went in. What it is sent, what is thrown into it and when it is closed
reach the one inside; results and exceptions are its own.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext

from skilld_monitor.frame import Frame, stepped
from skilld_monitor.monitoring import active
from skilld_monitor.spans import Running, is_cancellation
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any

    Begin = Callable[[tuple[Any, ...], dict[str, Any]], "Work | None"]
    Settle = Callable[[Any, "Work | None"], Any]

__all__ = ["Work", "around", "drive", "drive_async", "failure"]

_IS_GENERATOR = 0x20  # flags of code, as in `inspect`
_IS_COROUTINE = 0x80 | 0x100
_IS_ASYNC_GENERATOR = 0x200


class Work:
    """One call under way: its span, and what is open while it runs. It ends once.

    Args:
        agent: whose it is, if it is not that of the whole program.

    """

    def __init__(self, running: Running, agent: str | None = None) -> None:
        self.running = running
        self.frame = Frame(running.place)
        self.is_over = False
        if agent is not None:
            running.who = self.frame.who = running.who.but(agent=agent[:200])

    def at_end(self, error: BaseException | None) -> None:
        """Note what the end says; in the frame, once."""

    def end(self, error: BaseException | None = None, status: str | None = None) -> None:
        if self.is_over:
            return
        self.is_over = True
        with self.frame:
            self.at_end(error)
            self.running.end(error, status)


def failure(error: BaseException) -> str:
    """What may be said of an error: its kind; its text too where results are asked for, since it may hold some."""
    on = active()
    kind = type(error).__name__
    if on is None or "result" not in on.settings.capture or is_cancellation(error):
        return kind
    return f"{kind}: {plain(error)}"


def around(func: Any, begin: Begin, settle: Settle | None = None) -> Any:
    """The function, whose calls begin by `begin` and end with what it returns or raises.

    Args:
        begin: gets the arguments; None if this call is not reported.
        settle: gets what a plain function or coroutine returned, and gives what the caller gets; it ends the work.

    """
    code = getattr(func, "__code__", None) or getattr(getattr(func, "__func__", None), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    if flags & _IS_ASYNC_GENERATOR:
        return _around_async_generator(func, begin)
    if flags & _IS_GENERATOR:
        return _around_generator(func, begin)
    return (_around_coroutine if flags & _IS_COROUTINE else _around_plain)(func, begin, settle or _settled)


def _settled(result: Any, work: Work | None) -> Any:
    if work is not None:
        work.end()
    return result


def _around_plain(func: Callable[..., Any], begin: Begin, settle: Settle) -> Callable[..., Any]:
    @functools.wraps(func)
    def called(*args: Any, **kwargs: Any) -> Any:
        work = begin(args, kwargs)
        if work is None:
            return settle(func(*args, **kwargs), None)
        try:
            with work.frame:
                result = func(*args, **kwargs)
        except BaseException as error:
            work.end(error)
            raise
        return settle(result, work)

    return called


def _around_coroutine(func: Callable[..., Any], begin: Begin, settle: Settle) -> Callable[..., Any]:
    @functools.wraps(func)
    async def called(*args: Any, **kwargs: Any) -> Any:
        work = begin(args, kwargs)
        if work is None:
            return settle(await func(*args, **kwargs), None)
        try:
            with work.frame:
                result = await func(*args, **kwargs)
        except BaseException as error:
            work.end(error)
            raise
        return settle(result, work)

    return called


def _around_generator(func: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    @functools.wraps(func)
    def called(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        work = begin(args, kwargs)
        try:
            inner = func(*args, **kwargs)
        except BaseException as error:  # the arguments are wrong
            _end(work, error)
            raise
        return (yield from (inner if work is None else drive(inner, work)))

    return called


def drive(inner: Generator[Any, Any, Any], work: Work) -> Generator[Any, Any, Any]:
    """The generator's items, with the work's frame open at each step."""
    try:
        result = yield from stepped(inner, work.frame)
    except GeneratorExit:
        work.end(status="closed")
        raise
    except BaseException as error:
        work.end(error)
        raise
    work.end()
    return result


def _around_async_generator(func: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    @functools.wraps(func)
    async def called(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        work = begin(args, kwargs)
        frame = nullcontext() if work is None else work.frame
        try:
            inner = func(*args, **kwargs)
            step, given = inner.asend, None
            while True:
                try:
                    with frame:
                        item = await step(given)
                except StopAsyncIteration:
                    break
                try:
                    given, step = (yield item), inner.asend
                except GeneratorExit:
                    with frame:
                        await inner.aclose()
                    _end(work, status="closed")
                    raise
                except BaseException as error:
                    given, step = error, inner.athrow
        except BaseException as error:
            _end(work, error)
            raise
        _end(work)

    return called


def drive_async(inner: AsyncGenerator[Any, Any], work: Work) -> AsyncGenerator[Any, Any]:
    """The asynchronous generator's items, with the work's frame open at each step."""
    driven: AsyncGenerator[Any, Any] = _around_async_generator(lambda: inner, lambda _args, _kwargs: work)()
    return driven


def _end(work: Work | None, error: BaseException | None = None, status: str | None = None) -> None:
    if work is not None:
        work.end(error, status)
