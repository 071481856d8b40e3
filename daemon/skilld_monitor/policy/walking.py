"""Every text in what a call is given, replaced where it has to be; nothing that is the program's is changed.

What a call gets instead is of the same kind. What can be read only once is not read, and an object that is no record of
values is not looked into: either would change what the program does.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from enum import Enum
from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skilld_monitor.scanning import Direction

__all__ = ["TooDeep", "Walk"]

_MAX_DEPTH = 64
_MAX_VALUES = 100_000
_MAX_NAME = 64
_RECORDS = ("__dataclass_fields__", "__pydantic_validator__", "__pydantic_fields__", "__fields__")
_BY_ROLE: dict[object, Direction] = {
    "system": "system",
    "developer": "system",
    "user": "input",
    "assistant": "output",
    "model": "output",
    "tool": "tool_result",
    "function": "tool_result",
}
_BY_TYPE: dict[object, Direction] = {
    "tool_use": "tool_arguments",
    "server_tool_use": "tool_arguments",
    "function_call": "tool_arguments",
    "tool_result": "tool_result",
    "function_call_output": "tool_result",
}


class TooDeep(Exception):
    """There are more levels or values than anything that is sent as JSON has."""


class Walk:
    """Through one argument. What is met again, as in a circle, is what was made of it before.

    `unread` says what could not be looked into or replaced, "" if all could; `at` in which field of the argument.

    Args:
        look: gets each text, and gives what goes on in its place.
        objects: whether an object that is not looked into is told in `unread`.

    """

    def __init__(self, look: Callable[[str, Direction], str], *, objects: bool = True) -> None:
        self._look = look
        self._objects = objects
        self._made: dict[int, tuple[object, object]] = {}  # by identity; the first keeps it from being another's
        self._field = ""
        self.unread = ""
        self.at = ""

    def value(self, value: object, direction: Direction) -> object:
        """The argument with what `look` makes of each text in it; the same object where nothing differs.

        Names of fields are looked at as well. Models of pydantic and dataclasses are copied where a field differs.

        Raises:
            TooDeep: naming nothing.

        """
        return self._value(value, direction, _MAX_DEPTH)

    def _value(self, value: object, direction: Direction, depth: int) -> object:
        if isinstance(value, str):
            text = self._look(value, direction)
            return value if text == value else text
        if value is None or isinstance(value, (bool, int, float, bytes, bytearray)):
            return value
        known = self._made.get(id(value))
        if known is not None:
            return known[1]
        if depth <= 0 or len(self._made) >= _MAX_VALUES:
            raise TooDeep("it has too many levels or values")
        self._made[id(value)] = (value, value)
        made = self._container(value, direction, depth)
        self._made[id(value)] = (value, made)
        return made

    def _container(self, value: object, direction: Direction, depth: int) -> object:
        if isinstance(value, dict):
            shown = self._mapping(value, _direction(value, direction), depth)
            return value if shown is value else self._like(value, shown)
        if isinstance(value, (list, tuple, set, frozenset, deque, KeysView, ValuesView, ItemsView)):
            before = list(value)
            items = [self._value(item, direction, depth - 1) for item in before]
            return value if all(item is old for item, old in zip(items, before)) else self._like(value, items)
        if isinstance(value, Mapping):
            fields = dict(value)
            shown = self._mapping(fields, _direction(fields, direction), depth)
            return value if shown is fields else self._like(value, shown)
        if isinstance(value, (type, Enum)) or callable(value):
            return value
        if _is_record(type(value)):
            return self._record(value, direction, depth)
        if not hasattr(value, "read"):  # the bytes of a file are not looked at
            self._pass_by(value)
        return value

    def _pass_by(self, value: object) -> None:
        """What is not looked into: told, unless it can hold no text."""
        if hasattr(value, "__next__") or hasattr(value, "__anext__"):
            self._left(value, "an iterator, which can be read only once")
        elif self._objects and not all(
            item is None or isinstance(item, (int, float, Enum)) for item in _fields(value).values()
        ):
            self._left(value, f"an object of the class {type(value).__name__[:_MAX_NAME]}, which is not looked into")

    def _like(self, value: object, made: Any) -> object:
        """What was made of it, as one of its kind; itself, where there is no way to make one."""
        try:
            return _MAKERS[type(value)](value, made) if type(value) in _MAKERS else _subclass(value, made)
        except Exception:  # of somebody's class
            return self._left(value, f"a {type(value).__name__[:_MAX_NAME]}, which cannot be replaced")

    def _left(self, value: object, why: str) -> object:
        if not self.unread:
            self.unread, self.at = why, self._field
        return value

    def _mapping(self, value: dict[Any, Any], direction: Direction, depth: int) -> dict[Any, Any]:
        is_encoded = value.get("type") == "base64"  # an image or a file: no text for a model
        found: dict[Any, Any] = {}
        is_changed = False
        for key, item in value.items():
            name = self._value(key, direction, depth) if isinstance(key, str) else key
            if depth == _MAX_DEPTH:
                self._field = str(name)[:_MAX_NAME] if isinstance(key, str) else ""
            is_file = is_encoded and key == "data" and isinstance(item, str)
            found[name] = item if is_file else self._value(item, direction, depth - 1)
            is_changed = is_changed or name is not key or found[name] is not item
        return found if is_changed else value

    def _record(self, value: object, direction: Direction, depth: int) -> object:
        fields = _fields(value)
        shown = self._mapping(fields, _direction(fields, direction), depth - 1)
        if shown is fields:
            return value
        made = copy.copy(value)
        for name, item in shown.items():
            if item is not fields.get(name):
                object.__setattr__(made, name, item)
        return made


_MAKERS: dict[type, Callable[[Any, Any], object]] = {
    dict: lambda _value, made: made,
    list: lambda _value, made: made,
    tuple: lambda _value, made: tuple(made),
    set: lambda _value, made: set(made),
    frozenset: lambda _value, made: frozenset(made),
    deque: lambda value, made: deque(made, value.maxlen),
    MappingProxyType: lambda _value, made: MappingProxyType(made),
    type({}.keys()): lambda _value, made: dict.fromkeys(made).keys(),
    type({}.values()): lambda _value, made: dict(enumerate(made)).values(),
    type({}.items()): lambda _value, made: dict(made).items(),
}


def _subclass(value: Any, made: Any) -> object:
    """One of a class that derives from a container: a copy with other items.

    Raises:
        TypeError: if there is no way to make one.

    """
    kind: Any = type(value)
    if isinstance(value, tuple) and hasattr(kind, "_make"):
        return kind._make(made)
    if isinstance(value, (set, frozenset, deque)):
        return kind(made)
    copied: Any = copy.copy(value)
    if not isinstance(value, (dict, list)) or copied is value or type(copied) is not kind:
        raise TypeError(kind.__name__)
    if isinstance(value, list):
        list.__setitem__(copied, slice(None), made)
    else:
        dict.clear(copied)
        dict.update(copied, made)
    return copied


def _is_record(kind: type) -> bool:
    """Whether its objects are values under names: a dataclass, or a model of pydantic of either age."""
    return any(mark in vars(base) for base in kind.__mro__ for mark in _RECORDS)


def _fields(value: object) -> dict[str, object]:
    """What an object keeps under names: also where its class has slots, or keeps what it has no name for in one."""
    found: dict[str, object] = {}
    for made_by in type(value).__mro__:
        slots = made_by.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else tuple(slots):
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                found[slot] = getattr(value, slot)
    named = getattr(value, "__dict__", None)
    return {**found, **named} if isinstance(named, dict) else found


def _direction(value: dict[Any, Any], direction: Direction) -> Direction:
    """By what a message or a part of one says of itself."""
    role, kind = value.get("role"), value.get("type")
    if isinstance(kind, str) and kind in _BY_TYPE:
        return _BY_TYPE[kind]
    return _BY_ROLE.get(role, direction) if isinstance(role, str) else direction
