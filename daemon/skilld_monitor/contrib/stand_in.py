"""Objects that stand for others: what is asked of one is asked of the other, down to its class and its operators.

`isinstance` says what it says of the other, `type` does not. One cannot be pickled: it belongs to this process. The
class of a stand-in has those special methods that the other's has, so that `callable`, `iter` and `with` take and
refuse what they would.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["SPECIAL", "StandIn", "class_for", "has_special", "real_of"]

SPECIAL = (
    *("__call__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__await__"),
    *("__iter__", "__next__", "__aiter__", "__anext__", "__reversed__", "__length_hint__"),
    *("__len__", "__getitem__", "__setitem__", "__delitem__", "__contains__"),
    *("__int__", "__float__", "__index__", "__lt__", "__le__", "__gt__", "__ge__", "__or__", "__ror__"),
)
_SLOT = "_skilld_real"
_get = object.__getattribute__


class StandIn:
    """Stands for `real`. What follows from an attribute, `_skilld_followed` says; a special method, its class."""

    __slots__ = ("__weakref__", "_skilld_real")

    def __init__(self, real: Any) -> None:
        object.__setattr__(self, _SLOT, real)

    def _skilld_followed(self, name: str, value: Any) -> Any:
        """What the program gets for this attribute."""
        return value

    def _skilld_again(self, real: Any) -> Any:
        """A stand-in for another one like the one that this stands for."""
        return real

    def __getattr__(self, name: str) -> Any:
        return self._skilld_followed(name, getattr(real_of(self), name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(real_of(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(real_of(self), name)

    @property  # type: ignore[misc]  # it is what `isinstance` asks
    def __class__(self) -> Any:
        return real_of(self).__class__

    def __dir__(self) -> list[str]:
        return dir(real_of(self))

    def __repr__(self) -> str:
        return repr(real_of(self))

    def __str__(self) -> str:
        return str(real_of(self))

    def __format__(self, spec: str) -> str:
        return format(real_of(self), spec)

    def __bool__(self) -> bool:
        return bool(real_of(self))

    def __hash__(self) -> int:
        return hash(real_of(self))

    def __eq__(self, other: object) -> Any:
        return real_of(self) == real_of(other)

    def __ne__(self, other: object) -> Any:
        return real_of(self) != real_of(other)

    def __copy__(self) -> Any:
        from copy import copy

        return self._skilld_again(copy(real_of(self)))

    def __deepcopy__(self, memo: Any) -> Any:
        from copy import deepcopy

        return self._skilld_again(deepcopy(real_of(self), memo))

    def __reduce_ex__(self, protocol: Any) -> Any:
        name = type(real_of(self)).__qualname__
        raise TypeError(f"this stands for a {name} of this process and cannot be pickled; make one where it is needed")


def real_of(value: Any) -> Any:
    """What a stand-in stands for; anything else is itself."""
    return _get(value, _SLOT) if issubclass(type(value), StandIn) else value


def has_special(kind: type, name: str) -> bool:
    """Whether objects of this class have the special method; what its metaclass has is the class's alone."""
    return next((vars(each)[name] for each in kind.__mro__ if name in vars(each)), None) is not None


def _forwarded(name: str) -> Callable[..., Any]:
    def forwarded(self: Any, *args: Any) -> Any:
        real = real_of(self)
        return getattr(type(real), name)(real, *map(real_of, args))

    forwarded.__name__ = name
    return forwarded


_DEFAULTS = {name: _forwarded(name) for name in SPECIAL}
_made: WeakKeyDictionary[type, dict[type, type]] = WeakKeyDictionary()


def class_for(base: type[StandIn], kind: type) -> Any:
    """The class of stand-ins for objects of this class. `base` has special methods of its own where it needs them."""
    found = _made.setdefault(kind, {})
    if base not in found:
        names = [name for name in SPECIAL if has_special(kind, name)]
        methods: dict[str, Any] = {name: getattr(base, f"_skilld_{name.strip('_')}", _DEFAULTS[name]) for name in names}
        methods.update(__slots__=(), __module__=kind.__module__, __qualname__=kind.__qualname__, __doc__=kind.__doc__)
        found[base] = type(kind.__name__, (base,), methods)
    return found[base]
