"""Names that a module has from elsewhere, loaded when they are asked for and not before."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["HERE", "found_in"]

HERE = "."


def found_in(module: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """What `__getattr__` of a module is to be: found once, a name is an ordinary attribute.

    Args:
        module: whose names these are.
        homes: by name the module that has it; HERE for a module below this one.

    """

    def find(name: str) -> object:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"{name!r} is not in {module}; docs/cylestio.md says what is in its place")
        from importlib import import_module

        found: object = import_module(f"{module}.{name}") if home == HERE else getattr(import_module(home), name)
        setattr(sys.modules[module], name, found)
        return found

    return find
