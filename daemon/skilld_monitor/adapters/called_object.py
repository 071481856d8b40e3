"""Callable objects in the place of a client's method: they keep their class, and all that they have beside a call."""

from __future__ import annotations

from skilld_monitor.contrib.stand_in import StandIn, class_for, real_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["watched_object"]


class _Called(StandIn):
    __slots__ = ("_skilld_method",)
    __skilld_monitor__ = True

    @property
    def __wrapped__(self) -> Any:
        return real_of(self)

    def _skilld_call(self, *args: Any, **kwargs: Any) -> Any:
        return self._skilld_method(*args, **kwargs)


def watched_object(real: Any, method: Callable[..., Any]) -> Any:
    """Stands for the object, and is called by this method."""
    made = class_for(_Called, type(real))(real)
    object.__setattr__(made, "_skilld_method", method)
    return made
