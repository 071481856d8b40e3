"""Monitoring as an aspect, for aspectlib and for whatever else weaves functions into functions.

    aspectlib.weave(Shop.order, monitoring_aspect)

An aspect is a function that makes a function of a function, so that this one needs no aspectlib and is a decorator too.
Each call is one span, `function_call` or `function_call_error`.
"""

from __future__ import annotations

import functools

from skilld_monitor.contrib.work import Work, around, failure
from skilld_monitor.monitoring import active
from skilld_monitor.spans import Running
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["monitoring_aspect"]


def monitoring_aspect(func: Any = None, *, channel: str = "AOP") -> Any:
    """The function, reporting each of its calls; without a function the aspect for another channel.

    Args:
        func: plain, coroutine, generator or asynchronous generator; what comes out is of the same kind.
        channel: of the spans.

    """
    if func is None:
        return functools.partial(monitoring_aspect, channel=channel)
    name = getattr(func, "__qualname__", type(func).__name__)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Work | None:
        on = active()
        if on is None:
            return None
        data: dict[str, object] = {"function": name}
        if "arguments" in on.settings.capture:
            data.update(args=plain(args), kwargs=plain(kwargs))
        return _Call(Running("function_call", channel, data))

    return around(func, begin)


class _Call(Work):
    def at_end(self, error: BaseException | None) -> None:
        running = self.running
        running.data.update(duration_ms=round(running.elapsed_ms, 3), success=error is None)
        if error is not None:
            running.name = "function_call_error"
            running.data["error"] = failure(error)
