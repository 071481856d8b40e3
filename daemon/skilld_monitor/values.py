"""Whatever a program hands over, as plain values that are safe to keep and to encode later.

The copy is made when the event happens, so that later changes of the program's own objects do not show. Text is not
copied, only cut: it cannot change.
"""

from __future__ import annotations

from itertools import islice

__all__ = ["MAX_DEPTH", "MAX_ITEMS", "MAX_TEXT_CHARS", "MAX_VALUES", "plain"]

MAX_DEPTH = 6
MAX_ITEMS = 256
MAX_VALUES = 4096  # in all: lists of lists of lists would hold up the program, and fill its memory
MAX_TEXT_CHARS = 8192
_MAX_REPR_CHARS = 512
_LARGEST_INT = 1 << 63  # beyond that other programs read something else

_PLAIN = (bool, type(None))


def plain(value: object) -> object:
    """The value as None, bool, int, float, str, list and dict.

    Deeper than `MAX_DEPTH` levels, with more than `MAX_ITEMS` items in one or `MAX_VALUES` in all, or longer than
    `MAX_TEXT_CHARS` characters it is cut, and says so. What is no such value is its `str` if it is a known kind (a
    date, a path, bytes, an exception), else its `repr`, of which 512 characters are kept. Never raises.
    """
    return _plain(value, MAX_DEPTH, [MAX_VALUES])


def _plain(value: object, depth: int, left: list[int]) -> object:
    """`left` holds how many values there may still be."""
    kind = type(value)
    if kind is str:
        return _text(value, MAX_TEXT_CHARS)  # type: ignore[arg-type]  # mypy does not follow `kind is str`
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if -_LARGEST_INT <= value < _LARGEST_INT else _shown(value)  # type: ignore[operator]
    if kind is float:
        return value if value == value and abs(value) != float("inf") else str(value)  # type: ignore[arg-type]
    if depth <= 0:
        return f"<{kind.__name__}, too deep>"
    try:
        if isinstance(value, dict):
            return _mapping(value, depth, left)
        if isinstance(value, (list, tuple, set, frozenset)):
            return _items(value, depth, left)
        return _other(value)
    except Exception as error:  # somebody's class: its __iter__, __str__ and __class__ may do anything
        return f"<{kind.__name__}, unreadable: {type(error).__name__}>"


def _text(value: str, text_chars: int) -> str:
    if len(value) <= text_chars:
        return value
    return f"{value[:text_chars]}... ({len(value)} characters)"


def _mapping(value: dict[object, object], depth: int, left: list[int]) -> dict[str, object]:
    found: dict[str, object] = {}
    room = _room(len(value), left)
    for key, item in list(islice(value.items(), room)):
        name = key if type(key) is str else _shown(key)
        found[_text(name, _MAX_REPR_CHARS)] = _plain(item, depth - 1, left)
    if len(value) > room:
        found["..."] = f"{len(value) - room} more"
    return found


def _items(
    value: list[object] | tuple[object, ...] | set[object] | frozenset[object], depth: int, left: list[int]
) -> list[object]:
    room = _room(len(value), left)
    found = [_plain(item, depth - 1, left) for item in list(islice(value, room))]
    if len(value) > room:
        found.append(f"... {len(value) - room} more")
    return found


def _room(wanted: int, left: list[int]) -> int:
    """How many of so many items are kept; they are taken from what is left."""
    room = min(wanted, MAX_ITEMS, left[0])
    left[0] -= room
    return room


def _other(value: object) -> object:
    if isinstance(value, str):
        return _text(str.__str__(value), MAX_TEXT_CHARS)
    if isinstance(value, (int, float)):  # an enumeration's, a numpy number
        return plain(float(value) if isinstance(value, float) else int(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, BaseException) or type(value).__module__ in ("datetime", "decimal", "uuid", "pathlib"):
        return _text(str(value), MAX_TEXT_CHARS)
    return _shown(value)


def _shown(value: object) -> str:
    try:
        return _text(repr(value), _MAX_REPR_CHARS)
    except Exception as error:
        return f"<{type(value).__name__}, unreadable: {type(error).__name__}>"
