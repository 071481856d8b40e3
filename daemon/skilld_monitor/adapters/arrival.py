"""To do something to a module when the program loads it, without loading it oneself."""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from skilld_monitor.monitoring import Monitoring

    Watch = Callable[[ModuleType, Monitoring], None]

__all__ = ["when_loaded"]


def when_loaded(module: str, watch: Watch, made: Monitoring) -> Callable[[], None]:
    """Call `watch(module, made)` now if it is loaded, else when it is; what is returned takes the request back."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        _attempt(watch, loaded, made)
    else:
        _finder.expect(module, watch, made)
    return lambda: _finder.forget(module, made)


def _attempt(watch: Watch, module: ModuleType, made: Monitoring) -> None:
    """What fails in it must not fail the program's import: this version of the SDK goes unwatched, and that is said."""
    try:
        watch(module, made)
    except Exception as error:
        made.problem = f"{module.__name__} is not watched: {type(error).__name__}: {error}"


class _Finder:
    """Stands first among those that find modules, and looks on when one that is expected is found by another."""

    def __init__(self) -> None:
        self._expected: dict[str, tuple[Watch, Monitoring]] = {}
        self._asking = threading.local()

    def expect(self, module: str, watch: Watch, made: Monitoring) -> None:
        self._expected[module] = (watch, made)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def forget(self, module: str, made: Monitoring) -> None:
        found = self._expected.get(module)
        if found is not None and found[1] is made:
            del self._expected[module]
        if not self._expected and self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._expected or getattr(self._asking, "name", None) == name:
            return None
        self._asking.name = name
        try:
            spec = find_spec(name)
        finally:
            self._asking.name = None
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            self._look_on(spec.loader, name)
        return spec

    def _look_on(self, loader: Any, name: str) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            expected = self._expected.pop(name, None)
            if expected is not None:
                _attempt(expected[0], module, expected[1])

        loader.exec_module = exec_module


_finder = _Finder()
