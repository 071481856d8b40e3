"""Every text in what a call is given, replaced where it has to be; nothing that is the program's is changed."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skilld_monitor.scanning import Direction

__all__ = ["TooDeep", "changed"]

_MAX_DEPTH = 64
_MAX_VALUES = 100_000
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


def changed(value: object, direction: Direction, look: Callable[[str, Direction], str]) -> object:
    """The value with what `look` makes of each text in it; the same object where nothing differs.

    Names of fields are looked at as well. Iterators are read, so that a list stands for them. Whatever else has fields,
    such as an SDK's own objects, is copied where one of them differs.

    Raises:
        TooDeep: naming nothing.

    """
    return _Walk(look).value(value, direction, _MAX_DEPTH)


class _Walk:
    """Through one argument. What is met again, as in a circle, is what was made of it before."""

    def __init__(self, look: Callable[[str, Direction], str]) -> None:
        self._look = look
        self._made: dict[int, tuple[object, object]] = {}  # by identity; the first keeps it from being another's

    def value(self, value: object, direction: Direction, depth: int) -> object:
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
            return self._mapping(value, _direction(value, direction), depth)
        if isinstance(value, (list, tuple)):
            items = [self.value(item, direction, depth - 1) for item in value]
            if all(item is before for item, before in zip(items, value)):
                return value
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, (set, frozenset, deque, KeysView, ValuesView, ItemsView)):
            return self._collection(list(value), value, direction, depth)
        if isinstance(value, Mapping):
            fields = dict(value)
            shown = self._mapping(fields, _direction(fields, direction), depth)
            return value if shown is fields else shown
        if hasattr(value, "__next__") and not hasattr(value, "read"):  # no file
            read: Any = value
            return [self.value(item, direction, depth - 1) for item in islice(read, _MAX_VALUES)]
        return self._object(value, direction, depth)

    def _collection(self, items: list[object], value: Any, direction: Direction, depth: int) -> object:
        """One whose items have no names; a list stands for a view of something else."""
        shown = [self.value(item, direction, depth - 1) for item in items]
        if all(item is before for item, before in zip(shown, items)):
            return value
        return type(value)(shown) if isinstance(value, (set, frozenset, deque)) else shown

    def _mapping(self, value: dict[Any, Any], direction: Direction, depth: int) -> dict[Any, Any]:
        is_encoded = value.get("type") == "base64"  # an image or a file: no text for a model
        found: dict[Any, Any] = {}
        is_changed = False
        for key, item in value.items():
            name = self.value(key, direction, depth) if isinstance(key, str) else key
            is_file = is_encoded and key == "data" and isinstance(item, str)
            found[name] = item if is_file else self.value(item, direction, depth - 1)
            is_changed = is_changed or name is not key or found[name] is not item
        return found if is_changed else value

    def _object(self, value: object, direction: Direction, depth: int) -> object:
        if isinstance(value, type) or callable(value):
            return value
        fields = _fields(value)
        shown = self._mapping(fields, _direction(fields, direction), depth - 1)
        if shown is fields:
            return value
        made = copy.copy(value)
        for name, item in shown.items():
            if item is not fields.get(name):
                object.__setattr__(made, name, item)
        return made


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
