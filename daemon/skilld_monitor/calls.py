"""Functions that report their calls: plain ones, coroutines, generators and asynchronous generators.

What the function does is untouched: its result, its exceptions, what is sent into it, when it is closed.
"""

from __future__ import annotations

import functools
from time import perf_counter_ns
from types import CoroutineType

from skilld_monitor.frame import Frame, stepped
from skilld_monitor.monitoring import active
from skilld_monitor.spans import Running, is_cancellation
from skilld_monitor.trace import enter, leave
from skilld_monitor.values import plain
from skilld_monitor.waiting import Waiting, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
    from typing import Any

__all__ = [
    "Opener",
    "instrument_function",
    "instrument_method",
    "like",
    "monitor_call",
    "monitor_llm_call",
    "said_of",
    "wrapped",
]

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
    facts = {"function.name": said_of(func, "__qualname__") or type(func).__name__}
    module = said_of(func, "__module__")
    if module:
        facts["function.module"] = module
    called = str(plain(name)) if name is not None else ""
    return wrapped(func, Opener(called or facts["function.name"].rpartition(".")[2], str(plain(channel)), facts))


def said_of(func: object, attribute: str) -> str:
    """What a function says of itself; "" if it says nothing, or cannot be asked, as a proxy of something to come."""
    try:
        return str(getattr(func, attribute, None) or "")
    except Exception:
        return ""


def wrapped(func: Callable[..., Any], opener: Opener, called: Callable[..., Any] | None = None) -> Any:
    """The function, whatever kind it is, with each of its calls in a span of the opener's.

    Args:
        called: is called in its place, and calls it.

    """
    flags = _flags(func)
    func = func if called is None else called
    if flags & _IS_ASYNC_GENERATOR:
        return _wrap_async_generator(func, opener)
    if flags & _IS_COROUTINE:
        return _wrap_coroutine(func, opener)
    if flags & _IS_GENERATOR:
        return _wrap_generator(func, opener)
    return _wrap_plain(func, opener)


def _flags(func: Any) -> int:
    """Those of its code, or of that which it calls; 0 for what has none, or cannot be asked."""
    try:
        while type(func) is functools.partial:
            func = func.func
        code = getattr(func, "__code__", None) or getattr(getattr(func, "__func__", None), "__code__", None)
        if code is None and not isinstance(func, type):
            code = getattr(type(func).__call__, "__code__", None)
        return int(getattr(code, "co_flags", 0))
    except Exception:  # of somebody's class
        return 0


def like(func: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `functools.wraps`, also of what cannot be asked for its name."""

    def adopt(wrapper: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return functools.update_wrapper(wrapper, func)
        except Exception:  # of somebody's class
            return wrapper

    return adopt


def monitor_llm_call(func: Callable[..., Any] | None = None, channel: str = "LLM") -> Any:
    """As `monitor_call`, on the channel LLM."""
    return monitor_call(func, channel)


def instrument_function(func: Callable[..., Any], name_prefix: str = "function") -> Any:
    """The function, reporting its calls as spans named `PREFIX.NAME`."""
    return monitor_call(func, "SYSTEM", f"{plain(name_prefix)}.{said_of(func, '__name__') or type(func).__name__}")


def instrument_method(name_prefix: str = "method") -> Callable[[Callable[..., Any]], Any]:
    """A decorator for methods: as `instrument_function`."""
    return functools.partial(instrument_function, name_prefix=name_prefix)


class Opener:
    """Begins the spans of one function."""

    def __init__(self, name: str, channel: str, facts: dict[str, str]) -> None:
        self._name = name
        self._channel = channel
        self._facts = facts

    def open(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Running:
        entered_ns = perf_counter_ns()
        data: dict[str, object] = {**self._facts}
        on = active()
        if on is not None and "arguments" in on.settings.capture:
            data["args"] = plain(args)
            data["kwargs"] = plain(kwargs)
        return Running(self._name, self._channel, data, entered_ns=entered_ns)

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


def _wrap_plain(func: Callable[..., Any], opener: Opener) -> Callable[..., Any]:
    @like(func)
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
        if type(result) is CoroutineType:  # of a decorator that is no coroutine function itself
            waiting = Waiting(result, functools.partial(running.end, status="cancelled"))
            return named(_awaited(waiting.begin, running, opener), result)
        opener.close(running, result)
        return result

    return monitored


async def _awaited(begun: Callable[[], Coroutine[Any, Any, Any]], running: Running, opener: Opener) -> Any:
    """What the coroutine gives; the span ends then."""
    token = enter(running.place)
    try:
        result = await begun()
    except BaseException as error:
        _fail(running, error)
        raise
    finally:
        leave(token)
    opener.close(running, result)
    return result


def _wrap_coroutine(func: Callable[..., Any], opener: Opener) -> Callable[..., Any]:
    @like(func)
    async def monitored(*args: Any, **kwargs: Any) -> Any:
        if active() is None:
            return await func(*args, **kwargs)
        return await _awaited(lambda: func(*args, **kwargs), opener.open(args, kwargs), opener)

    return monitored


def _wrap_generator(func: Callable[..., Any], opener: Opener) -> Callable[..., Any]:
    @like(func)
    def monitored(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if active() is None:
            return (yield from func(*args, **kwargs))
        running = opener.open(args, kwargs)
        try:
            result = yield from stepped(func(*args, **kwargs), Frame(running.place))
        except BaseException as error:
            _fail(running, error)
            raise
        opener.close(running, result)
        return result

    return monitored


def _wrap_async_generator(func: Callable[..., Any], opener: Opener) -> Callable[..., Any]:
    @like(func)
    async def monitored(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        running = opener.open(args, kwargs)
        frame = Frame(running.place)
        try:
            inner = func(*args, **kwargs)
            sent: Any = None
            thrown: BaseException | None = None
            while True:
                try:
                    with frame:
                        item = await (inner.asend(sent) if thrown is None else inner.athrow(thrown))
                except StopAsyncIteration:
                    break
                sent = thrown = None
                try:
                    sent = yield item
                except GeneratorExit:
                    with frame:
                        await inner.aclose()
                    raise
                except BaseException as error:
                    thrown = error
        except BaseException as error:
            _fail(running, error)
            raise
        opener.close(running, None)

    return monitored
