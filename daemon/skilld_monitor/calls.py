"""Functions that report their calls: plain ones, coroutines, generators and asynchronous generators.

What the function does is untouched: its result, its exceptions, what is sent into it, when it is closed.
"""

from __future__ import annotations

import functools

from skilld_monitor.monitoring import active
from skilld_monitor.spans import Running, is_cancellation
from skilld_monitor.trace import enter, leave
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any

__all__ = ["instrument_function", "instrument_method", "monitor_call", "monitor_llm_call"]

_IS_GENERATOR = 0x20  # flags of code, as in `inspect`, whose import takes longer than all of ours
_IS_COROUTINE = 0x80 | 0x100
_IS_ASYNC_GENERATOR = 0x200


def monitor_call(func: Any = None, channel: str = "GENERIC", name: str | None = None) -> Any:
    """The function, reporting each of its calls as a span. Also as a decorator, with and without arguments.

    Args:
        func: None for the decorator with arguments, `@monitor_call(channel="X")`.
        channel: of the spans.
        name: of the spans; the function's own otherwise.

    """
    if func is None:
        return functools.partial(monitor_call, channel=channel, name=name)
    code = getattr(func, "__code__", None) or getattr(getattr(func, "__func__", None), "__code__", None)
    flags = getattr(code, "co_flags", 0)
    facts = {"function.name": getattr(func, "__qualname__", type(func).__name__)}
    if getattr(func, "__module__", None):
        facts["function.module"] = str(func.__module__)
    opener = _Opener(name or str(facts["function.name"]).rpartition(".")[2], channel, facts)
    if flags & _IS_ASYNC_GENERATOR:
        return _wrap_async_generator(func, opener)
    if flags & _IS_COROUTINE:
        return _wrap_coroutine(func, opener)
    if flags & _IS_GENERATOR:
        return _wrap_generator(func, opener)
    return _wrap_plain(func, opener)


def monitor_llm_call(func: Callable[..., Any] | None = None, channel: str = "LLM") -> Any:
    """As `monitor_call`, on the channel LLM."""
    return monitor_call(func, channel)


def instrument_function(func: Callable[..., Any], name_prefix: str = "function") -> Any:
    """The function, reporting its calls as spans named `PREFIX.NAME`."""
    return monitor_call(func, "SYSTEM", f"{name_prefix}.{getattr(func, '__name__', type(func).__name__)}")


def instrument_method(name_prefix: str = "method") -> Callable[[Callable[..., Any]], Any]:
    """A decorator for methods: as `instrument_function`."""
    return functools.partial(instrument_function, name_prefix=name_prefix)


class _Opener:
    """Begins the spans of one function."""

    def __init__(self, name: str, channel: str, facts: dict[str, str]) -> None:
        self._name = name
        self._channel = channel
        self._facts = facts

    def open(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Running:
        running = Running(self._name, self._channel, dict(self._facts))
        on = active()
        if on is not None and "arguments" in on.settings.capture:
            running.data["args"] = plain(args)
            running.data["kwargs"] = plain(kwargs)
        return running

    def close(self, running: Running, result: object) -> None:
        on = active()
        if on is not None and "result" in on.settings.capture:
            running.data["result"] = plain(result)
        running.end()


def _fail(running: Running, error: BaseException) -> None:
    on = active()
    if on is not None and "result" in on.settings.capture and not is_cancellation(error):
        running.data["error.message"] = str(plain(error))
    running.end(error)


def _wrap_plain(func: Callable[..., Any], opener: _Opener) -> Callable[..., Any]:
    @functools.wraps(func)
    def monitored(*args: Any, **kwargs: Any) -> Any:
        if active() is None:
            return func(*args, **kwargs)
        running = opener.open(args, kwargs)
        token = enter(running.place)
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            _fail(running, error)
            raise
        finally:
            leave(token)
        opener.close(running, result)
        return result

    return monitored


def _wrap_coroutine(func: Callable[..., Any], opener: _Opener) -> Callable[..., Any]:
    @functools.wraps(func)
    async def monitored(*args: Any, **kwargs: Any) -> Any:
        if active() is None:
            return await func(*args, **kwargs)
        running = opener.open(args, kwargs)
        token = enter(running.place)
        try:
            result = await func(*args, **kwargs)
        except BaseException as error:
            _fail(running, error)
            raise
        finally:
            leave(token)
        opener.close(running, result)
        return result

    return monitored


def _wrap_generator(func: Callable[..., Any], opener: _Opener) -> Callable[..., Any]:
    @functools.wraps(func)
    def monitored(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if active() is None:
            return (yield from func(*args, **kwargs))
        running = opener.open(args, kwargs)
        try:
            result = yield from func(*args, **kwargs)
        except BaseException as error:
            _fail(running, error)
            raise
        opener.close(running, result)
        return result

    return monitored


def _wrap_async_generator(func: Callable[..., Any], opener: _Opener) -> Callable[..., Any]:
    @functools.wraps(func)
    async def monitored(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner = func(*args, **kwargs)
        running = opener.open(args, kwargs)
        try:
            sent: Any = None
            thrown: BaseException | None = None
            while True:
                try:
                    item = await (inner.asend(sent) if thrown is None else inner.athrow(thrown))
                except StopAsyncIteration:
                    break
                sent = thrown = None
                try:
                    sent = yield item
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    thrown = error
        except BaseException as error:
            _fail(running, error)
            raise
        opener.close(running, None)

    return monitored
