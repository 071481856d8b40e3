"""A coroutine that somebody awaits for the program, which may never come to it: tasks are cancelled before their first
step, and coroutines are closed or forgotten. What was made for it is put away then, as it would be without us."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Waiting", "named"]


class Waiting:
    """Holds a coroutine, or whatever else is to be awaited, until it begins.

    Args:
        put_away: is called if it never does, once it is closed.

    """

    __slots__ = ("_inner", "_put_away")

    def __init__(self, inner: Any, put_away: Callable[[], None]) -> None:
        self._inner = inner
        self._put_away: Callable[[], None] | None = put_away

    def begin(self) -> Any:
        """What is to be awaited now."""
        self._put_away = None
        return self._inner

    def __del__(self) -> None:
        if self._put_away is not None:
            try:
                self._put_away()
                self._inner.close()  # else it would say that it was never awaited, beside the one around it
            except Exception:  # of something that is no coroutine, or at the end of a program
                return


def named(made: Any, inner: Any) -> Any:
    """A coroutine or generator around another, by that one's name where it has one."""
    name = getattr(inner, "__name__", None)
    if isinstance(name, str):  # an object that answers whatever it is asked may say anything
        whole = getattr(inner, "__qualname__", name)
        made.__name__, made.__qualname__ = name, whole if isinstance(whole, str) else name
    return made
