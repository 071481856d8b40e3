"""Where an expression can begin that has no `starts`: worked out from the expression, never from what somebody says.

Two things are read from it. Its beginnings, as shapes: `\\d{3}-\\d{2}` begins with `000-00`, and a text in which digits
are `0` and capitals are `A` is searched for that in C. Or a sign that follows a bounded run of letters of some kinds,
as the `@` of an address does: then it begins within the run before each. Of what cannot be read nothing is assumed, so
what is left out fits nowhere; an expression of which too little can be said is tried at every letter, as ever.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from skilld_monitor.scanning.folding import Folded

__all__ = ["Beginnings"]

_MAX_SHAPES = 32
_MAX_KINDS = 4  # of letters at one place of a shape
_MAX_SHAPE_CHARS = 24
_LEAST_SHAPE_CHARS = 2  # of the shortest; and of the longest:
_LEAST_LONGEST_CHARS = 4
_MAX_RUN_CHARS = 200
_CHARS_A_PLACE = 100  # with more places than one in so many letters it is quicker to try every letter
_ASCII = frozenset(map(chr, range(128)))
_DIGITS = frozenset("0123456789")
_WORDS = frozenset(letter for letter in _ASCII if letter.isalnum() or letter == "_")
_SPACES = frozenset(letter for letter in _ASCII if letter.isspace())
_KINDS = {
    "CATEGORY_DIGIT": _DIGITS,
    "CATEGORY_NOT_DIGIT": _ASCII - _DIGITS,
    "CATEGORY_WORD": _WORDS,
    "CATEGORY_NOT_WORD": _ASCII - _WORDS,
    "CATEGORY_SPACE": _SPACES,
    "CATEGORY_NOT_SPACE": _ASCII - _SPACES,
}
_ASSERTIONS = ("ASSERT", "ASSERT_NOT", "AT")
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")


class Beginnings:
    """Where one expression can begin.

    Args:
        pattern: compiled, for the text with its capital letters.

    """

    __slots__ = ("_run", "_shapes")

    def __init__(self, pattern: re.Pattern[str]) -> None:
        parser: Any = import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
        parts = list(parser.parse(pattern.pattern)) if pattern.flags == re.UNICODE else []
        self._shapes = _shapes(parts)
        self._run = None if self._shapes else _run(parts)

    def places(self, folded: Folded, start: int, end: int) -> list[int] | None:
        """All of them between two positions of a folded text, in order; None if it may be anywhere."""
        most = (end - start) // _CHARS_A_PLACE
        if self._run is not None:
            return self._run.places(folded.plain, start, end, most)
        shape = folded.shape if self._shapes else None
        if shape is None:
            return None
        places: set[int] = set()
        for wanted in self._shapes:
            at = shape.find(wanted, start, end)
            while at >= 0:
                places.add(at)
                if len(places) > most:
                    return None
                at = shape.find(wanted, at + 1, end)
        return sorted(places)


class _Run:
    """A sign behind a run of letters.

    Args:
        sign: one character.
        letters: those of ASCII that may stand in the run; what is beyond ASCII may always.
        least: of them there are so many at least.
        most: and at most.

    """

    __slots__ = ("_least", "_most", "_others", "_sign")

    def __init__(self, sign: str, letters: frozenset[str], least: int, most: int) -> None:
        self._sign = sign
        self._others = _ASCII - letters
        self._least = least
        self._most = most

    def places(self, text: str, start: int, end: int, most: int) -> list[int] | None:
        if text.count(self._sign, start, end) > most:
            return None
        places: set[int] = set()
        at = text.find(self._sign, start, end)
        while at >= 0:
            first = at - self._least
            if first >= start and self._others.isdisjoint(text[first:at]):
                places.add(first)
                while first > start and at - first < self._most and text[first - 1] not in self._others:
                    first -= 1
                    places.add(first)
            at = text.find(self._sign, at + 1, end)
        return sorted(places)


class _Way:
    """One way to read an expression from its beginning: the shape so far, what groups took, whether it goes on."""

    __slots__ = ("goes_on", "groups", "shape")

    def __init__(self, shape: str = "", groups: dict[int, str] | None = None, *, goes_on: bool = True) -> None:
        self.shape = shape
        self.groups = groups or {}
        self.goes_on = goes_on and len(shape) < _MAX_SHAPE_CHARS

    def ended(self) -> _Way:
        return _Way(self.shape, self.groups, goes_on=False)

    def and_then(self, kinds: Iterable[str]) -> list[_Way]:
        return [_Way(self.shape + kind, self.groups) for kind in kinds]

    def took(self, group: int, begin: int) -> _Way:
        """Past a group that began there."""
        return _Way(self.shape, {**self.groups, group: self.shape[begin:]}, goes_on=self.goes_on)


def _shapes(parts: list[Any]) -> list[str]:
    """With one of which the shape of every fit begins; none if too little can be said."""
    found = sorted({way.shape for way in _read([_Way()], parts)}, key=len)
    lengths = [len(shape) for shape in found]
    if not found or lengths[0] < _LEAST_SHAPE_CHARS or lengths[-1] < _LEAST_LONGEST_CHARS:
        return []
    return [shape for at, shape in enumerate(found) if not shape.startswith(tuple(found[:at]))]


def _read(ways: list[_Way], parts: Iterable[Any]) -> list[_Way]:
    for part in parts:
        name, said = str(part[0]), part[1]
        ways = [more for way in ways for more in (_past(way, name, said) if way.goes_on else [way])]
        if len(ways) > _MAX_SHAPES:
            return [_Way(goes_on=False)]
    return ways


def _past(way: _Way, name: str, said: Any) -> list[_Way]:
    """The ways on past one part of an expression: none where it cannot fit, an ended one where nothing can be said."""
    if name in _ASSERTIONS:
        return [way] if _may_hold(way.shape, name, said) else []
    if name == "SUBPATTERN":
        group, added, taken, inner = said
        if added or taken:
            return [way.ended()]
        inside = _read([way], inner)
        return inside if group is None else [more.took(group, len(way.shape)) for more in inside]
    if name == "BRANCH":
        return [more for branch in said[1] for more in _read([way], branch)]
    if name in _REPEATS:
        least, most, inner = said
        inside = _read([way], list(inner) * min(least, _MAX_SHAPE_CHARS))
        return inside if least == most else [more.ended() for more in inside]
    if name == "GROUPREF":
        took = way.groups.get(said, "0")
        return [way.ended()] if {*took} & {"0", "A"} else way.and_then([took])
    letters, has_others = _letters(name, said)
    kinds = {"0" if letter in _DIGITS else "A" if letter.isupper() else letter for letter in letters}
    return [way.ended()] if has_others or len(kinds) > _MAX_KINDS else way.and_then(sorted(kinds))


def _may_hold(shape: str, name: str, said: Any) -> bool:
    """Whether what stands before may be what is looked back at; what is not one letter of a few kinds may."""
    if name != "ASSERT" or said[0] > 0 or not shape or len(said[1]) != 1:
        return True
    ways = _past(_Way(), str(said[1][0][0]), said[1][0][1])
    return any(not way.goes_on or len(way.shape) != 1 or way.shape == shape[-1] for way in ways)


def _run(parts: list[Any]) -> _Run | None:
    """The sign, where an expression begins with letters of some kinds up to it."""
    letters: frozenset[str] = frozenset()
    least, most = 0, 0
    for part in parts:
        name, said = str(part[0]), part[1]
        if name in _ASSERTIONS:
            continue
        if name == "LITERAL" and least > 0 and said < 128:
            return _Run(chr(said), letters, least, most)
        fewest, times = 1, 1
        if name in _REPEATS and len(said[2]) == 1:
            fewest, times = int(said[0]), int(said[1])
            name, said = str(said[2][0][0]), said[2][0][1]
        more, has_others = _letters(name, said)
        if (not more and has_others) or most + times > _MAX_RUN_CHARS:
            return None
        letters, least, most = letters | more, least + fewest, most + times
    return None


def _letters(name: str, said: Any) -> tuple[frozenset[str], bool]:
    """Letters of ASCII that one part takes, and whether it takes others; no letters and others: nobody knows. Digits
    beyond ASCII are no others: a text that has some has no shape."""
    if name == "LITERAL":
        return (frozenset(chr(said)), False) if said < 128 else (frozenset(), True)
    if name == "NOT_LITERAL":
        return _ASCII - {chr(said)}, True
    if name == "ANY":
        return _ASCII, True
    if name != "IN":
        return frozenset(), True
    return _of_class([(str(item), value) for item, value in said])


def _of_class(items: list[tuple[str, Any]]) -> tuple[frozenset[str], bool]:
    found: set[str] = set()
    has_others = items[0][0] == "NEGATE"
    for item, value in items[has_others:]:
        if item == "LITERAL":
            found.add(chr(value))
        elif item == "RANGE":
            found.update(map(chr, range(value[0], min(value[1], 128) + 1)))
            has_others = has_others or value[1] > 127
        elif item == "CATEGORY" and str(value) in _KINDS:
            found |= _KINDS[str(value)]
            has_others = has_others or str(value) != "CATEGORY_DIGIT"
        else:
            return frozenset(), True
    has_others = has_others or not _ASCII.issuperset(found)
    return (_ASCII - found if items[0][0] == "NEGATE" else _ASCII & found), has_others
