"""A decorator for functions, methods and whole classes.

@monitor(channel="BUSINESS_LOGIC")
def process_order(order): ...
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar, overload

from skilld_monitor.calls import monitor_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F")

__all__ = ["monitor"]


@overload
def monitor(func: str | None = None, *, channel: str = "CUSTOM", name: str | None = None) -> Callable[[F], F]: ...


@overload
def monitor(func: F, *, channel: str = "CUSTOM", name: str | None = None) -> F: ...


def monitor(func: Any = None, *, channel: str = "CUSTOM", name: str | None = None) -> Any:
    """Report each call as a span. With arguments and without; of a class, each of its public methods.

    Args:
        func: a function of any kind, a static or class method, or a class, which is changed and returned.
        channel: of the spans.
        name: of the spans; the function's own otherwise. Not for classes.

    """
    if func is None:
        return functools.partial(monitor, channel=channel, name=name)
    if isinstance(func, str):  # `@monitor("CHANNEL")`
        return functools.partial(monitor, channel=func, name=name)
    if isinstance(func, type):
        return _whole(func, channel)
    return _one(func, channel, name)


def _whole(owner: type, channel: str) -> type:
    for name, found in list(vars(owner).items()):
        is_method = isinstance(found, (staticmethod, classmethod)) or type(found).__name__ == "function"
        if is_method and not name.startswith("_"):
            setattr(owner, name, _one(found, channel, None))
    return owner


def _one(func: Any, channel: str, name: str | None) -> Any:
    if isinstance(func, (staticmethod, classmethod)):
        return type(func)(monitor_call(func.__func__, channel, name))
    return monitor_call(func, channel, name)
