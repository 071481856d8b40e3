"""The program's own functions, told what happens. What one of them raises is logged and counted, and ends nothing."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["CALLBACKS", "Callback", "Callbacks"]

Callback = Callable[..., object]
"""A function, plain or async. A plain one runs on the trio thread: it must be quick, and must not wait."""

CALLBACKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "on_tool_call": "call",
        "on_tool_result": "call, result",
        "on_pause": "response, attempt",
        "on_response": "response",
        "on_file_created": "file",
        "on_file_modified": "file",
        "on_file_deleted": "file",
        "on_file_synced": "file",
    }
)
"""Which there are, and what each is given."""

_log = logging.getLogger(__name__)


class Callbacks:
    """Functions by their names.

    Args:
        functions: those that there are; a value of None is none.
        failures: where failures are counted; by default of its own.

    Raises:
        TypeError: a name is that of no callback, or a value cannot be called.

    """

    def __init__(self, functions: Mapping[str, Callback | None], failures: Counter[str] | None = None) -> None:
        for name, function in functions.items():
            if name not in CALLBACKS:
                raise TypeError(f"there is no callback {name!r}; there are {', '.join(CALLBACKS)}")
            if function is not None and not callable(function):
                raise TypeError(f"{name} is {type(function).__name__}, which cannot be called")
        self._functions = {name: function for name, function in functions.items() if function is not None}
        self.failures: Counter[str] = Counter() if failures is None else failures

    def over(self, functions: Mapping[str, Callback | None]) -> Callbacks:
        """The same, with these in the place of those of the same name; failures are counted together."""
        return Callbacks({**self._functions, **functions}, self.failures)

    async def tell(self, name: str, *told: Any) -> None:
        """Call the function of this name, if there is one. Raises nothing but Cancelled."""
        function = self._functions.get(name)
        if function is None:
            return
        try:
            answer = function(*told)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            self.failures[name] += 1
            _log.exception("the callback %s failed", name)
